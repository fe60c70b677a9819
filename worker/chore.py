"""A child process of the worker for work that one process at a time does for all. Decides neither when nor what.

The worker itself holds no model and no vectors. The child takes a duty in the registry; when it has ended, however, the
duty is given back.
"""

import os
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from contextlib import suppress

from model import logs
from model.errors import PictoglotError
from model.processes import die_with_parent
from model.registry import Registry
from worker.settings import WorkerSettings

_NICE = 10
_GRACE = 5.0  # seconds in which a child ends by itself


class Chore(ABC):
    """The `child` of one module, `python -m MODULE PARENT`, which does the work of one duty; None between two."""

    def __init__(self, module: str, duty: str, settings: WorkerSettings) -> None:
        self._command = [sys.executable, "-P", "-m", module, str(os.getpid())]
        self._duty, self._threads = duty, str(settings.threads)
        self._registry: Registry | None = None
        self.child: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def due(self, registry: Registry, status: int | None) -> bool:
        """Whether a child is needed now; `status` is that with which one has just ended, None when none has."""

    def tick(self, registry: Registry) -> None:
        """Start a child if one is due and none is at work; returns at once."""
        self._registry = registry
        if not self.running and self.due(registry, self._ended()):
            threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), self._threads)
            waiting = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
            self.child = subprocess.Popen(self._command, env={**os.environ, **threads, **waiting})

    @property
    def running(self) -> bool:
        """Whether a child is at work."""
        return self.child is not None and self.child.poll() is None

    def stop(self) -> None:
        """End the child; what it has registered stays, the rest is done again."""
        if self.child is None:
            return
        self.child.terminate()
        try:
            self.child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self._ended()

    def _ended(self) -> int | None:
        """The exit status of a child that has ended since this was asked last; its duty is given back."""
        if self.child is None or (status := self.child.poll()) is None:
            return None
        if self._registry is not None:
            with suppress(PictoglotError):  # then it expires
                self._registry.duties.give_back(self._duty, owner(self.child.pid))
        self.child = None
        return status


def begin(parent: str) -> WorkerSettings:
    """The settings of a child, which from now on ends with its parent and lets searches come first."""
    settings = WorkerSettings.load()
    die_with_parent(int(parent))
    os.nice(_NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this one
    logs.configure(settings.log_level)
    signal.signal(signal.SIGTERM, _end)
    return settings


def owner(pid: int | None = None) -> str:
    """The name of a process on this machine, by default of this one, as the owner of a duty."""
    return f"{socket.gethostname()}:{pid or os.getpid()}"


def _end(*_: object) -> None:
    """End this child in order: what it has registered stays, and the duty is given back."""
    raise SystemExit(128 + signal.SIGTERM)
