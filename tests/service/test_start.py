"""How processes of the service start, refuse to, and end; what `doctor` finds in a registry."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from milvus_lite.server_manager import server_manager_instance
from safetensors.torch import load_file, save_file
from sqlalchemy import create_engine, make_url, text

from service.commands.doctor import Checkup, Finding
from service.settings import Settings
from store.registry import Registry, open_registry
from tests.groups import GROUPS, write_base
from tests.index.world import World, put
from tests.patience import PATIENCE, bound_time
from tests.registries import make_registry
from tests.service.harness import ADMIN_KEY, assert_problem, wait_until
from tests.service.processes import answers, clean_environment, run_module, weightless


def test_a_port_in_use_gives_one_sentence_and_no_key(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = f"PICTOGLOT_HOST, PICTOGLOT_PORT: cannot listen on 127.0.0.1:{port}: Address already in use.\n"
        assert run_module("service", tmp_path, PORT=str(port)) == (1, "", said)


def test_a_registry_that_does_not_open_gives_one_sentence_with_the_reason(tmp_path: Path) -> None:
    said = "Registry unavailable: The registry does not answer: unable to open database file.\n"
    assert run_module("service", tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}") == (1, "", said)  # which is a folder


def test_a_registry_of_another_base_gives_one_sentence(tmp_path: Path) -> None:
    registry = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    registry.initialise("another base", name="photos@/secret/place")
    registry.close()
    with weightless(tmp_path) as ended:
        output, errors = ended.communicate()
    assert (ended.returncode, output, len(errors.splitlines())) == (78, "", 1)
    assert "another base (photos): restore PICTOGLOT_BASE" in errors and not errors.endswith("..\n")


def test_a_data_root_of_an_earlier_release_gives_one_sentence_and_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    with closing(open_registry(make_registry(file))) as registry, registry.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0016'"))
    before = file.read_bytes()
    for name in ("service", "worker"):
        status, output, errors = run_module(name, tmp_path)
        assert (status, output, len(errors.splitlines())) == (78, "", 1), errors
        assert "(r0016)" in errors and "`pictoglot export` of the build that wrote it" in errors
    assert [*tmp_path.iterdir()] == [file] and file.read_bytes() == before


def test_a_service_on_a_free_port_prints_it_and_two_signals_stop_it_silently(tmp_path: Path) -> None:
    one_by_one = "serve.Settings.batch_size = 1"
    server = weightless(tmp_path, "SlowEncoder(2)", one_by_one, LOG_LEVEL="warning", ADMIN_KEY=ADMIN_KEY)
    try:
        address = server.stdout.readline().split()[-1]
        http = httpx.Client(base_url=address, headers={"X-API-Key": ADMIN_KEY}, timeout=PATIENCE)
        with http as client, ThreadPoolExecutor(8) as pool:  # as many: in which order they end is by chance
            wait_until(lambda: answers(client, "/readyz") == 200)
            searches = [pool.submit(client.post, "/v1/search/pictures", json={"text": f"query {n}"}) for n in range(8)]
            wait_until(lambda: re.search(r"pictoglot_queue_texts [5-7]", client.get("/metrics").text))
            for sent in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C, and what the parent then sends to its children
                server.send_signal(sent)
                time.sleep(0.1)
            for search in searches:
                assert_problem(search.result(), 503, "overloaded")
        _, errors = server.communicate(timeout=PATIENCE)
        assert (server.returncode, errors) == (0, "")
    finally:
        server.kill()


@pytest.mark.row("S7")
def test_a_shutdown_answers_running_requests_and_exits_with_zero(tmp_path: Path) -> None:
    constants = "serve.Settings.drain_seconds = serve.Settings.batch_size = 1"  # one by one: all take 2.5 s at least
    server = weightless(tmp_path, "SlowEncoder(0.05)", constants, ADMIN_KEY=ADMIN_KEY)
    try:
        address = server.stdout.readline().split()[-1]
        headers = {"X-API-Key": ADMIN_KEY, "Connection": "close"}
        http = httpx.Client(base_url=address, headers=headers, timeout=PATIENCE)
        with http as client, ThreadPoolExecutor(50) as pool:
            wait_until(lambda: answers(client, "/readyz") == 200)

            def search(n: int) -> int:
                with httpx.Client(base_url=address, headers={"X-API-Key": ADMIN_KEY}, timeout=PATIENCE) as own:
                    return own.post("/v1/search/pictures", json={"text": f"query {n}"}).status_code

            running_ = [pool.submit(search, n) for n in range(50)]
            wait_until(lambda: "pictoglot_queue_texts 0.0" not in client.get("/metrics").text)
            asked = time.monotonic()
            server.send_signal(signal.SIGTERM)
            with bound_time(10):
                said = [*iter(partial(answers, client, "/readyz"), 0)]  # until it takes no more connections
                assert 503 in said and time.monotonic() - asked >= 1, said
                assert [answer.result() for answer in running_] == [200] * 50
                assert server.wait(PATIENCE) == 0
    finally:
        server.kill()
        server.communicate()


def test_what_a_process_that_serves_has_open_is_not_searched_for_garbage(tmp_path: Path) -> None:
    """Otherwise a search waits while Python looks through half a million objects (decision 2)."""
    service = weightless(tmp_path, encoder="TellingEncoder()", ADMIN_KEY=ADMIN_KEY, FREE_BYTES="0")
    url = service.stdout.readline().split()[-1]
    body, headers = {"text": "an apple", "language": "en"}, {"X-API-Key": ADMIN_KEY}
    with httpx.Client(base_url=url, headers=headers, timeout=PATIENCE, trust_env=False) as client:
        wait_until(lambda: answers(client, "/readyz") == 200)
        answer = client.post("/v1/search/pictures", json=body)
    service.terminate()
    frozen, interval = service.communicate(timeout=PATIENCE)[1].splitlines()[-1].split()
    assert answer.status_code == 200, answer.text
    assert int(frozen) > 100_000 and float(interval) < 0.001


def change_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["vocab"] += [[f"piece {number}", -9.0] for number in range(9_000)]
    path.write_text(json.dumps(content), encoding="utf-8")


def change_architecture(folder: Path) -> None:
    path = folder / "base.safetensors"
    weights = load_file(path)
    del weights["text.ln_final.weight"]
    save_file(weights, path)


def change_tower(folder: Path) -> None:
    path = folder / f"{GROUPS['siglip']}-small.json"
    config = json.loads(path.read_text())
    config["text_cfg"]["hf_model_name"] = "xlm-roberta-base"
    path.write_text(json.dumps(config))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_tokenizer, "tokens, but the base's table has"),
        pytest.param(change_architecture, "its weights have other names or sizes", marks=pytest.mark.nightly),
        pytest.param(change_tower, "xlm-roberta-base of the package transformers", marks=pytest.mark.nightly),
    ],
)
def test_a_base_that_does_not_fit_ends_the_start(tmp_path: Path, change: object, said: str) -> None:
    spec = write_base(tmp_path / "base", GROUPS["siglip"])
    assert callable(change)
    change(tmp_path / "base")
    status, _, errors = run_module("service", tmp_path / "home", BASE=spec)
    assert status == 78
    (line,) = errors.splitlines()
    assert line.startswith("PICTOGLOT_BASE: ") and said in line and str(tmp_path) not in line


REINDEX = ("-c", "from client.commands import main; main()", "reindex")


@pytest.fixture
def without_pgvector(shared_postgresql: str) -> Iterator[str]:
    """The URL of a database without the extension, for a user who may not make it."""
    server, name = make_url(shared_postgresql).set(drivername="postgresql+psycopg"), f"plain_{uuid4().hex[:12]}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN"))
        connection.execute(text(f"CREATE DATABASE {name} OWNER {name}"))
        yield server.set(database=name, username=name).render_as_string(hide_password=False)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        connection.execute(text(f"DROP ROLE {name}"))
    admin.dispose()


def test_a_postgresql_without_pgvector_ends_the_start_with_one_sentence(tmp_path: Path, without_pgvector: str) -> None:
    with weightless(tmp_path, INDEX="pgvector", DATABASE_URL=without_pgvector) as service:
        _, said = service.communicate(timeout=PATIENCE)
    assert (service.returncode, len(said.splitlines())) == (78, 1), said
    assert said.startswith("PICTOGLOT_INDEX: pgvector is not installed in this PostgreSQL")
    assert run_module("worker", tmp_path, INDEX="pgvector", DATABASE_URL=without_pgvector) == (78, "", said)


def test_vectors_elsewhere_than_the_setting_says_end_the_start_until_they_are_moved(
    tmp_path: Path, postgresql_url: str
) -> None:
    world = World(tmp_path, postgresql_url)
    put(world.serve(), 1, 2)
    world.seal()
    world.close()
    settings = {"HOME": str(tmp_path), "INDEX": "pgvector", "DATABASE_URL": postgresql_url}
    names = {f"PICTOGLOT_{name}": value for name, value in settings.items()}
    status, _, refusal = run_module("worker", tmp_path, INDEX="pgvector", DATABASE_URL=postgresql_url)
    assert (status, len(refusal.splitlines())) == (78, 1), refusal
    assert "the vectors are in faiss, not in pgvector" in refusal and "`pictoglot reindex`" in refusal
    with weightless(tmp_path, INDEX="pgvector", DATABASE_URL=postgresql_url) as service:
        _, said = service.communicate(timeout=PATIENCE)
    assert (service.returncode, said) == (78, refusal)
    there = Settings(home=tmp_path, index="pgvector", database_url=postgresql_url)
    assert check("index", there) == ("bad", said.strip())
    command, environment = [sys.executable, *REINDEX], clean_environment() | names
    moved = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert (moved.returncode, moved.stdout) == (
        0, "2 vector sets are made anew in pgvector when a service or worker starts.\n",
    )  # fmt: skip
    assert check("index", there)[0] == "ok"


def check(what: str, settings: Settings) -> tuple[str, str]:
    finding = Checkup(settings).check(what)
    assert finding is not None
    return finding.outcome, finding.detail


def test_the_doctor_has_a_line_about_the_engine(tmp_path: Path, postgresql_url: str, without_pgvector: str) -> None:
    assert check("index", Settings(home=tmp_path)) == ("ok", "faiss: files under the data root")
    outcome, detail = check("index", Settings(home=tmp_path, index="pgvector", database_url=without_pgvector))
    assert outcome == "note" and "CREATE EXTENSION" in detail
    file = str(tmp_path / "milvus.db")
    there = Settings(home=tmp_path, index=f"milvus+{server_manager_instance.start_and_get_uri(file)}")
    assert check("index", there)[0] == "ok"
    server_manager_instance.release_server(file)
    assert check("index", there)[0] == "bad"


def submit(registry: Registry, language: str) -> str:
    return registry.expansions.submit(kind="learn", language=language, settings={}, actor="admin")[0].id


def pass_by(registry: Registry, seconds: int) -> None:
    """Let everything have been so many seconds ago."""
    with registry.begin() as session:
        earlier = "UPDATE expansions SET created_at = created_at - :s, lease_expires = lease_expires - :s"
        session.execute(text(earlier), {"s": seconds})


def test_a_worker_that_is_needed_and_missing_is_told(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=make_registry(tmp_path / "registry.db"))

    def check_worker() -> Finding | None:
        return Checkup(settings).check("worker")

    with closing(open_registry(settings.database)) as registry:
        registry.initialise("base")
        assert check_worker() is None
        submit(registry, "cy")
        assert check_worker() == Finding("worker", "ok", "0 expansions in work, 1 waiting for a worker")
        assert registry.expansions.take_lease(registry.expansions.list_runnable()[0], "w") is not None
        submit(registry, "qu")
        assert check_worker() == Finding("worker", "ok", "1 expansion in work, 1 waiting for a worker")
        pass_by(registry, 31)  # the worker was killed, and its lease has just run out
        silent = check_worker()
        assert silent is not None and silent.outcome == "note"
        assert "2 waiting for a worker, of which 1 had one that is silent" in silent.detail
        pass_by(registry, 90)
        dead = check_worker()
        assert dead is not None and dead.outcome == "bad"
        assert re.search(r", for 12\d s: is `pictoglot worker` running\?$", dead.detail)


def test_why_a_database_cannot_be_read_or_is_refused_is_told(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=make_registry(tmp_path / "registry.db"))
    assert check("database", settings) == ("ok", "sqlite answers")
    folder = Settings(home=tmp_path, database_url=f"sqlite:///{tmp_path}")
    assert "does not answer: unable to open database file" in check("database", folder)[1]
    with closing(open_registry(settings.database)) as registry, registry.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0007'"))
    outcome, detail = check("database", settings)
    assert outcome == "bad" and "(r0007)" in detail and "`pictoglot export`" in detail
