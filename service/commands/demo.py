"""`demo`: pictoglot with the emoji gallery. The gallery itself is made by `python -m demo`, in a process of its own."""

import logging
import os
import subprocess
import sys
from typing import Annotated

import typer

from client.client import load_client_settings, note_address_file
from client.output import REFUSED, name_program, say, stop
from service.commands.processes import Processes
from service.commands.run import keep_up, load_settings, read_admin_key, read_variables

demo = typer.Typer(help="Try everything with a gallery of emoji.", no_args_is_help=True)
_FILLED = "demo.filled"  # under the data root, once the gallery is complete: pictures deleted later stay deleted
_DEFAULTS = {"PICTOGLOT_OPEN": "1", "PICTOGLOT_LOG_LEVEL": "warning"}
# `python -m demo`, with usage and errors under the name that was typed
_PYTHON = (sys.executable, "-P", "-c", "import sys, demo.__main__ as demo; demo.main(sys.argv.pop(1))")
_log = logging.getLogger("pictoglot.demo")
_PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True}


def choose_defaults() -> dict[str, str]:
    """Return what the demo sets where neither the environment nor `.env` does; `OPEN` on loopback only."""
    from client.api import LOOPBACK

    variables = read_variables()
    public = variables.get("PICTOGLOT_HOST", "localhost") not in LOOPBACK
    return {
        name: value for name, value in _DEFAULTS.items() if name not in variables and not (public and "OPEN" in name)
    }


@demo.command("up")
def up() -> None:
    """Run pictoglot with a gallery of emoji; searches and uploads need no key.

    PICTOGLOT_PORT=8400 takes another port; the other commands then need it too.
    """
    os.environ.update(choose_defaults())
    settings = load_settings()
    marker = settings.home / _FILLED

    def finish(status: int) -> None:
        if status:
            _log.error("The gallery could not be filled; the next start continues")
            return
        from store.files import write_bytes  # late: help does not need it

        write_bytes(marker, b"")
        say("The gallery is complete. Teach it a language:")
        say(f"  {name_program()} demo dataset de --out de.jsonl")
        say(f"  {name_program()} learn de de.jsonl --watch")

    def fill(processes: Processes) -> None:
        if not marker.exists():
            say("The gallery is being filled; searches already work.")
            own = {"PICTOGLOT_URL": processes.address, "PICTOGLOT_KEY": read_admin_key(settings)}
            processes.run_once("demo", "fill", done=finish, **own)

    raise typer.Exit(keep_up(os.environ, fill))


def _hand_over(command: str, about: str) -> None:
    def run_demo_command(
        context: typer.Context,
        arguments: Annotated[list[str] | None, typer.Argument()] = None,
    ) -> None:
        settings = load_client_settings()
        variables = {**os.environ, "PICTOGLOT_URL": settings.address, "PICTOGLOT_KEY": settings.key}
        words = [*(arguments or []), *context.args]
        typed = {word.partition("=")[0] for word in words}
        if command == "fill" and "--url" not in typed and note_address_file(settings) and "--key" in typed:
            stop("Give --url together with --key, so that no other service gets the key.", REFUSED)
        done = subprocess.run([*_PYTHON, name_program(), command, *words], env=variables, check=False)
        raise typer.Exit(done.returncode)

    demo.command(command, context_settings=_PASSED_ON, add_help_option=False, help=about)(run_demo_command)


_hand_over("dataset", "Write the dataset of a language for the demo gallery, as JSON lines.")
_hand_over("fill", "Put the pictures that are missing into the gallery of a service.")
_hand_over("notice", "Print the authors and licences of the drawings and names.")
_hand_over("digest", "Print the SHA-256 of the whole demo gallery.")
_hand_over("screenshots", "Take the pictures of the page for the documentation, from a demo of its own.")
