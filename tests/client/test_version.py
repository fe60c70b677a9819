"""`--version`, completion and the checks of health: what they print, and the exit status that other programs read."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner, Result

from client.main import app
from store.registry import open_registry
from tests.patience import PATIENCE
from tests.service.harness import Service, running
from tests.service.processes import clean_environment

PROGRAM = "import sys; sys.argv[0] = 'pictoglot'; from client.main import main; main()"


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command line as a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("home")) as service:
        yield service


def check_serve(host: str, port: object) -> Result:
    """`pictoglot serve --check` with these settings."""
    return CliRunner().invoke(
        app, ["serve", "--check"], env={"PICTOGLOT_HOST": host, "PICTOGLOT_PORT": str(port), "COLUMNS": "200"}
    )


def check_worker(**settings: object) -> "subprocess.CompletedProcess[str]":
    """`pictoglot worker --check` with these settings."""
    return run("worker", "--check", **{f"PICTOGLOT_{name}": str(value) for name, value in settings.items()})


def test_the_version_is_that_of_the_installed_package() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"pictoglot {metadata.version('pictoglot')}\n")


def test_the_version_is_told_before_anything_else_is_read() -> None:
    done = run("--version", "nonsense", PICTOGLOT_NONSENSE="1")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_shell_is_told_the_commands() -> None:
    words = {"COMP_WORDS": "pictoglot pic", "COMP_CWORD": "1"}
    assert run(_PICTOGLOT_COMPLETE="complete_bash", **words).stdout.split() == ["pictures"]


def test_completion_can_be_installed_and_shown() -> None:
    shown = run("--help", COLUMNS="200").stdout
    assert "--install-completion" in shown and "--show-completion" in shown


def test_a_ready_service_passes_its_check(service: Service) -> None:
    result = check_serve("127.0.0.1", urlsplit(service.url).port)
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_service_that_listens_everywhere_is_asked_on_loopback(service: Service) -> None:
    result = check_serve("0.0.0.0", urlsplit(service.url).port)
    assert result.exit_code == 0
    assert "http://127.0.0.1:" in result.stdout


def test_a_service_that_is_not_ready_fails_its_check(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.context.draining = True
        result = check_serve("127.0.0.1", urlsplit(service.url).port)
    assert result.exit_code == 1
    assert "is not ready: status 503" in result.stderr


@pytest.mark.parametrize(("port", "said"), [(9, "does not answer"), (0, "PICTOGLOT_PORT")])
def test_a_service_that_is_not_found_fails_its_check(port: int, said: str) -> None:
    result = check_serve("127.0.0.1", port)
    assert result.exit_code == 1
    assert said in result.stderr


def test_a_worker_with_a_registry_passes_its_check(tmp_path: Path) -> None:
    open_registry(f"sqlite:///{tmp_path / 'registry.db'}").close()
    assert check_worker(HOME=tmp_path).returncode == 0


def test_a_worker_without_a_registry_fails_its_check(tmp_path: Path) -> None:
    done = check_worker(HOME=tmp_path, DATABASE_URL="postgresql+psycopg://pictoglot@127.0.0.1:9/pictoglot")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("The registry does not answer: ") and "port 9" in done.stderr


def test_the_check_of_a_worker_makes_no_tables(tmp_path: Path) -> None:
    assert [check_worker(HOME=tmp_path).returncode for _ in range(2)] == [1, 1]


def test_the_check_of_a_worker_with_wrong_settings_is_78(tmp_path: Path) -> None:
    assert check_worker(HOME=tmp_path, THREADS=0).returncode == 78
