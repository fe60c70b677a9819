"""A child process of the worker for work that one process at a time does for all. Decides neither when nor what.

The worker itself holds no model and no vectors. The child takes a duty in the registry; when it has ended, however, the
duty is given back.
"""

import logging
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing, suppress

from model.processes import die_with_parent, name_owner
from store import logs
from store.errors import LeaseLost, PictoglotError
from store.registry import Registry, open_registry
from store.settings import MISCONFIGURED, SettingsError
from worker.settings import WorkerSettings
from worker.supervisor import STILL_SECONDS, ChildProcess, pulse

_NICE = 10
_GRACE = 5.0  # seconds in which a child ends by itself
_log = logging.getLogger("worker.chore")


class Chore(ABC):
    """The `child` of one module, `python -m MODULE PARENT`, which does the work of one duty; None between two."""

    def __init__(self, module: str, duty: str, settings: WorkerSettings, still_seconds: float = STILL_SECONDS) -> None:
        self._command = [sys.executable, "-P", "-m", module, str(os.getpid())]
        self._duty, self._settings, self._still_seconds = duty, settings, still_seconds
        self._registry: Registry | None = None
        self.child: ChildProcess | None = None

    @abstractmethod
    def due(self, registry: Registry, status: int | None) -> bool:
        """Whether a child is needed now; `status` is that with which one has just ended, None when none has."""

    def tick(self, registry: Registry) -> None:
        """Start a child if one is due and none is at work, and kill one that stands still; returns at once."""
        self._registry = registry
        if self.child is not None and self.child.poll() is None:
            if why := self.child.why_end(registry, self._settings.lease_seconds):
                _log.warning("%s: %s; it is killed", self._duty, why)
                self.child.kill()
        elif self.due(registry, self._ended()) and not registry.refused_seconds:
            self.child = ChildProcess(self._command, self._settings.threads, self._still_seconds)

    @property
    def running(self) -> bool:
        """Whether a child is at work."""
        return self.child is not None and self.child.poll() is None

    def stop(self) -> None:
        """End the child; what it has registered stays, the rest is done again."""
        if self.child is not None:
            self.child.end(_GRACE)
            self._ended()

    def _ended(self) -> int | None:
        """The exit status of a child that has ended since this was asked last; its duty is given back."""
        if self.child is None or (status := self.child.poll()) is None:
            return None
        if self._registry is not None:
            with suppress(PictoglotError):  # then it expires
                self._registry.duties.give_back(self._duty, name_owner(self.child.pid))
        self.child = None
        return status


def begin(parent: str, end: Callable[[], object] = lambda: sys.exit(128 + signal.SIGTERM)) -> WorkerSettings:
    """The settings of a child, which from now on ends with its parent and lets searches come first.

    `end` is called when it is asked to end; by default it ends in order: what it has registered stays, and the duty is
    given back.
    """
    settings = WorkerSettings.load()
    die_with_parent(int(parent))
    os.nice(_NICE)
    signal.signal(signal.SIGTERM, lambda *_: end())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes it on as SIGTERM
    logs.configure(settings.log_level)
    return settings


def perform(duty: str, database: str, seconds: float, work: Callable[[Registry, Callable[[], None]], None]) -> int:
    """Do the work of a duty while this process has it; `work` is given the registry, and what keeps the duty (`held`).

    Returns the exit status: 0, also when another process has the duty; 1 when the work failed.
    """
    try:
        with closing(open_registry(database, migrate=False)) as registry:
            duties, name = registry.duties, name_owner()
            with duties.held(duty, name, seconds) as ours:

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
    return 0
