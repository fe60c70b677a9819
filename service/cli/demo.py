"""`demo`: pictoglot with the emoji gallery. The gallery itself is made by `python -m demo`, which is not imported."""

import os
import subprocess
from typing import Annotated

import typer

from service.cli.client import client_settings
from service.cli.output import note, say
from service.cli.processes import Processes, python
from service.cli.run import admin_key, keep_up, settings_or_stop

demo = typer.Typer(help="The emoji gallery, to try everything with.", no_args_is_help=True)
_FILLED = "demo.filled"  # under the data root, once the gallery is whole: what is deleted later stays deleted
_DEFAULTS = {"PICTOGLOT_OPEN": "1", "PICTOGLOT_LOG_LEVEL": "warning"}
_PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True}


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.add_typer(demo, name="demo")


def defaults() -> dict[str, str]:
    """What the demo sets: nothing that the environment or `.env` tells otherwise, and open on loopback alone."""
    from dotenv import dotenv_values  # late: help needs neither

    from model.settings import ENV_FILE
    from service.settings import LOOPBACK

    told = {name.upper(): value for name, value in {**dotenv_values(ENV_FILE), **os.environ}.items()}
    public = told.get("PICTOGLOT_HOST", "localhost") not in LOOPBACK
    return {name: value for name, value in _DEFAULTS.items() if name not in told and not (public and "OPEN" in name)}


@demo.command("up")
def up() -> None:
    """Run pictoglot with the emoji gallery, which is filled on the first start; search and write need no key."""
    os.environ.update(defaults())
    settings = settings_or_stop()
    marker = settings.home / _FILLED

    def filled(status: int) -> None:
        if status:
            note("The gallery could not be filled; the next start goes on.")
            return
        from model.storage import write_bytes  # late: help does not need it

        write_bytes(marker, b"")
        say("Now teach it a language:")
        say("  pictoglot demo dataset de --out de.jsonl")
        say("  pictoglot learn de de.jsonl --watch")

    def ready(processes: Processes) -> None:
        if not marker.exists():
            say("The gallery is being filled; searches work meanwhile.")
            own = {"PICTOGLOT_URL": processes.address, "PICTOGLOT_KEY": admin_key(settings)}
            processes.once("demo", "fill", done=filled, **own)

    raise typer.Exit(keep_up(os.environ, ready))


def _hand_over(command: str) -> None:
    def passed_on(
        context: typer.Context,
        arguments: Annotated[list[str] | None, typer.Argument(help=f"As for `python -m demo {command}`.")] = None,
    ) -> None:
        settings = client_settings()
        told = {**os.environ, "PICTOGLOT_URL": settings.url, "PICTOGLOT_KEY": settings.key}
        done = subprocess.run(python("demo", command, *(arguments or []), *context.args), env=told, check=False)
        raise typer.Exit(done.returncode)

    about = f"As `python -m demo {command}`."
    demo.command(command, context_settings=_PASSED_ON, add_help_option=False, help=about)(passed_on)


for _command in ("dataset", "fill", "notice", "digest"):
    _hand_over(_command)
