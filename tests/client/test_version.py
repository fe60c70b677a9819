"""`--version`, completion and the checks of health: what they print, and the exit status that other programs read."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from client.commands import app
from tests.patience import PATIENCE
from tests.service.harness import running
from tests.service.processes import clean_environment

PROGRAM = "import sys; sys.argv[0] = 'pictoglot'; from client.commands import main; main()"


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Return the command line as a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def check_serve(host: str, port: object) -> Result:
    return CliRunner().invoke(
        app, ["serve", "--check"], env={"PICTOGLOT_HOST": host, "PICTOGLOT_PORT": str(port), "COLUMNS": "200"}
    )


def test_the_version_is_told_before_anything_else_is_read() -> None:
    done = run("--version", "nonsense", PICTOGLOT_NONSENSE="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"pictoglot {metadata.version('pictoglot')}\n", "")


def test_a_shell_is_told_the_commands() -> None:
    words = {"COMP_WORDS": "pictoglot pic", "COMP_CWORD": "1"}
    assert run(_PICTOGLOT_COMPLETE="complete_bash", **words).stdout.split() == ["pictures"]
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    assert "--install-completion" in shown and "--show-completion" in shown


def test_a_service_passes_its_check_while_it_is_ready_and_is_asked_on_loopback(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        for host in ("127.0.0.1", "0.0.0.0"):
            result = check_serve(host, service.port)
            assert (result.exit_code, result.stderr) == (0, "") and "http://127.0.0.1:" in result.stdout
        service.context.stopping.set()
        result = check_serve("127.0.0.1", service.port)
    assert result.exit_code == 1 and "is not ready: status 503" in result.stderr


@pytest.mark.parametrize(("port", "said"), [(9, "does not answer"), (0, "PICTOGLOT_PORT")])
def test_a_service_that_is_not_found_fails_its_check(port: int, said: str) -> None:
    result = check_serve("127.0.0.1", port)
    assert result.exit_code == 1
    assert said in result.stderr


def test_the_check_of_a_worker_passes_its_status_and_sentence_on(tmp_path: Path) -> None:
    """What it checks, `tests/worker/test_worker.py` tests."""
    settings = {"PICTOGLOT_HOME": str(tmp_path), "PICTOGLOT_THREADS": "0"}
    done = run("worker", "--check", **settings)
    assert (done.returncode, done.stderr.count("\n")) == (78, 1) and "PICTOGLOT_THREADS" in done.stderr
