"""One attempt at one expansion: takes the lease, starts the child that works, renews the lease until it has ended.

The registry is the truth and the queue: only the holder of the lease works and writes. The parent does no part of the
work and imports no torch, so that a child killed for its memory is an exit status and nothing else.
"""

import logging
import math
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from threading import Event, Lock

from model.processes import name_owner
from store.data_root import DataRoot, discard_working_files
from store.errors import LeaseLost, PictoglotError
from store.files import make_folder
from store.leases import Lease
from store.registry import Registry, open_registry
from worker.settings import WorkerSettings
from worker.supervisor import STILL_SECONDS, ChildProcess

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.2  # between looks at the child
# -P: a file in the current folder with the name of one of our packages is not ours
_CHILD = (sys.executable, "-P", "-m", "worker.child")
RESUMABLE = 75  # EX_TEMPFAIL: a child's status when it was asked to stop
# From asking a child to stop until it is killed. A step and its checkpoint take a few seconds; a cancelled child needs
# no checkpoint, and its parent may learn of the cancellation a heartbeat late.
STOP_SECONDS = 9
CANCEL_SECONDS = 4
_EXIT_SECONDS = 30  # for a child that has finished its expansion


class Supervisor:
    """The attempts of one worker process, one at a time; `stop` ends the running one with a checkpoint.

    `command` starts the child; expansion, owner and fence are appended. It is killed when it stands still for so long.
    """

    def __init__(
        self, settings: WorkerSettings, command: Sequence[str] = _CHILD, still_seconds: float = STILL_SECONDS
    ) -> None:
        self.settings, self.command, self.still_seconds = settings, command, still_seconds
        self.stop = Event()
        self.owner = name_owner()
        self.heard = 0.0  # when the last hint arrived
        self._busy, self._opening = Lock(), Lock()
        self._registry: Registry | None = None

    @property
    def registry(self) -> Registry:
        """Opened at first use, so that a worker can start before its database; once, for all threads."""
        with self._opening:
            if self._registry is None:
                make_folder(self.settings.home)
                self._registry = open_registry(self.settings.database)
            return self._registry

    @property
    def busy(self) -> bool:
        """Whether an attempt is running."""
        return self._busy.locked()

    def run(self, expansion: str) -> None:
        """Work on the expansion until the attempt ends; returns at once without a lease."""
        self.heard = time.monotonic()
        with self._busy:
            if self.stop.is_set():
                return
            try:
                lease = self.registry.expansions.lease(expansion, self.owner, self.settings.lease_seconds)
            except PictoglotError as error:  # unknown, or the registry is unavailable: another hint will come
                _log.warning("expansion %s cannot be leased: %s", expansion, error.code)
                return
            if lease is not None:
                _log.info("expansion %s: the attempt with fence %d begins", expansion, lease.fence)
                _ChildRun(self, lease).run()


class _ChildRun:
    """One child process under one lease."""

    def __init__(self, supervisor: Supervisor, lease: Lease) -> None:
        self.settings, self.stop, self.command = supervisor.settings, supervisor.stop, supervisor.command
        self.still_seconds = supervisor.still_seconds
        self.registry, self.expansions = supervisor.registry, supervisor.registry.expansions
        self.lease = lease
        self.cancelled = self.asked_to_stop = False
        self.why_ended = ""  # why the child was killed, if it stood still
        self.is_suspect = False  # it may have been another process that locked the registry
        self.kill_at = math.inf  # when the child is killed if it has not ended by itself

    def run(self) -> None:
        child = self._start()
        try:
            code = self._watch(child)
        finally:  # whatever went wrong here, no child is left behind
            if child.poll() is None:
                child.kill()
                child.wait()
        how = f"ended with status {code}"
        with suppress(PictoglotError):  # unknown
            if code < 0 and self._finished():
                how = "had finished, and was ended while it closed"
        _log.info("expansion %s: the child %s", self.lease.expansion, how)
        try:
            self._conclude(code)
            if self._finished():
                discard_working_files(DataRoot(self.settings.home), self.lease.expansion)
        except PictoglotError as error:
            text = "expansion %s: the result could not be recorded; the lease will expire: %s"
            _log.warning(text, self.lease.expansion, error.code)

    def _conclude(self, code: int) -> None:
        """Record what the child could not record itself; when it ends with 0, it has finished the expansion."""
        try:
            if self.cancelled:
                self.expansions.cancelled(self.lease)
            elif code != 0:
                cause = self.why_ended or (f"ended by signal {-code}" if code < 0 else f"ended with status {code}")
                if self.asked_to_stop or code in (RESUMABLE, -signal.SIGTERM):
                    self.expansions.release_lease(self.lease, stopped=True)
                else:
                    self.expansions.release_lease(self.lease, cause=cause, suspect=self.is_suspect)
        except LeaseLost:  # finished just before it was asked to stop, or overtaken
            pass

    def _finished(self) -> bool:
        return self.expansions.get(self.lease.expansion).finished_at is not None

    def _start(self) -> ChildProcess:
        arguments = (self.lease.expansion, self.lease.owner, str(self.lease.fence))
        return ChildProcess([*self.command, *arguments], self.settings.threads, self.still_seconds)

    def _watch(self, child: ChildProcess) -> int:
        """Renew the lease until the child ends; ask it to stop when it shall, and kill it when it does not."""
        renew = time.monotonic()
        while (code := child.wait(_POLL_SECONDS)) is None:
            now = time.monotonic()
            if now >= renew:
                renew = now + self.settings.look_seconds
                self._renew(child)
            if not self.asked_to_stop and (self.cancelled or self.stop.is_set()):
                child.terminate()
                self.asked_to_stop = True
                self.kill_at = min(self.kill_at, now + (CANCEL_SECONDS if self.cancelled else STOP_SECONDS))
            if now >= self.kill_at:
                child.kill()
        return code

    def _renew(self, child: ChildProcess) -> None:
        try:
            self.cancelled |= self.expansions.heartbeat(self.lease, self.settings.lease_seconds)
        except LeaseLost:
            self._let_go(child)
        except PictoglotError as error:  # no other worker can take the lease meanwhile either
            _log.warning("expansion %s: the heartbeat could not be written: %s", self.lease.expansion, error.code)
        if not self.why_ended and (why := child.why_end(self.registry, self.settings.lease_seconds)):
            _log.warning("expansion %s: %s; it is killed", self.lease.expansion, why)
            self.why_ended, self.is_suspect = why, self.registry.refused_seconds > self.settings.lease_seconds
            child.kill()

    def _let_go(self, child: ChildProcess) -> None:
        """Let a child exit that has just finished its expansion; kill one that was overtaken."""
        with suppress(PictoglotError):  # unknown which of the two; the next heartbeat looks again
            if self._finished():
                self.kill_at = min(self.kill_at, time.monotonic() + _EXIT_SECONDS)
            else:  # another attempt works on the same checkpoints
                _log.warning("expansion %s: another worker took the lease; the child is killed", self.lease.expansion)
                child.kill()
