"""`share`: copy an existing data root into its object store. Needs no running service."""

import typer

from service.cli.output import say, stop
from service.cli.run import settings_or_stop


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command("share")(share)


def share() -> None:
    """Copy everything that other machines need from this data root into the store; existing objects stay."""
    from model.data_root import DataRoot
    from model.errors import PictoglotError

    settings = settings_or_stop()
    if not settings.store:
        stop("PICTOGLOT_STORE is not set: there is no store to copy to.")
    try:
        count = DataRoot(settings.home, settings.store).commit_all()
    except PictoglotError as error:
        stop(f"{error.title}: {error.detail}. What was copied so far stays; try again.")
    say(f"{count} files and folders are in {settings.store}.")
