"""The command line, `pictoglot`, of the commands of this package. Imports nothing heavy, so that help comes at once."""

from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from typing import Annotated

import typer

from ..importing.command import import_pictures
from ..terminal import INTERRUPTED, JsonCommand, read_version, say
from . import admin, export, languages, learn, mcp, pictures, versions

app = typer.Typer(
    help="A picture search that learns languages. Commands that ask a running service talk to PICTOGLOT_URL "
    "with PICTOGLOT_KEY. Exit status: 0 done, 1 failed, 2 refused, 78 misconfigured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Pictures": {
        "search": pictures.search, "duplicates": pictures.list_duplicates, "import": import_pictures,
        "export": export.export,
    },
    "Languages": {
        "languages": languages.list_languages, "words": languages.list_words,
        "learn": learn.learn, "assess": learn.assess,
        "expansions": languages.list_expansions, "versions": versions.list_versions, "releases": versions.list_releases,
        "rollback": versions.roll_back, "terms": versions.show_terms,
        "withdraw": versions.withdraw, "prune": versions.prune,
        "erase": admin.delete_contributions, "audit": admin.list_acts,
    },
}  # fmt: skip
for panel, commands in _PANELS.items():
    for name, command in commands.items():
        app.command(name, cls=JsonCommand, rich_help_panel=panel)(command)
app.command("mcp", rich_help_panel="Pictures")(mcp.serve)
app.add_typer(pictures.pictures, name="pictures", rich_help_panel="Pictures")
app.add_typer(learn.language, name="language", rich_help_panel="Languages")
for name, group in {"keys": admin.keys, "base": admin.base}.items():
    app.add_typer(group, name=name, rich_help_panel="Service")
for entry in metadata.entry_points(group="pictoglot.commands"):  # those of a service that is installed as well
    if find_spec(entry.module.partition(".")[0]):
        entry.load()(app)


def show_version(wanted: bool) -> None:
    """Print the installed version and exit, before any command is read."""
    if wanted:
        say(f"pictoglot {read_version()}")
        raise typer.Exit


@app.callback()
def read_options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Read the options that stand before a command."""


def main() -> None:
    """Run the command line and exit."""
    try:
        app()
    except KeyboardInterrupt:  # without a traceback
        raise SystemExit(INTERRUPTED) from None
