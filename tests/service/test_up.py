"""`up`, `serve`, `doctor`: real processes, with OpenVINO and without; they start, are restarted, and all end."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import httpx
import psutil
import pytest
from typer.testing import CliRunner, Result

from client.commands import app
from service.commands.doctor import Checkup
from service.settings import Settings
from store.registry import open_registry
from tests.index.world import World, put
from tests.launcher import find_free_port
from tests.patience import PATIENCE
from tests.service.harness import picture, wait_until
from tests.service.processes import clean_environment, run_module
from tests.tiny import write_tiny_base
from tests.worker.harness import pairs

WITH_OPENVINO = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
COMMAND = (sys.executable, "-c", "from client.commands import main; main()")
KEY = "an-admin-key-of-this-test-0123456789"


def make_environment(home: Path, **settings: object) -> dict[str, str]:
    own = {"HOME": home, "PORT": find_free_port(), "FREE_BYTES": 0, "LOG_LEVEL": "warning", **settings}
    return {**os.environ, **{f"PICTOGLOT_{name}": str(value) for name, value in own.items() if value is not None}}


def run(home: Path, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    given = make_environment(home, **settings)
    return subprocess.run(
        [*COMMAND, *arguments], env=given, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def invoke(home: Path, *arguments: str, **settings: object) -> Result:
    """Run a command in this process, which has torch: what it does, not how it starts."""
    return CliRunner().invoke(app, [*arguments], env=make_environment(home, **settings))


class Up:
    def __init__(self, home: Path, *command: str, **settings: object) -> None:
        self.output, self.log = home / "output.txt", home / "log.txt"
        given = make_environment(home, **settings)
        with self.output.open("wb") as output, self.log.open("wb") as log:
            self.process = subprocess.Popen([*COMMAND, *(command or ("up",))], env=given, stdout=output, stderr=log)

    def read(self) -> str:
        return self.output.read_text() + self.log.read_text()

    def said(self, wanted: str, seconds: float = PATIENCE) -> str:
        """Wait for `wanted`, and return the rest of its line."""
        wait_until(lambda: wanted in self.read() or self.process.poll() is not None, seconds)
        assert wanted in self.read(), self.read()
        return self.read().split(wanted, 1)[1].splitlines()[0].strip()

    def children(self, module: str) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if child.cmdline()[-1:] == [module]]

    def child(self, module: str) -> psutil.Process | None:
        return next(iter(self.children(module)), None)


@contextmanager
def start_up(home: Path, *command: str, **settings: object) -> Iterator[Up]:
    running = Up(home, *command, **settings)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
        running.process.wait(PATIENCE)


def test_up_prints_address_and_key_starts_a_dead_child_again_and_ctrl_c_stops_all_processes(tmp_path: Path) -> None:
    with start_up(tmp_path, LOG_LEVEL=None) as running:
        address, key = running.said("Address"), running.said("Admin key")
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
        assert key == (tmp_path / "admin.key").read_text()
        assert '"message": "request"' in running.log.read_text(), "a file has the line of every request"
        found = look_at_a_running_service(tmp_path, address)
        assert found["settings"].startswith("the environment of the running service, process ")
        assert found["data root"].startswith(f"{tmp_path}, ") and found["service"].startswith(f"{address} serves")
        other = Checkup(Settings(home=tmp_path / "other"), url=address).check("data root")
        assert other is not None and other.outcome == "note"
        assert other.detail.endswith(f"The service that runs here has another one: {tmp_path}")
        worker = running.child("worker")
        assert worker is not None
        worker.kill()
        running.said("The worker ended")
        wait_until(lambda: (child := running.child("worker")) is not None and child.pid != worker.pid)
        everything = psutil.Process(running.process.pid).children(recursive=True)
        assert len(everything) >= 2
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(PATIENCE) == 0
        assert psutil.wait_procs(everything, timeout=PATIENCE)[1] == []
        assert running.said("Stopped.") == ""
        lines = [json.loads(line) for line in running.log.read_text().splitlines()]  # all lines of a log are JSON
        assert {"pictoglot.access", "worker.celery_app", "pictoglot.up"} <= {line["logger"] for line in lines}
        assert not [line for line in lines if "stack" in line]


def look_at_a_running_service(home: Path, address: str) -> dict[str, str]:
    """Return what `doctor` says in a second terminal, which knows the port alone, and has another folder."""
    folder = home / "second terminal"
    folder.mkdir()
    done = subprocess.run(
        [*COMMAND, "doctor", "--json"],
        env=clean_environment() | {"PICTOGLOT_PORT": address.rpartition(":")[2]},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return {finding["what"]: finding["detail"] for finding in json.loads(done.stdout)["findings"]}


def test_several_processes_share_a_port_and_count_together_and_one_that_dies_is_started_again(tmp_path: Path) -> None:
    def ask(path: str) -> httpx.Response:
        return httpx.get(f"{address}{path}", timeout=PATIENCE, trust_env=False)  # each by a connection of its own

    def list_listeners() -> set[int]:
        found = {child.pid: child.net_connections("tcp") for child in running.children("service")}
        return {pid for pid, sockets in found.items() if any(each.status == psutil.CONN_LISTEN for each in sockets)}

    def count_requests() -> int:
        found = re.search(
            r'seconds_count\{method="GET",route="/v1/languages",status="401"\} (\d+)', ask("/metrics").text
        )
        return int(found[1]) if found else 0

    with start_up(tmp_path, "serve", "--processes", "2") as running:
        address = running.said("Address")
        wait_until(lambda: len(list_listeners()) == 2)
        assert {ask("/v1/languages").status_code for _ in range(30)} == {401}
        assert [count_requests() for _ in range(8)] == [30] * 8
        killed = running.children("service")[0]
        killed.kill()
        running.said("The service ended")
        assert {ask("/v1/languages").status_code for _ in range(10)} == {401}
        wait_until(lambda: len(list_listeners() - {killed.pid}) == 2)
        assert [count_requests() for _ in range(8)] == [40] * 8
        running.process.terminate()
        assert running.process.wait(PATIENCE) == 0 and running.said("Stopped.") == ""


def test_on_a_terminal_no_line_for_each_request_pushes_address_and_key_away(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    given = make_environment(tmp_path, LOG_LEVEL=None)
    process = subprocess.Popen([*COMMAND, "up"], env=given, stdout=theirs, stderr=theirs, cwd=tmp_path)
    os.close(theirs)
    said = b""
    try:
        while b"Ctrl-C stops it" not in said:
            said += os.read(ours, 4_096)
        nothing = f"http://127.0.0.1:{given['PICTOGLOT_PORT']}/nothing"
        assert httpx.get(nothing, timeout=PATIENCE, trust_env=False).status_code == 404
    finally:
        process.terminate()
    with suppress(OSError):  # EIO: nobody writes any more
        while more := os.read(ours, 4_096):
            said += more
    assert process.wait(PATIENCE) == 0
    os.close(ours)
    assert b"Admin key" in said and b"PICTOGLOT_LOG_LEVEL=info shows every request" in said
    assert b"pictoglot.access" not in said, said.decode()
    assert f"need PICTOGLOT_PORT={given['PICTOGLOT_PORT']} as well".encode() in said


def test_the_demo_fills_its_gallery_and_after_a_fill_that_was_killed_the_next_start_does(tmp_path: Path) -> None:
    with start_up(tmp_path, "demo", "up") as running:
        running.said("The gallery is being filled")
        wait_until(lambda: running.child("fill") is not None)
        fill = running.child("fill")
        assert fill is not None
        fill.kill()
        running.said("The gallery could not be filled; the next start continues")
        assert not (tmp_path / "demo.filled").exists(), "so the next start does"


def test_what_cannot_be_is_one_sentence_before_anything_starts(tmp_path: Path) -> None:
    wrong = invoke(tmp_path, "up", NONSENSE=1)
    assert (wrong.exit_code, wrong.output) == (78, "PICTOGLOT_NONSENSE is not a setting of pictoglot.\n")
    wrong = invoke(tmp_path, "up", BACKEND="onnx")
    assert wrong.exit_code == 78 and wrong.output.startswith("PICTOGLOT_BACKEND:")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = invoke(tmp_path, "up", PORT=other.getsockname()[1])
    assert (taken.exit_code, len(taken.stderr.splitlines())) == (1, 1)
    assert "is used by another program" in taken.stderr


@pytest.mark.parametrize("module", ["service", "worker"])
def test_an_impossible_data_root_is_reported_in_one_sentence(tmp_path: Path, module: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    status, _, errors = run_module(module, tmp_path / "file")
    assert (status, len(errors.splitlines())) == (78, 1) and "PICTOGLOT_HOME" in errors


@pytest.mark.parametrize("arguments", [("serve",), ("demo", "notice")])
def test_modules_in_the_current_folder_are_not_run(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    for name in ("model", "service", "worker", "demo", "index"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hijacked')")
    own = "import sys; from client.commands import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", own, *arguments],
        env=make_environment(tmp_path / "home", RECALL=-1),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "hijacked" not in done.stderr + done.stdout
    assert (done.returncode == 0) == (arguments[0] == "demo")  # which does not have the setting


@WITH_OPENVINO
def test_an_encoding_that_is_not_the_data_roots_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with closing(open_registry(f"sqlite:///{tmp_path / 'registry.db'}")) as registry:
        registry.encodings.record_first("torch", "float32")
        for module in ("service", "worker"):
            status, _, errors = run_module(module, tmp_path, BACKEND="openvino")
            assert (status, len(errors.splitlines())) == (78, 1)
            assert "made with torch in float32" in errors and "`pictoglot base move`" in errors
        assert "`pictoglot base move --backend openvino`" in invoke(tmp_path, "doctor").stdout


@WITH_OPENVINO
def test_a_precision_that_this_machine_lacks_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    status, _, errors = run_module("service", tmp_path, BACKEND="openvino", PRECISION="bfloat16")
    assert (status, len(errors.splitlines())) == (78, 1), errors
    assert "PICTOGLOT_PRECISION: bfloat16 is needed" in errors


def test_the_doctor_finds_nothing_bad_on_a_fresh_machine(tmp_path: Path) -> None:
    done = invoke(tmp_path / "home", "doctor", "--json", URL=f"http://127.0.0.1:{find_free_port()}")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert done.exit_code == 0, done.stdout
    assert {*findings} == {
        "settings", "data root", "store", "database", "index", "broker", "machine", "base", "vectors", "service",
        "port",
    }  # fmt: skip
    assert findings["service"]["outcome"] == "note"
    assert not (tmp_path / "home").exists(), "looking changes nothing"


def test_the_doctor_tells_what_searches_find_of_what_is_sealed(tmp_path: Path) -> None:
    world = World(tmp_path)
    put(world.serve(), *range(12))
    world.seal()
    world.close()
    done = invoke(tmp_path, "doctor", "--json", URL=f"http://127.0.0.1:{find_free_port()}")
    (found,) = [finding for finding in json.loads(done.stdout)["findings"] if finding["what"] == "recall"]
    assert found["outcome"] == "ok"
    assert found["detail"].startswith("12 pictures sealed; searches find 100.0% of the ten")


def test_the_doctor_names_what_is_wrong(tmp_path: Path) -> None:
    broker, database = (
        f"redis://127.0.0.1:{find_free_port()}/0",
        f"postgresql+psycopg://127.0.0.1:{find_free_port()}/none",
    )
    nobody = {"URL": f"http://127.0.0.1:{find_free_port()}", "BASE": "ViT-B-32/nobody"}
    done = invoke(tmp_path, "doctor", "--json", BROKER_URL=broker, DATABASE_URL=database, **nobody)
    bad = {finding["what"] for finding in json.loads(done.stdout)["findings"] if finding["outcome"] == "bad"}
    assert done.exit_code == 1
    assert bad == {"broker", "database", "base"}


def check(what: str, **settings: str) -> str:
    """Return what the doctor finds: the outcome and why."""
    finding = Checkup(Settings(**settings), url="http://[::1:8321").check(what)  # type: ignore[arg-type]
    assert finding is not None
    return f"{finding.outcome}: {finding.detail}"


def test_the_doctor_looks_for_the_broker_where_celery_does() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert check("broker", broker_url=f"redis://localhost:{port}/0").startswith("ok")
        assert check("broker", broker_url=f"redis://:{port}/0").startswith("ok")  # no host is this one
    assert check("broker", broker_url=f"redis://:{port}/0").startswith("bad")
    assert "%2F" in check("broker", broker_url="redis://:a/b@redis:6379/0")
    assert check("broker", broker_url="redis://[::1").startswith("bad")


def test_the_doctor_takes_a_service_that_is_silent_for_no_free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.commands.doctor._PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        checkup = Checkup(Settings(port=port), url=address)
        finding = checkup.check("service")
        assert finding is not None
        assert (finding.outcome, finding.detail) == ("bad", f"what listens at {address} gives no answer within 0.2 s")
        assert checkup.check("port") is None


def test_the_doctor_finds_no_service_at_an_invalid_address() -> None:
    assert check("service") == "note: no service answers at http://[::1:8321"


@pytest.fixture
def absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every process that is started from here, `openvino` is not installed, by all that Python can tell."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\n\nsys.modules['openvino'] = None\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(hidden), os.environ["PYTHONPATH"]]))


@pytest.mark.usefixtures("absent")
@pytest.mark.parametrize("command", ["up", "serve", "worker", "doctor"])
def test_a_setting_that_asks_for_it_ends_every_process_with_one_sentence(tmp_path: Path, command: str) -> None:
    done = run(tmp_path, command, BACKEND="openvino")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == "PICTOGLOT_BACKEND: OpenVINO needs the extra openvino.\n"
    assert not (tmp_path / "registry.db").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("absent")
def test_pictures_are_found_and_a_language_is_learned_on_torch_and_the_doctor_says_what_is_missing(
    tmp_path: Path,
) -> None:
    home, settings = tmp_path / "home", {"BASE": write_tiny_base(tmp_path), "ADMIN_KEY": KEY, "PORT": find_free_port()}
    home.mkdir()
    with start_up(home, **settings, MIN_RECALL=0) as running:
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=running.said("Address"), headers=headers, timeout=PATIENCE) as admin:
            put = admin.put("/v1/pictures/p1", files={"picture": ("x", picture(1))})
            assert put.status_code == 201, put.text
            body = "".join(json.dumps(row) + "\n" for row in pairs("cy")).encode()
            form = {"language": "cy", "settings": '{"epochs": 4}', "force": "true"}
            learn = admin.post("/v1/languages", data=form, files={"dataset": ("cy.jsonl", body)})
            assert learn.status_code == 202, learn.text
            place = f"/v1/expansions/{learn.json()['expansion']['id']}"
            wait_until(lambda: admin.get(place).json()["state"] not in ("queued", "running"), 180)
            assert admin.get(place).json()["state"] == "succeeded", admin.get(place).text
            wait_until(lambda: "cy" in admin.get("/readyz").text)
            found = admin.post("/v1/search/pictures", json={"text": "afal der", "language": "cy"}).json()
            assert [hit["id"] for hit in found["items"]] == ["p1"], found
            assert admin.get("/readyz").json()["encoding"] == "torch in float32"
    findings = json.loads(run(home, "doctor", "--json", **settings).stdout)["findings"]
    assert [finding["what"] for finding in findings if finding["outcome"] == "bad"] == []
    about = [finding["detail"] for finding in findings if "openvino" in json.dumps(finding)]
    assert about == ["made with torch in float32; the extra `openvino` is several times faster on a CPU"]
