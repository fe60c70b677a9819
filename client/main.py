"""The command line: `pictoglot`. Puts the commands together; imports nothing heavy, so that help comes at once."""

from importlib import metadata
from typing import Annotated

import typer

from service.commands import demo, doctor, run

from .commands import admin, bases, gallery, languages, search
from .commands import export as exporting
from .importing.command import import_pictures
from .output import quiet_interrupt, say

app = typer.Typer(
    help="A picture search that learns languages. Commands that ask a running service talk to PICTOGLOT_URL "
    "with PICTOGLOT_KEY. Exit status: 0 done, 1 failed, 2 refused, 78 misconfigured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (
    run.up, run.serve, run.worker, run.share, run.reencode, run.reindex, run.verify, search.search, search.duplicates,
    languages.languages, languages.learn, languages.assess, languages.expansions,
    admin.rollback, admin.versions, admin.releases, admin.prune, doctor.doctor,
):  # fmt: skip
    app.command()(command)
app.command("import")(import_pictures)
app.command("export")(exporting.export)
for name, group in {"keys": admin.keys, "base": bases.base, "pictures": gallery.pictures, "demo": demo.demo}.items():
    app.add_typer(group, name=name)


def show_version(wanted: bool) -> None:
    """Print the installed version and exit, before any command is read."""
    if wanted:
        say(f"pictoglot {metadata.version('pictoglot')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that stand before a command."""


def main() -> None:
    """Run the command line and exit."""
    with quiet_interrupt():
        app()
