"""The commands that need no running service: `up`, `serve`, `worker`, `doctor`, `share`, `verify`, `reindex`, `demo`.

The emoji gallery itself is made by `python -m demo`, in a process of its own.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, NoReturn

import httpx
import typer

from client.terminal import (
    FAILED,
    REFUSED,
    Yes,
    answer,
    console,
    format_count,
    load_client_settings,
    may_ask,
    name_program,
    note_address_file,
    say,
    stop,
)
from service.commands.processes import Child, Processes, build_command, is_port_taken

if TYPE_CHECKING:
    from service.settings import Settings

_QUIET = {"PICTOGLOT_LOG_LEVEL": "warning"}  # on a terminal, where a line for each request would push the key away
_PORT, _PROCESSES = "PICTOGLOT_PORT", "PICTOGLOT_PROCESSES"
_STYLE = {"ok": "green", "note": "yellow", "bad": "bold red"}
_DUTY_SECONDS = 60.0  # for which the duty to scrub is taken; it is renewed
_PATIENCE = 5.0  # seconds for one answer; the health check of docker-compose.yml waits a little longer

Check = Annotated[
    bool, typer.Option("--check", help="Start nothing; exit with 0 if the running process is healthy, else 1.")
]
demo = typer.Typer(help="Try everything with a gallery of emoji.", no_args_is_help=True)
_FILLED = "demo.filled"  # under the data root, once the gallery is complete: pictures deleted later stay deleted
_DEFAULTS = {"PICTOGLOT_OPEN": "1", "PICTOGLOT_LOG_LEVEL": "warning"}
# `python -m demo`, with usage and errors under the name that was typed
_PYTHON = (sys.executable, "-P", "-c", "import sys, demo.__main__ as demo; demo.main(sys.argv.pop(1))")
_log = logging.getLogger("pictoglot.demo")
_PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True}


def up() -> None:
    """Run API and worker until Ctrl-C.

    PICTOGLOT_PORT=8400 takes another port; the other commands then need it too.
    """
    raise typer.Exit(keep_up(os.environ, lambda processes: None))


def serve(
    check: Check = False,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="API processes on one port; else as PICTOGLOT_PROCESSES says.")
    ] = None,
) -> None:
    """Run the API alone."""
    if check:
        raise typer.Exit(_check_service())
    if processes is not None:
        os.environ[_PROCESSES] = str(processes)
    if load_settings().processes > 1:
        raise typer.Exit(keep_up(os.environ, lambda processes: None, with_worker=False))
    _become("service")


def worker(check: Check = False) -> None:
    """Run the worker alone."""
    _become("worker", *(["--check"] if check else []))


def doctor() -> None:
    """Check this machine, the settings and the running service; status 1 if anything is bad."""
    from service.commands.doctor import Checkup, follow_running_service

    with exit_on_error():
        origin = follow_running_service()
    findings = []
    for finding in Checkup(load_settings(), origin=origin).run():
        findings.append(finding)
        console.print(f"{finding.outcome:<5}", style=_STYLE[finding.outcome], end="")
        say(f"{finding.what:<11}{finding.detail}")
    answer({"findings": [asdict(finding) for finding in findings]})
    if any(finding.outcome == "bad" for finding in findings):
        raise typer.Exit(FAILED)


def share() -> None:
    """Copy what other machines need into PICTOGLOT_STORE; existing objects stay."""
    from store.data_root import DataRoot

    settings = load_settings()
    if not settings.store:
        stop("PICTOGLOT_STORE is not set: there is no store to copy to.")
    with exit_on_error(" What was copied so far stays; try again."):
        count = DataRoot(settings.home, settings.store).commit_all()
    say(f"{format_count(count, 'file or folder is', 'files and folders are')} in {settings.store}.")


def verify(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only report damage; mend nothing.")] = False,
) -> None:
    """Read everything stored, compare checksums and mend damage; status 1 if damage is left.

    Services and workers may run meanwhile; the worker does the same once a day, slowly.
    """
    from index.scrub import Scrub
    from index.scrub_report import Damage, name_duty
    from index.sets import open_sets
    from model.processes import name_owner
    from store.data_root import DataRoot
    from store.registry import open_registry

    settings = load_settings()
    root = DataRoot(settings.home, settings.store)

    def show(damage: Damage) -> None:
        say(f"damaged: {damage.name}" + (f"; mended {damage.mended}" if damage.mended else ""))

    with exit_on_error(), closing(open_registry(settings.database, migrate=False)) as registry:
        sets = open_sets(registry, root, settings.index)
        try:
            with registry.duties.hold(name_duty(root), name_owner(), _DUTY_SECONDS) as ours:
                if not ours:
                    stop("A worker reads everything just now: look at its log, or try again when it has finished.")
                report = Scrub(sets, mend=not dry_run).run(show)
        except OSError as error:
            stop(f"{settings.home} cannot be read or written: {error.strerror or type(error).__name__}.")
    files = format_count(report.files, "file or folder", "files and folders")
    damaged = report.unmended_count + report.mended_count
    answer(asdict(report), f"{files} read, {damaged} damaged, {report.unmended_count} of these not mended.")
    if report.unmended_count:
        raise typer.Exit(FAILED)


def reindex(
    yes: Yes = False,
) -> None:
    """Move the vectors to where PICTOGLOT_INDEX says; stop every service and worker first.

    The next start makes them there, from the registry. No picture is encoded again.
    """
    from index.backup import back_up_before_upgrade
    from index.set_states import find_last_location, request_reindex
    from store.registry import open_registry

    settings = load_settings()
    kind = settings.index.partition("+")[0]
    with exit_on_error():
        back_up_before_upgrade(settings)
    with exit_on_error(), closing(open_registry(settings.database)) as registry:
        found = find_last_location(registry)
        if found in (None, kind):
            say(f"The vectors are in {kind} already." if found else f"Nothing is sealed yet: {kind} will have it.")
            return
        question = f"Make all vector sets of {found} anew in {kind}? Is every process stopped?"
        if may_ask(yes) and not typer.confirm(question):
            return
        sets = request_reindex(settings.index, registry)
    say(
        f"{format_count(sets, 'vector set is', 'vector sets are')} made anew in {kind} when a service or worker starts."
    )


@contextmanager
def exit_on_error(more: str = "") -> Iterator[None]:
    """Exit with a sentence where the block raises an error of ours; status 78 where settings are wrong."""
    from store.errors import PictoglotError
    from store.settings import MISCONFIGURED, SettingsError

    try:
        yield
    except SettingsError as error:
        stop(str(error), MISCONFIGURED)
    except PictoglotError as error:
        stop(f"{error.title}: {error.detail.removesuffix('.')}.{more}")


def keep_up(environment: Mapping[str, str], ready: Callable[[Processes], None], with_worker: bool = True) -> int:
    """Run API and worker until a signal; say address and admin key when searches are answered, and call `ready`."""
    from store import logs
    from store.settings import locate_env_file  # late: help needs no pydantic

    settings = load_settings()
    logs.configure(settings.log_level)
    address = settings.make_address()
    if settings.port == 0:
        stop("PICTOGLOT_PORT: 0 is for one process of `serve`; several, and `up`, need a fixed port.")
    if is_port_taken(settings.host, settings.port):
        stop(f"Port {settings.port} is used by another program. {_PORT}=8400 before the command takes another.")
    if (file := locate_env_file()).is_file():
        say(f"{file} is read for settings.")
    say(f"pictoglot starts on {address} …")
    quiet = _QUIET if sys.stderr.isatty() and not read_variables().keys() & _QUIET else {}

    def announce(processes: Processes) -> None:
        shown = "as set in PICTOGLOT_ADMIN_KEY" if settings.admin_key else read_admin_key(settings)
        say(f"\n  Address    {address}\n  Admin key  {shown}\n")
        if quiet:
            say("Only warnings and errors are shown here; PICTOGLOT_LOG_LEVEL=info shows every request.")
        if _PORT in os.environ:
            say(f"Commands in another terminal need {_PORT}={settings.port} as well.")
        say("Ctrl-C stops it.\n")
        ready(processes)

    status = Processes(address, {**environment, **quiet}, announce, settings.processes, with_worker).run()
    if status == 0:
        say("Stopped.")
    return status


def load_settings() -> "Settings":
    """Return the settings that the children will read; exits with a sentence and status 78 when they are wrong."""
    from service.settings import Settings  # late: help needs no pydantic

    with exit_on_error():
        return Settings.load()


def read_variables() -> dict[str, str | None]:
    """Return the environment and `.env`, which it goes before; names in capital letters."""
    from store.settings import read_env_file, read_environment  # late: help needs no pydantic

    with exit_on_error():
        return {**read_env_file(), **read_environment()}


def read_admin_key(settings: "Settings") -> str:
    """Return the key of the settings, or the one that the service made at its first start."""
    return settings.admin_key or settings.key_file.read_text().strip()


def _check_service() -> int:
    """Return 0 when the service that these settings name says that it is ready; exits otherwise."""
    settings = load_settings()
    if settings.port == 0:
        stop("PICTOGLOT_PORT: with port 0 the service cannot be found.")
    address = settings.make_local_address()
    try:
        answer = httpx.get(f"{address}/readyz", timeout=_PATIENCE, trust_env=False)
    except httpx.HTTPError as error:
        stop(f"The service at {address} does not answer: {type(error).__name__}.")
    if not answer.is_success:
        stop(f"The service at {address} is not ready: status {answer.status_code}.")
    say(f"The service at {address} is ready.")
    return 0


def _become(module: str, *arguments: str) -> NoReturn:
    """Replace this process by another one, which has its signals, status and terminal."""
    sys.stdout.flush()
    os.execv(sys.executable, build_command(module, *arguments))


def choose_defaults() -> dict[str, str]:
    """Return what the demo sets where neither the environment nor `.env` does; `OPEN` on loopback only."""
    from client.api import LOOPBACK

    variables = read_variables()
    public = variables.get("PICTOGLOT_HOST", "localhost") not in LOOPBACK
    return {
        name: value for name, value in _DEFAULTS.items() if name not in variables and not (public and "OPEN" in name)
    }


@demo.command("up")
def run_demo() -> None:
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
            processes.children.append(Child("demo", build_command("demo", "fill"), finish, own))

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
