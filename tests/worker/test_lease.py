"""A parent and its child: who is waited for, who is asked, who is ended, and how soon."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.registry import Lease
from tests.worker.harness import Site, pairs
from worker.lease import CANCEL_SECONDS, STOP_SECONDS, Supervisor, _ChildRun
from worker.settings import WorkerSettings

DEAF = (
    "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "pathlib.Path(sys.argv[1]).touch(); time.sleep(float(sys.argv[2]))"
)


@pytest.fixture
def lease(site: Site) -> Lease:
    lease = site.registry.expansions.lease(site.submit(pairs("cy")), "test:1", 600)
    assert lease is not None
    return lease


@pytest.fixture
def attempt(site: Site, lease: Lease) -> Iterator[_ChildRun]:
    attempts = Supervisor(WorkerSettings(home=site.home, base=site.base, heartbeat_seconds=0.1))
    yield _ChildRun(attempts, lease)
    attempts.registry.close()


def child(tmp_path: Path, seconds: float) -> subprocess.Popen[bytes]:
    """A process that does not listen and exits with 0 after `seconds`."""
    ready = tmp_path / "ready"
    process = subprocess.Popen([sys.executable, "-c", DEAF, str(ready), str(seconds)])
    while not ready.exists():
        assert process.poll() is None
        time.sleep(0.01)
    return process


def test_a_child_that_has_finished_exits_by_itself(
    site: Site, attempt: _ChildRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site.registry.expansions.succeed(attempt.lease, 1, 2, {})
    assert attempt._watch(child(tmp_path, 1)) == 0
    assert caplog.records == []


def test_a_child_that_was_overtaken_is_ended(site: Site, attempt: _ChildRun, tmp_path: Path) -> None:
    site.abandon(attempt.lease.expansion)
    assert site.registry.expansions.lease(attempt.lease.expansion, "test:2", 600) is not None
    assert attempt._watch(child(tmp_path, 20)) == -signal.SIGKILL


def test_a_cancelled_child_that_does_not_listen_is_ended_within_ten_seconds(
    site: Site, attempt: _ChildRun, tmp_path: Path
) -> None:
    deaf = child(tmp_path, 600)
    site.registry.expansions.cancel(attempt.lease.expansion)
    began = time.monotonic()
    assert attempt._watch(deaf) == -signal.SIGKILL
    assert time.monotonic() - began < 10


def test_the_patience_with_a_child_fits_into_ten_seconds() -> None:
    assert WorkerSettings().heartbeat_seconds + CANCEL_SECONDS < 10
    assert STOP_SECONDS < 10
