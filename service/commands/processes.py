"""API and worker as child processes: started, restarted with back-off, stopped. Imports neither."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType

import httpx

from client.terminal import FAILED, MISCONFIGURED

_LOOK = 0.2  # seconds between two checks of the children
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds until a dead child is restarted: doubled each time
_STEADY = 30.0  # a child that lived so many seconds starts again with the first pause
_DEATHS = 6  # in a row before we give up
_GRACE = 20.0  # seconds from SIGTERM to SIGKILL: training writes its checkpoint in this time
_COUNTED_TOGETHER = (
    "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's name: the processes of one port count together there
)
_log = logging.getLogger("pictoglot.up")


@dataclass
class Child:
    """One child process, in a process group of its own so that Ctrl-C reaches it only through us."""

    name: str
    command: list[str]
    done: Callable[[int], None] | None = None  # for a process that runs once: called with its exit status
    more: Mapping[str, str] = field(default_factory=dict)  # further environment variables
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    due: float = 0.0  # when to start it (monotonic clock)

    def start(self, environment: Mapping[str, str]) -> None:
        """Start it. Its log (standard error) goes to the terminal; standard output only of one that runs once."""
        output = None if self.done else subprocess.DEVNULL
        variables = {**environment, **self.more}
        self.process = subprocess.Popen(self.command, env=variables, stdout=output, start_new_session=True)
        self.started = time.monotonic()

    def send_signal(self, sent: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the process, or to its whole group."""
        if self.process is not None and (group or self.process.poll() is None):
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.process.pid, sent)


@dataclass
class Processes:
    """API processes and perhaps a worker, until a signal stops them.

    `ready` is called once, when `/readyz` first answers 200; only then do others of the API start, on the same port.
    """

    address: str
    environment: Mapping[str, str]
    ready: Callable[["Processes"], None]
    services: int = 1
    with_worker: bool = True
    children: list[Child] = field(default_factory=list)
    _counts: Mapping[str, str] = field(default_factory=dict)
    _stops: int = 0

    def run(self) -> int:
        """Return the exit status: 0 after a signal, 78 when a child refused its settings, 1 when one keeps dying."""
        before = {sent: signal.signal(sent, self._stop) for sent in (signal.SIGINT, signal.SIGTERM)}
        with tempfile.TemporaryDirectory(prefix="pictoglot-counts-") as counts:
            if self.services > 1:  # else it counts for itself
                self._counts = {_COUNTED_TOGETHER: counts}
            self.children = [self._make_service()]
            if self.with_worker:
                self.children.append(Child("worker", build_command("worker")))
            try:
                return self._watch()
            finally:
                self._end()
                for sent, handler in before.items():
                    signal.signal(sent, handler)

    def _watch(self) -> int:
        is_ready = False
        while not self._stops:
            for child in list(self.children):
                if (status := self._look(child)) is not None:
                    return status
            if not is_ready and self._is_ready():
                is_ready = True
                self.children += [self._make_service() for _ in range(self.services - 1)]
                self.ready(self)
            time.sleep(_LOOK)
        return 0

    def _make_service(self) -> Child:
        return Child("service", build_command("service"), more=self._counts)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.address}/readyz", timeout=2.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def _look(self, child: Child) -> int | None:
        """Start or restart a child; returns an exit status when everything must end."""
        if child.process is None:
            if time.monotonic() >= child.due:
                child.start(self.environment)
            return None
        status = child.process.poll()
        if status is None:
            return None
        if child.done is not None:
            self.children.remove(child)
            child.done(status)
            return None
        if status == MISCONFIGURED:
            return status
        lived = time.monotonic() - child.started
        child.deaths = 1 if lived >= _STEADY else child.deaths + 1
        if child.deaths >= _DEATHS:
            _log.error("The %s died %d times in a row; see its lines above", child.name, child.deaths)
            return FAILED
        pause = min(_FIRST_PAUSE * 2 ** (child.deaths - 1), _LONGEST_PAUSE)
        _log.warning("The %s ended with status %d; it is restarted in %.0f s", child.name, status, pause)
        child.send_signal(signal.SIGKILL, group=True)  # processes that it may have left
        if self._counts:
            from prometheus_client.multiprocess import mark_process_dead  # late: help needs none of it

            mark_process_dead(child.process.pid, self._counts[_COUNTED_TOGETHER])  # type: ignore[no-untyped-call]
        child.process, child.due = None, time.monotonic() + pause
        return None

    def _stop(self, sent: int, frame: FrameType | None) -> None:
        """Stop the children at the first signal, kill them at the second."""
        self._stops += 1
        for child in self.children:
            child.send_signal(signal.SIGTERM if self._stops == 1 else signal.SIGKILL, group=self._stops > 1)

    def _end(self) -> None:
        """Stop all children and wait for them; kill those that do not stop in time."""
        if not self._stops:  # otherwise they have their signal, and a second one would kill
            for child in self.children:
                child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE
        for child in self.children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _log.warning("The %s did not stop within %.0f s and is killed", child.name, _GRACE)
            child.send_signal(signal.SIGKILL, group=True)
            child.process.wait()


def build_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs one of our modules; -P: never a file of that name in the current folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


def is_port_taken(host: str, port: int) -> bool:
    """Tell whether something listens there already."""
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(kind, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what the server itself does
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
