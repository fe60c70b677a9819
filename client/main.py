"""The command line: `pictoglot`. Puts the commands together; imports nothing heavy, so that help comes at once."""

from importlib import metadata
from importlib.util import find_spec
from typing import Annotated

import typer

from .commands import admin, export, gallery, languages, learn, search, versions
from .importing.command import import_pictures
from .output import exit_on_interrupt, say

app = typer.Typer(
    help="A picture search that learns languages. Commands that ask a running service talk to PICTOGLOT_URL "
    "with PICTOGLOT_KEY. Exit status: 0 done, 1 failed, 2 refused, 78 misconfigured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for entry in metadata.entry_points(group="pictoglot.commands"):  # those of a service that is installed as well
    if find_spec(entry.module.partition(".")[0]):
        entry.load()(app)
for command in (
    search.search, search.duplicates, languages.languages, learn.learn, learn.assess, languages.expansions,
    versions.rollback, versions.versions, versions.releases, versions.prune,
):  # fmt: skip
    app.command()(command)
app.command("import")(import_pictures)
app.command("export")(export.export)
for name, group in {"keys": admin.keys, "base": admin.base, "pictures": gallery.pictures}.items():
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
    with exit_on_interrupt():
        app()
