"""The worker process itself: small, strict about its settings, deaf to anything but JSON hints, tidy at its start."""

import logging
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

import pytest

from store.errors import RegistryUnavailable
from store.registry import open_registry
from tests.launcher import share_launcher
from tests.patience import PATIENCE, insist
from tests.worker.harness import Site, assert_once, pairs
from worker.__main__ import main
from worker.celery_app import HintRelay, create_app
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor
from worker.upkeep import Sweeper

ROOT = Path(__file__).parents[2]
# A relay whose worker takes no hints; with the second argument, it does not listen to SIGTERM either.
UNHEARD = """
import signal, sys, time
from worker import celery_app as relay
from worker.celery_app import app
relay._DEAF_SECONDS, relay._END_SECONDS = 0, float(sys.argv[1])
signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[2:] else signal.SIG_DFL)
relay.HintRelay(app, app.supervisor).start()
time.sleep(600)
"""
STARTED = """
import sys
from celery.signals import worker_init
from worker import celery_app
celery_app.HintRelay.start = celery_app.Sweeper.start = lambda _: print("celery.events.receiver" in sys.modules)
celery_app._join = id
worker_init.send(None)
"""


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE, env=environment
    )


def test_the_worker_process_loads_neither_torch_nor_the_web_framework_and_writes_nothing(tmp_path: Path) -> None:
    code = "import sys, worker.celery_app; print({'torch', 'numpy', 'fastapi', 'faiss'} & {*sys.modules})"
    assert python("-c", code, PICTOGLOT_HOME=str(tmp_path / "home")).stdout.strip() == "set()"
    assert not (tmp_path / "home").exists()


def test_its_threads_begin_when_what_they_import_beside_celery_is_loaded(tmp_path: Path) -> None:
    assert python("-c", STARTED, PICTOGLOT_HOME=str(tmp_path / "home")).stdout.split() == ["True", "True"]


@pytest.mark.row("S10")
def test_a_wrong_setting_ends_it_with_78_and_one_sentence() -> None:
    ended = python("-m", "worker", PICTOGLOT_MIN_RECAL="1")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (78, 1)
    assert "PICTOGLOT_MIN_RECAL is not a setting" in ended.stderr


def test_an_unknown_expansion_and_a_finished_one_are_no_work(site: Site) -> None:
    supervisor = Supervisor(WorkerSettings(home=site.home, base=site.base))
    expansion = site.submit(pairs("cy"))
    site.registry.expansions.cancel(expansion)
    for hint in ("exp_unknown", expansion):
        supervisor.run(hint)
    assert site.registry.expansions.get(expansion).attempt == 0


def test_a_worker_whose_registry_is_away_at_its_start_sweeps_when_it_is_back(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="worker")
    finished = site.submit(pairs("cy"))
    site.registry.expansions.cancel(finished)
    (site.home / "expansions" / finished / "checkpoints" / "cy" / "step-5").mkdir(parents=True)
    site.registry.close()
    (site.home / "registry.db").rename(site.home / "registry.away")
    (site.home / "registry.db").symlink_to(site.home / "nowhere" / "registry.db")  # which is replaced in one step
    with at_work(site) as started:
        site.wait_until(lambda: caplog.text.count("the registry cannot be read: registry_unavailable") > 2)
        site.wait_until(lambda: caplog.text.count("crashed workers could not be removed: registry_unavailable") > 2)
        (site.home / "registry.away").rename(site.home / "registry.db")
        site.wait_until(lambda: site.checkpoints(finished) == [])
        assert (site.home / "expansions" / finished / "dataset").exists()
        site.wait_until(lambda: "the registry cannot be read: no longer" in caplog.text)
        assert all(thread.is_alive() for thread in started)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert sum("registry" in message for message in warnings) == 3  # once each, and that it is over
    assert [record.exc_info for record in caplog.records if record.exc_info] == []


def test_a_worker_that_runs_on_sweeps_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[Supervisor] = []
    monkeypatch.setattr("worker.upkeep.sweep_leftovers", swept.append)
    monkeypatch.setattr("worker.upkeep._DAY", 0.0)
    with at_work(site):
        site.wait_until(lambda: len(swept) > 2)


@pytest.mark.parametrize(
    ("failed", "sweeps", "said"),
    [
        (RegistryUnavailable(), 2, "could not be removed: registry_unavailable"),
        (PermissionError(13, "denied", "/secret/path"), 1, "could not be removed: PermissionError"),
        (ValueError("unexpected"), 1, "unexpected error in the sweep"),
    ],
    ids=["registry", "file", "unexpected"],
)
def test_a_failed_sweep_is_one_line_and_hints_go_on(
    site: Site,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    failed: Exception,
    sweeps: int,
    said: str,
) -> None:
    site.submit(pairs("cy"))
    done: list[str] = []

    def sweep(_: Supervisor) -> None:
        done.append("sweep")
        if done.count("sweep") == 1:
            raise failed

    monkeypatch.setattr("worker.upkeep.sweep_leftovers", sweep)
    monkeypatch.setattr("celery.Celery.send_task", lambda *_, **__: done.append("hint"))
    with at_work(site):
        site.wait_until(lambda: done.count("hint") > 3 and done.count("sweep") == sweeps)
    (record,) = caplog.records
    assert said in record.getMessage()
    assert "/secret" not in caplog.text
    assert (record.exc_info is None) == (sweeps == 2 or isinstance(failed, OSError))


@pytest.mark.row("F7")
def test_a_worker_notices_that_nobody_can_write(site: Site) -> None:
    """It writes nothing itself while it waits for hints."""
    with at_work(site) as (relay, _), closing(sqlite3.connect(site.home / "registry.db")) as other:
        assert isinstance(relay, HintRelay)
        registry = relay._supervisor.registry
        insist(lambda: locked(other))
        site.wait_until(lambda: registry.refused_seconds > 0)
        other.rollback()
        site.wait_until(lambda: registry.refused_seconds == 0)


def locked(connection: sqlite3.Connection) -> None:
    """Nobody else can write from now on."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        raise RegistryUnavailable from error


@contextmanager
def at_work(site: Site) -> Iterator[tuple[Thread, ...]]:
    """A relay and a sweeper in this process."""
    settings = WorkerSettings(home=site.home, base=site.base)
    supervisor = Supervisor(settings)
    threads = HintRelay(create_app(settings), supervisor), Sweeper(supervisor)
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        supervisor.stop.set()
        for thread in threads:
            thread.join(PATIENCE)
        supervisor.registry.close()


@pytest.mark.row("S1")
@pytest.mark.parametrize(
    ("seconds", "ignore", "status"),
    [("600", [], -signal.SIGTERM), ("0.2", ["ignore"], 1)],
    ids=["by a signal", "cut off"],
)
def test_a_worker_that_hears_none_of_its_hints_ends(site: Site, seconds: str, ignore: list[str], status: int) -> None:
    """The second one does not hear the signal either."""
    site.submit(pairs("cy"))
    command = [sys.executable, "-c", UNHEARD, seconds, *ignore]
    worker = subprocess.Popen(command, cwd=ROOT, env=site.environment(), start_new_session=True)
    site.processes.append(worker)
    assert worker.wait(PATIENCE) == status


def test_a_worker_allows_itself_and_its_children_all_open_files_that_the_system_does(site: Site) -> None:
    worker = site.start()
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (128, 512))  # long before it has imported anything
    site.wait_until(lambda: "the worker is ready" in site.log())
    assert resource.prlimit(worker.pid, resource.RLIMIT_NOFILE) == (512, 512)


@pytest.mark.row("S11")
def test_a_child_that_starts_while_the_database_is_away_waits_for_it_and_logs_no_caption(site: Site) -> None:
    expansion = site.submit(pairs("cy"))
    lease = site.registry.expansions.take_lease(expansion, f"test:{share_launcher().pid}", 600)
    assert lease is not None
    site.registry.close()
    (site.home / "registry.db").rename(site.home / "registry.away")
    (site.home / "registry.db").mkdir()
    child = site.process("worker.child", expansion, lease.owner, str(lease.fence))
    site.wait_until(lambda: "waiting for the registry" in site.log())
    assert child.poll() is None
    (site.home / "registry.db").rmdir()
    (site.home / "registry.away").rename(site.home / "registry.db")
    assert child.wait(PATIENCE) == 0, site.log()
    assert_once(site, site.registry.expansions.get(expansion))
    assert [row["caption"] for row in pairs("cy") if row["caption"] in site.log()] == []


# --- `python -m worker` with options: a check that changes nothing and says in a sentence what is missing ---


NO_TABLES = "The registry has no tables yet: it is made at the first start.\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root of the settings that does not exist, in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PICTOGLOT_HOME", str(tmp_path / "var"))
    return tmp_path / "var"


@pytest.mark.parametrize(
    "other", [None, "sqlite:///{home}/other.db", "sqlite:///{home}/other.db?timeout=5", "postgresql"]
)
def test_a_check_where_nothing_is_yet_creates_nothing(
    home: Path,
    other: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    if other is not None:
        url = request.getfixturevalue("postgresql_url") if other == "postgresql" else other.format(home=home)
        monkeypatch.setenv("PICTOGLOT_DATABASE_URL", url)
    assert main(["--check"]) == 1
    assert capsys.readouterr() == ("", NO_TABLES)
    assert not home.exists()


def test_a_check_of_a_file_without_our_tables_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir()
    (home / "registry.db").touch()
    assert main(["--check"]) == 1
    assert [(path.name, path.stat().st_size) for path in home.iterdir()] == [("registry.db", 0)]
    with sqlite3.connect(home / "registry.db") as connection:
        connection.execute("CREATE TABLE other (id INTEGER)")
    connection.close()
    assert main(["--check"]) == 1
    assert capsys.readouterr().err == 2 * NO_TABLES


def test_a_check_of_what_is_no_database_is_a_sentence(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir()
    (home / "registry.db").write_bytes(b"no database" * 1000)
    assert main(["--check"]) == 1
    assert capsys.readouterr().err == "The registry's files are damaged: file is not a database\n"


@pytest.mark.parametrize("query", ["", "?timeout=5"])
def test_a_check_of_a_registry_is_well(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], query: str
) -> None:
    open_registry(f"sqlite:///{home / 'registry.db'}").close()
    if query:
        monkeypatch.setenv("PICTOGLOT_DATABASE_URL", f"sqlite:///{home / 'registry.db'}{query}")
    assert main(["--check"]) == 0
    assert capsys.readouterr() == ("The registry answers.\n", "")


@pytest.mark.parametrize("arguments", [["--chek"], ["--chec"], ["check"], ["--check", "more"]])
def test_a_wrong_option_starts_no_worker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setattr("worker.__main__.run", lambda: pytest.fail("a worker was started"))
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert arguments[-1] in capsys.readouterr().err
