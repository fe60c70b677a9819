"""Where address and key come from: never one from the environment and the other from a folder's `.env` (F2)."""

import os
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from client.commands import app
from service.commands.doctor import Checkup
from service.settings import Settings
from tests.http_server import QuietHandler, serve

pytestmark = pytest.mark.row("F2")
KEY, SECRET = "pk_key_of_the_environment", "another-secret"


class Recorder(ThreadingHTTPServer):
    """A server that answers nothing useful, and keeps the path and the headers of each request."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        super().__init__(("127.0.0.1", 0), _Keep)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Keep(QuietHandler):
    server: Recorder

    def do_GET(self) -> None:
        self.server.seen.append(f"{self.path}\n{self.headers}")
        self.send_error(404)

    do_POST = do_GET


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with serve(Recorder()) as server:
        yield server


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; nothing of ours is in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PICTOGLOT_")]:
        monkeypatch.delenv(name)
    return tmp_path


def run(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(app, arguments, env=variables)


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("PICTOGLOT_URL={url}", "languages"),
        ("pictoglot_url={url}", "search x"),
        ("PICTOGLOT_PORT={port}", "learn cy .env"),
        ("export PICTOGLOT_URL='{url}' # ours", "demo fill"),
    ],
)
def test_the_key_of_the_environment_is_not_sent_where_a_file_says(
    recorder: Recorder, tmp_path: Path, file: str, command: str
) -> None:
    (tmp_path / ".env").write_text(file.format(url=recorder.url, port=recorder.server_port) + "\n")
    done = run(*command.split(), PICTOGLOT_KEY=KEY)
    assert (done.exit_code, recorder.seen) == (78, [])
    assert (
        f"is set in {tmp_path / '.env'} and PICTOGLOT_KEY in the environment: set address and key in the same place"
        in done.stderr
    )


def test_the_key_of_a_file_is_not_sent_where_the_environment_says(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"PICTOGLOT_KEY={KEY}\n")
    done = run("languages", PICTOGLOT_PORT=str(recorder.server_port))
    assert (done.exit_code, recorder.seen) == (78, [])


def test_an_address_of_the_environment_leaves_nothing_to_that_of_a_file(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PICTOGLOT_URL=http://127.0.0.1:9\nPICTOGLOT_HOST=127.0.0.9\n")
    run("languages", PICTOGLOT_PORT=str(recorder.server_port), PICTOGLOT_KEY=KEY)
    assert [KEY in request for request in recorder.seen] == [True]


def test_a_file_gets_no_other_variable_and_is_named(recorder: Recorder, tmp_path: Path) -> None:
    """`${NAME}` stands for itself, in the path as in the key."""
    (tmp_path / ".env").write_text(
        f"PICTOGLOT_URL={recorder.url}/${{CLOUD_SECRET}}\nPICTOGLOT_KEY=pk_${{CLOUD_SECRET}}\n"
    )
    done = run("languages", CLOUD_SECRET=SECRET)
    assert len(recorder.seen) == 1 and SECRET not in recorder.seen[0]
    assert "Authorization: Bearer pk_${CLOUD_SECRET}" in recorder.seen[0]
    assert f"{tmp_path / '.env'} names the service: {recorder.url}/${{CLOUD_SECRET}}.\n" in done.stderr


def test_a_typed_key_goes_to_no_address_of_a_file(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"PICTOGLOT_URL={recorder.url}\n")
    done = run("demo", "fill", f"--key={KEY}")
    assert (done.exit_code, recorder.seen) == (2, [])
    assert "--url" in done.stderr


def test_a_name_that_is_nearly_one_is_corrected(tmp_path: Path) -> None:
    done = run("languages", PICTOGLOT_PROT="1")
    said = "PICTOGLOT_PROT is not a setting of pictoglot. Did you mean PICTOGLOT_PORT?\n"
    assert (done.exit_code, done.stderr) == (78, said)
    (tmp_path / ".env").write_text("PICTOGLOT_COLOUR=red\n")
    assert run("languages").stderr == f"PICTOGLOT_COLOUR (in {tmp_path / '.env'}) is not a setting of pictoglot.\n"


def test_doctor_names_the_file(tmp_path: Path) -> None:
    assert "the environment; no .env" in str(Checkup(Settings()).check("settings"))
    (tmp_path / ".env").write_text("PICTOGLOT_URL=http://127.0.0.1:9\nPICTOGLOT_KEY=x\nOTHER=1\n")
    assert f"2 variables of {tmp_path / '.env'}" in str(Checkup(Settings()).check("settings"))
