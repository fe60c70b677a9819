"""Children that stand still, stopped or in a deadlock: who is ended, who is not, and that the work goes on."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psutil
import pytest

from store.errors import RegistryUnavailable
from store.registry import Registry, open_registry
from worker.supervisor import ChildProcess

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
from worker.supervisor import pulse
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
        process._looked -= 600
        assert process.explain_end(registry, 600) == ""
