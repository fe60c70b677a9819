"""Worker's children: what starts, watches and ends them. Does no part of their work, and imports no torch.

A child killed for its memory is an exit status and nothing else. One that stands still, stopped or in a deadlock, would
keep its lease through its parent for ever. It counts as going on while it says so (`pulse`) or uses the processor,
since a phase that says nothing for long computes.
"""

import logging
import math
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from threading import Event, Lock

import psutil

from model.processes import PULSE, die_with_parent, name_owner, pulse
from store import logs
from store.data_root import DataRoot, discard_working_files
from store.errors import LeaseLost, PictoglotError, RegistryUnavailable
from store.files import make_folder
from store.leases import Lease
from store.registry import Registry, open_registry
from store.settings import MISCONFIGURED, SettingsError
from worker.settings import WorkerSettings

# OpenMP must not spin in a child: otherwise a search beside it takes 20 times as long
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
PYTHON = (sys.executable, "-P", "-m")  # -P: a file in the current folder named like one of our packages is not ours
STILL_SECONDS = 600.0  # without a sign of life, after which a child is killed
_LEAST_SHARE = 1 / 600  # of a core, with which a child goes on; a thread that renews a duty takes a tenth of that
_LOOKS = 10  # within `still_seconds`, at least
_POLL_SECONDS = 0.2  # between looks at the child of an expansion
RESUMABLE = 75  # EX_TEMPFAIL: a child's status when it was asked to stop
# From asking a child to stop until it is killed. A step and its checkpoint take a few seconds; a cancelled child needs
# no checkpoint, and its parent may learn of the cancellation a heartbeat late.
STOP_SECONDS = 9
CANCEL_SECONDS = 4
_EXIT_SECONDS = 30  # for a child that has finished its expansion
_CHORE_SECONDS = 5.0  # in which the child of a chore ends by itself
_NICE = 10
_log = logging.getLogger(__name__)


def begin_child(parent: str, end: Callable[[], object] = lambda: sys.exit(128 + signal.SIGTERM)) -> WorkerSettings:
    """Load the settings of this child, which from now on ends with its parent and lets searches come first.

    `end` is called when it is asked to end. By default it exits in order: its duty is given back. Where the settings
    are wrong by now, it says so and exits with 78.
    """
    logs.configure("info")  # until the settings say otherwise
    try:
        settings = WorkerSettings.load()
    except SettingsError as error:
        _log.error("%s", error)
        sys.exit(MISCONFIGURED)
    die_with_parent(int(parent))
    os.nice(_NICE)
    signal.signal(signal.SIGTERM, lambda *_: end())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes it on as SIGTERM
    logs.configure(settings.log_level)
    return settings


def do_duty(duty: str, database: str, seconds: float, work: Callable[[Registry, Callable[[], None]], None]) -> int:
    """Do the work of a duty while this process has it; `work` is given the registry, and a function to keep the duty.

    Returns the exit status: 0, also when another process has the duty; 1 when the work failed.
    """
    try:
        with closing(open_registry(database, migrate=False)) as registry:
            duties, name = registry.duties, name_owner()
            with duties.hold(duty, name, seconds) as ours:

                def keep() -> None:
                    pulse()
                    duties.keep(duty, name, seconds)

                if ours:
                    work(registry, keep)
    except LeaseLost:
        _log.warning("%s: another worker does this now", duty)
    except SettingsError as error:
        _log.warning("%s: %s", duty, error)
        return MISCONFIGURED
    except PictoglotError as error:
        _log.warning("%s: failed with %s", duty, error.code)
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is left to end in order; Python would print a traceback
    return 0


class ChildProcess:
    """One child process, from its start to its end."""

    def __init__(self, command: Sequence[str], threads: int, still_seconds: float = STILL_SECONDS) -> None:
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        self._pulses, writing = os.pipe()
        try:
            os.set_blocking(self._pulses, False)
            os.set_blocking(writing, False)
            environment = {**os.environ, **one, **PASSIVE, PULSE: str(writing)}
            self._process = subprocess.Popen(command, env=environment, pass_fds=(writing,))
        except BaseException:
            os.close(self._pulses)
            raise
        finally:
            os.close(writing)
        self.pid, self.terminate, self.kill = self._process.pid, self._process.terminate, self._process.kill
        self._still_seconds = still_seconds
        self._looked_at, self._still_for, self._processor = time.monotonic(), 0.0, 0.0  # all in seconds

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the exit status; returns None when the child still runs after so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.poll()

    def poll(self) -> int | None:
        """Return the exit status; None while the child runs."""
        status = self._process.poll()
        if status is not None and self._pulses >= 0:
            os.close(self._pulses)
            self._pulses = -1
        return status

    def explain_end(self, registry: Registry, lease_seconds: float) -> str:
        """Say why the child is to be killed; returns an empty text while it goes on. Ask a few times a minute at least.

        One that stands still in a transaction has locked everybody else out of SQLite, and nobody can tell which child
        that is: this one ends after a lease's time. PostgreSQL ends such transactions itself.
        """
        if self._has_stood_still():
            return f"the process stood still for {self._still_seconds:.0f} s"
        if registry.is_local and registry.refused_seconds > lease_seconds:
            return f"the registry refused every write for {lease_seconds:.0f} s, and this process may have locked it"
        return ""

    def _has_stood_still(self) -> bool:
        now, processor = time.monotonic(), self._measure_processor_seconds()
        # not the time since the last look: a parent that was stopped together with its child has not watched it
        self._still_for += min(now - self._looked_at, self._still_seconds / _LOOKS)
        self._looked_at, self._processor = now, min(self._processor, processor)
        if self._has_pulsed() or processor - self._processor > _LEAST_SHARE * self._still_seconds:
            self._still_for, self._processor = 0.0, processor
        return self._still_for > self._still_seconds

    def _has_pulsed(self) -> bool:
        pulsed = False
        with suppress(BlockingIOError):
            while os.read(self._pulses, 65_536):
                pulsed = True
        return pulsed

    def _measure_processor_seconds(self) -> float:
        """Measure what the child and the processes that it started have used of the processor."""
        with suppress(psutil.Error):  # one of them has just ended
            child = psutil.Process(self.pid)
            own = child.cpu_times()
            others = [each.cpu_times() for each in child.children(recursive=True)]
            ended = own.children_user + own.children_system
            return float(ended + sum(times.user + times.system for times in (own, *others)))
        return self._processor


class Chore(ABC):
    """Work that one process at a time does for all, in a `child`; None between two."""

    def __init__(
        self, settings: WorkerSettings, command: Sequence[str], duty: str, still_seconds: float = STILL_SECONDS
    ) -> None:
        self.command, self.duty, self.settings = [*command], duty, settings
        self._still_seconds = still_seconds
        self._registry: Registry | None = None
        self.child: ChildProcess | None = None

    @abstractmethod
    def is_due(self, registry: Registry, status: int | None) -> bool:
        """Tell whether a child is needed now; `status` is that with which one has just ended, None when none has."""

    def tick(self, registry: Registry) -> None:
        """Start a child if one is due and none is at work, or kill one that stands still; returns at once."""
        self._registry = registry
        if self.child is not None and self.child.poll() is None:
            if why := self.child.explain_end(registry, self.settings.lease_seconds):
                _log.warning("%s: %s; it is killed", self.duty, why)
                self.child.kill()
            return
        if status := self._end_duty():
            _log.warning("%s: the child ended with status %d; it is started again later", self.duty, status)
        if self.is_due(registry, status) and not registry.refused_seconds:
            self.child = ChildProcess(self.command, self.settings.threads, self._still_seconds)

    @property
    def is_running(self) -> bool:
        return self.child is not None and self.child.poll() is None

    def stop(self) -> None:
        """End the child; what it has registered stays, the rest is done again."""
        if self.child is not None:
            self.child.terminate()
            if self.child.wait(_CHORE_SECONDS) is None:
                self.child.kill()
                self.child.wait()
            self._end_duty()

    def _end_duty(self) -> int | None:
        """Give back the duty of a child that has ended since the last call; returns its exit status."""
        if self.child is None or (status := self.child.poll()) is None:
            return None
        if self._registry is not None:
            with suppress(PictoglotError):  # then it expires
                self._registry.duties.give_back(self.duty, name_owner(self.child.pid))
        self.child = None
        return status


class Supervisor:
    """Manager of one worker process's attempts, one at a time; `stop` ends the running one with a checkpoint.

    `command` starts the child; expansion, owner and fence are appended. It is killed when it stands still for so long.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        command: Sequence[str] = (*PYTHON, "worker.child"),
        still_seconds: float = STILL_SECONDS,
    ) -> None:
        self.settings, self.command, self.still_seconds = settings, command, still_seconds
        self.stop = Event()
        self.owner = name_owner()
        self.last_hint_at = 0.0
        self._busy, self._opening = Lock(), Lock()
        self._registry: Registry | None = None

    @property
    def registry(self) -> Registry:
        """Return the registry, opened at first use, so that a worker can start before its database."""
        with self._opening:
            if self._registry is None:
                make_folder(self.settings.home)
                waits = bool(self.settings.backup_before_upgrade)
                registry = open_registry(self.settings.database, migrate=not waits)
                if waits and registry.describe_migration():
                    registry.close()
                    raise RegistryUnavailable("The service has to back up the registry and migrate it first.")
                self._registry = registry
            return self._registry

    @property
    def is_busy(self) -> bool:
        return self._busy.locked()

    def run(self, expansion: str) -> None:
        """Work on the expansion until the attempt ends; returns at once without a lease."""
        self.last_hint_at = time.monotonic()
        with self._busy:
            if self.stop.is_set():
                return
            try:
                lease = self.registry.expansions.take_lease(expansion, self.owner, self.settings.lease_seconds)
            except PictoglotError as error:  # unknown, or the registry is unavailable: another hint will come
                _log.warning("expansion %s cannot be leased: %s", expansion, error.code)
                return
            if lease is not None:
                _log.info("expansion %s: the attempt with fence %d begins", expansion, lease.fence)
                self._work(lease)

    def _work(self, lease: Lease) -> None:
        try:
            child = _LeasedChild(self, lease)
        except OSError as error:  # no memory for a process, or no file for its pipe
            _log.warning("expansion %s: no child could be started: %s", lease.expansion, error.strerror)
            with suppress(PictoglotError):  # then it expires
                self.registry.expansions.give_back_lease(lease, stopped=True)
        else:
            child.run()


class _LeasedChild:
    """Child of one attempt, whose lease is renewed until it has ended."""

    def __init__(self, supervisor: Supervisor, lease: Lease) -> None:
        self.settings, self.stop = supervisor.settings, supervisor.stop
        self.registry, self.expansions = supervisor.registry, supervisor.registry.expansions
        self.lease = lease
        self.is_cancelled = self.is_ending = False  # `is_ending`: it was asked to stop
        self.why_killed = ""  # if it stood still
        self.is_suspect = False  # it may have been another process that locked the registry
        self.kill_at = math.inf  # when the child is killed if it has not ended by itself
        command = (*supervisor.command, lease.expansion, lease.owner, str(lease.fence))
        self.child = ChildProcess(command, self.settings.threads, supervisor.still_seconds)

    def run(self) -> None:
        """Watch the child to its end, and record what it could not record itself."""
        try:
            status = self._watch()
        finally:  # whatever went wrong here, no child is left behind
            if self.child.poll() is None:
                self.child.kill()
                self.child.wait()
        end = f"ended with status {status}"
        with suppress(PictoglotError):  # unknown
            if status < 0 and self._is_finished():
                end = "had finished, and was ended while it closed"
        _log.info("expansion %s: the child %s", self.lease.expansion, end)
        try:
            with suppress(LeaseLost):  # finished just before it was asked to stop, or overtaken
                self._give_back(status)
            if self._is_finished():
                discard_working_files(DataRoot(self.settings.home), self.lease.expansion)
        except PictoglotError as error:
            text = "expansion %s: the result could not be recorded; the lease will expire: %s"
            _log.warning(text, self.lease.expansion, error.code)

    def _watch(self) -> int:
        """Renew the lease until the child ends; ask it to stop when it shall, and kill it when it does not."""
        renew_at = time.monotonic()
        while (status := self.child.wait(_POLL_SECONDS)) is None:
            now = time.monotonic()
            if now >= renew_at:
                renew_at = now + self.settings.look_seconds
                self._renew()
            if not self.is_ending and (self.is_cancelled or self.stop.is_set()):
                self.child.terminate()
                self.is_ending = True
                self.kill_at = min(self.kill_at, now + (CANCEL_SECONDS if self.is_cancelled else STOP_SECONDS))
            if now >= self.kill_at:
                self.child.kill()
        return status

    def _renew(self) -> None:
        try:
            self.is_cancelled |= self.expansions.renew_lease(self.lease, self.settings.lease_seconds)
        except LeaseLost:
            self._let_go()
        except PictoglotError as error:  # no other worker can take the lease meanwhile either
            _log.warning("expansion %s: the heartbeat could not be written: %s", self.lease.expansion, error.code)
        if not self.why_killed and (why := self.child.explain_end(self.registry, self.settings.lease_seconds)):
            _log.warning("expansion %s: %s; it is killed", self.lease.expansion, why)
            self.why_killed, self.is_suspect = why, self.registry.refused_seconds > self.settings.lease_seconds
            self.child.kill()

    def _let_go(self) -> None:
        """Let a child exit that has just finished its expansion; kill one that was overtaken."""
        with suppress(PictoglotError):  # unknown which of the two; the next heartbeat looks again
            if self._is_finished():
                self.kill_at = min(self.kill_at, time.monotonic() + _EXIT_SECONDS)
            else:  # another attempt works on the same checkpoints
                _log.warning("expansion %s: another worker took the lease; the child is killed", self.lease.expansion)
                self.child.kill()

    def _give_back(self, status: int) -> None:
        """Give the lease back, unless the child has ended the expansion itself, which its status 0 says."""
        if self.is_cancelled:
            self.expansions.end_as_cancelled(self.lease)
        elif status != 0 and (self.is_ending or status in (RESUMABLE, MISCONFIGURED, -signal.SIGTERM)):
            self.expansions.give_back_lease(self.lease, stopped=True)
        elif status != 0:
            cause = self.why_killed or (f"ended by signal {-status}" if status < 0 else f"ended with status {status}")
            self.expansions.give_back_lease(self.lease, cause=cause, suspect=self.is_suspect)

    def _is_finished(self) -> bool:
        return self.expansions.get(self.lease.expansion).finished_at is not None
