"""One attempt at one expansion: takes the lease, starts the child that works, renews the lease until it has ended.

The registry is the truth and the queue: whoever holds the lease works, and only he can write. Does no part of the work
itself and imports no torch, so that a child killed for its memory is an exit status and nothing else.
"""

import logging
import math
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import cached_property
from threading import Event, Lock

from index.sweep import discard_working_files
from model.data_root import DataRoot
from model.errors import LeaseLost, PictoglotError
from model.registry import Lease, Registry, open_registry
from worker.settings import WorkerSettings

_log = logging.getLogger(__name__)
_GLANCE = 0.2  # seconds between looks at the child
RESUMABLE = 75  # EX_TEMPFAIL: a child's status when it was asked to stop
# From asking a child to stop to insisting. A step and its checkpoint take a few seconds; a cancelled child needs no
# checkpoint, and its parent may hear of the wish a heartbeat late.
STOP_SECONDS = 9
CANCEL_SECONDS = 4
_EXIT_SECONDS = 30  # for a child that has said its last word


class Supervisor:
    """The attempts of one worker process, one at a time; `stop` ends the running one with a checkpoint."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.stop = Event()
        self.owner = f"{socket.gethostname()}:{os.getpid()}"
        self.heard = 0.0  # when the last hint arrived
        self._busy = Lock()

    @cached_property
    def registry(self) -> Registry:
        """Opened at first use, so that a worker can start before its database."""
        self.settings.home.mkdir(parents=True, exist_ok=True)
        return open_registry(self.settings.database)

    @property
    def busy(self) -> bool:
        """Whether an attempt is running."""
        return self._busy.locked()

    def run(self, expansion: str) -> None:
        """Attempt on the expansion until it is finished or the worker stops; returns at once without a lease."""
        self.heard = time.monotonic()
        with self._busy:
            if self.stop.is_set():
                return
            try:
                lease = self.registry.expansions.lease(expansion, self.owner, self.settings.lease_seconds)
            except PictoglotError as error:  # unknown, or the registry is away or full: another hint will come
                _log.warning("expansion %s cannot be leased: %s", expansion, error.code)
                return
            if lease is not None:
                _log.info("expansion %s: attempt with fence %d", expansion, lease.fence)
                _ChildRun(self, lease).run()


class _ChildRun:
    def __init__(self, attempts: Supervisor, lease: Lease) -> None:
        self.settings, self.stop = attempts.settings, attempts.stop
        self.expansions = attempts.registry.expansions
        self.lease = lease
        self.cancel = self.asked = False
        self.insist = math.inf  # when the child is killed if it has not ended by itself

    def run(self) -> None:
        child = self._start()
        try:
            code = self._watch(child)
        finally:  # whatever went wrong here, no child is left without a keeper
            if child.poll() is None:
                child.kill()
                child.wait()
        _log.info("expansion %s: child ended with %d", self.lease.expansion, code)
        try:
            self._conclude(code)
            if self.expansions.get(self.lease.expansion).finished_at is not None:
                discard_working_files(DataRoot(self.settings.home), self.lease.expansion)
        except PictoglotError as error:
            _log.warning("expansion %s: the lease runs out by itself: %s", self.lease.expansion, error.code)

    def _conclude(self, code: int) -> None:
        """Say what the child could not say itself; it has finished the expansion when it ends with 0."""
        try:
            if self.cancel:
                self.expansions.cancelled(self.lease)
            elif code != 0:
                stopped = self.asked or code in (RESUMABLE, -signal.SIGTERM)
                self.expansions.release_lease(self.lease, cause=None if stopped else _cause(code), stopped=stopped)
        except LeaseLost:  # finished just before it was asked to stop, or overtaken
            pass

    def _start(self) -> subprocess.Popen[bytes]:
        # passive waits: OpenMP's spinning costs a search beside the training a factor of 20 (measured)
        threads = {"OMP_NUM_THREADS": str(self.settings.threads), "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
        # -P: what lies in the current folder under the name of one of our packages is not ours
        command = [sys.executable, "-P", "-m", "worker.child"]
        command += [self.lease.expansion, self.lease.owner, str(self.lease.fence)]
        return subprocess.Popen(command, env={**os.environ, **threads})

    def _watch(self, child: subprocess.Popen[bytes]) -> int:
        """Renew the lease until the child ends; ask it to stop when that is wanted, insist when it does not."""
        renew = time.monotonic()
        while True:
            try:
                return child.wait(timeout=_GLANCE)
            except subprocess.TimeoutExpired:
                now = time.monotonic()
            if now >= renew:
                renew = now + self.settings.heartbeat_seconds
                self._renew(child)
            if not self.asked and (self.cancel or self.stop.is_set()):
                child.terminate()
                self.asked = True
                self.insist = min(self.insist, now + (CANCEL_SECONDS if self.cancel else STOP_SECONDS))
            if now >= self.insist:
                child.kill()

    def _renew(self, child: subprocess.Popen[bytes]) -> None:
        try:
            self.cancel |= self.expansions.heartbeat(self.lease, self.settings.lease_seconds)
        except LeaseLost:
            self._let_go(child)
        except PictoglotError as error:  # nobody else can take the lease meanwhile either
            _log.warning("expansion %s: heartbeat not written: %s", self.lease.expansion, error.code)

    def _let_go(self, child: subprocess.Popen[bytes]) -> None:
        """Let a child exit that has just finished its expansion; end one that was overtaken."""
        with suppress(PictoglotError):  # unknown which of the two: seen at the next heartbeat
            if self.expansions.get(self.lease.expansion).finished_at is not None:
                self.insist = min(self.insist, time.monotonic() + _EXIT_SECONDS)
            else:  # another attempt works on the same checkpoints
                _log.warning("expansion %s: overtaken, its child is ended", self.lease.expansion)
                child.kill()


def _cause(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"ended with status {code}"
