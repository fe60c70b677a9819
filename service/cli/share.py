"""`share`: what a data root held before it had a store, put into the store. Asks no service."""

import typer

from service.cli.output import say, stop
from service.cli.run import settings_or_stop


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command("share")(share)


def share() -> None:
    """Put everything that other machines need from this data root into the store; what is there already stays."""
    from model import remote
    from model.errors import PictoglotError

    settings = settings_or_stop()
    if not settings.store:
        stop("PICTOGLOT_STORE is not set: there is nowhere to share to.")
    remote.mount(settings.home, settings.store)
    try:
        count = remote.publish_all(settings.home)
    except PictoglotError as error:
        stop(f"{error.title}: {error.detail}. What was shared so far stays; try again.")
    say(f"{count} files and folders are in {settings.store}.")
