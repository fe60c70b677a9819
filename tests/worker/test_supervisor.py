"""A parent and its children: which one may end by itself, which one is asked to stop or killed, and when."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread

import psutil
import pytest

from store.errors import RegistryUnavailable
from store.leases import Lease
from store.registry import Registry, open_registry
from store.tables import ExpansionRow
from tests.patience import PATIENCE, bound_time, insist
from tests.worker.harness import Site, pairs
from worker.settings import WorkerSettings
from worker.supervisor import ChildProcess, Supervisor

STILL = 1.0  # seconds
SLEEPS = "import time; time.sleep(600)"
LOCKED = """
import threading, time
threading.Thread(target=lambda: [time.sleep(0.2) for _ in range(9_999)], daemon=True).start()
lock = threading.Lock()
lock.acquire()
lock.acquire()
"""
COMPUTES = "while True: pass"
TELLS = """
import time
from model.processes import pulse
while True:
    pulse()
    time.sleep(0.05)
"""
ASKS_ANOTHER = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"


@contextmanager
def child(script: str, still_seconds: float = STILL) -> Iterator[ChildProcess]:
    """A child that runs this, killed at the end with what it has started."""
    process = ChildProcess([sys.executable, "-c", script], 1, still_seconds)
    try:
        yield process
    finally:
        for each in psutil.Process(process.pid).children():
            each.kill()
        process.kill()
        process.wait()


def explain_end(process: ChildProcess, registry: Registry, looks: int = 60) -> str:
    """What is said within so many looks, of which ten make up the time for which a child may stand still."""
    for _ in range(looks):
        if why := process.explain_end(registry, 600):
            return why
        time.sleep(STILL / 8)
    return ""


@pytest.mark.row("F6")
@pytest.mark.parametrize("script", [SLEEPS, LOCKED], ids=["sleeps", "deadlock"])
def test_a_child_that_stands_still_is_told(registry: Registry, script: str) -> None:
    with child(script) as process:
        assert explain_end(process, registry, looks=9_999) == "the process stood still for 1 s"


@pytest.mark.row("F6")
@pytest.mark.parametrize("script", [COMPUTES, TELLS, ASKS_ANOTHER], ids=["computes", "tells", "asks another"])
def test_a_child_that_goes_on_is_left_alone_until_it_is_stopped(registry: Registry, script: str) -> None:
    with child(script, 4.0) as process:
        assert explain_end(process, registry) == ""
        for each in psutil.Process(process.pid).children():
            each.suspend()
        os.kill(process.pid, signal.SIGSTOP)
        assert explain_end(process, registry, looks=9_999)


@pytest.mark.row("F7")
def test_a_postgresql_that_takes_no_writes_ends_no_child(postgresql_url: str) -> None:
    """It ends by itself whoever stands still in a transaction; this child has not locked it."""
    open_registry(postgresql_url).close()
    read_only = postgresql_url.replace("-csearch_path", "-cdefault_transaction_read_only%3Don+-csearch_path")
    with closing(open_registry(read_only, migrate=False)) as registry, child(TELLS) as process:
        assert registry.refused_seconds == 0
        with pytest.raises(RegistryUnavailable, match="takes no writes"):
            registry.probe()
        assert registry.refused_seconds > 0 and process.explain_end(registry, 0.0) == ""


@pytest.mark.row("F6")
def test_a_parent_that_stood_still_itself_does_not_blame_its_child(registry: Registry) -> None:
    with child(SLEEPS, 10.0) as process:
        process._looked_at -= 600
        assert process.explain_end(registry, 600) == ""


DEAF = (
    "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "pathlib.Path(sys.argv[1]).write_text(sys.argv[5]); time.sleep(float(sys.argv[2]))"
)


@dataclass
class Running:
    """A child that does not listen to SIGTERM, under its parent's lease."""

    lease: Lease
    parent: Thread

    def wait(self) -> None:
        """Until the parent is done with it."""
        self.parent.join(PATIENCE)
        assert not self.parent.is_alive()


@pytest.fixture
def start(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[float], Running]]:
    """A child that exits with 0 after so many seconds, if it is left alone."""
    caplog.set_level(logging.INFO, "worker.supervisor")
    supervisors: list[Supervisor] = []

    def begin(seconds: float) -> Running:
        settings = WorkerSettings(home=site.home, base=site.base)
        fence = tmp_path / "fence"
        supervisors.append(Supervisor(settings, (sys.executable, "-c", DEAF, str(fence), str(seconds))))
        expansion = site.submit(pairs("cy"))
        parent = Thread(target=supervisors[-1].run, args=[expansion])
        parent.start()
        while not (fence.exists() and fence.read_text()):
            assert parent.is_alive()
            time.sleep(0.01)
        return Running(Lease(expansion, supervisors[-1].owner, int(fence.read_text())), parent)

    yield begin
    for each in supervisors:
        each.registry.close()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().partition(": ")[2] for record in caplog.records]


def test_a_child_that_has_finished_exits_by_itself(
    site: Site, start: Callable[[float], Running], caplog: pytest.LogCaptureFixture
) -> None:
    running = start(3)
    insist(lambda: site.registry.expansions.succeed(running.lease, 1, 2, {}))
    running.wait()
    assert said(caplog)[1:] == ["the child ended with status 0"]


def test_a_child_that_does_not_end_after_it_has_finished_is_no_alarm(
    site: Site,
    start: Callable[[float], Running],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.supervisor._EXIT_SECONDS", 0.0)
    running = start(600)
    insist(lambda: site.registry.expansions.succeed(running.lease, 1, 2, {}))
    running.wait()
    assert said(caplog)[1:] == ["the child had finished, and was ended while it closed"]


def test_a_child_that_was_overtaken_is_killed(
    site: Site, start: Callable[[float], Running], caplog: pytest.LogCaptureFixture
) -> None:
    running = start(600)
    while (
        insist(partial(site.registry.expansions.take_lease, running.lease.expansion, "test:2", 600)) is None
    ):  # renewed?
        site.abandon(running.lease.expansion)
    running.wait()
    assert said(caplog)[1:] == [
        "another worker took the lease; the child is killed",
        "the child ended with status -9",
    ]


def test_a_cancelled_child_that_does_not_listen_is_killed_within_ten_seconds(
    site: Site, start: Callable[[float], Running], caplog: pytest.LogCaptureFixture
) -> None:
    running = start(600)
    with bound_time(10):
        insist(lambda: site.registry.expansions.cancel(running.lease.expansion))
        running.wait()
    assert said(caplog)[1:] == ["the child ended with status -9"]
    assert site.registry.expansions.get(running.lease.expansion).state == "cancelled"


@pytest.mark.parametrize(
    ("command", "variable", "said"),
    [
        ((sys.executable, "-m", "worker.child"), "MIN_RECAL", "PICTOGLOT_MIN_RECAL is not a setting"),
        (("/nowhere/python",), "MIN_RECALL", ""),
    ],
    ids=["wrong settings", "no process"],
)
def test_an_attempt_that_cannot_begin_counts_for_nothing(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    variable: str,
    said: str,
) -> None:
    monkeypatch.setenv(f"PICTOGLOT_{variable}", "0")
    monkeypatch.setattr(logging, "raiseExceptions", False)  # by a handler of another test, whose stream is closed
    supervisor = Supervisor(WorkerSettings(home=site.home, base=site.base), command)
    expansion = site.submit(pairs("cy"))
    supervisor.run(expansion)
    supervisor.registry.close()
    with site.registry.read() as session:
        row = session.get_one(ExpansionRow, expansion)
        assert (row.state, row.stalled, row.vanished, row.lease_owner) == ("queued", 0, 0, None)
    err = capfd.readouterr().err
    assert said in err and "Traceback" not in err
