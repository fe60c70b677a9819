"""The indexer: seals and merges the segments of all vector sets, in a child process of one worker at a time.

`Indexing` belongs to the worker, which holds no model and no vectors; `python -m worker.indexer PARENT` is the child. A
duty in the registry keeps two from doing the same work, and compare-and-set keeps them from undoing each other's.
"""

import logging
import math
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress

from index.states import last_change, prune, unsealed
from model import logs
from model.data_root import DataRoot
from model.errors import LeaseLost, PictoglotError
from model.processes import die_with_parent
from model.registry import Registry, open_registry
from model.registry.duties import SEALING
from model.settings import MISCONFIGURED, SettingsError
from worker.settings import WorkerSettings

_NICE = 10
_GRACE = 5.0  # seconds in which a child ends by itself
_PAUSE = 60.0  # seconds until the next try after one that failed
_LATER = 300.0  # after one that could not seal everything, unless as much has changed again
_COMMAND = (sys.executable, "-P", "-m", "worker.indexer")
_log = logging.getLogger("worker.indexer")


class Indexing:
    """Starts the child when enough has changed."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None
        self._registry: Registry | None = None
        self._not_before = 0.0
        self._again_at = math.inf  # the change of the gallery at which one is started before that time

    def tick(self, registry: Registry) -> None:
        """Look whether a child is needed; returns at once."""
        self._registry = registry
        seal_at = self._settings.seal_at
        if self._child is not None:
            status = self._child.poll()
            if status is None:
                return
            self._give_back(self._child)
            self._child = None
            if status != 0:
                _log.warning("the indexer ended with status %d; it is started again later", status)
                self._not_before, self._again_at = time.monotonic() + _PAUSE, math.inf
            else:  # what cannot be sealed yet, such as captions that nobody has encoded, is tried again later
                self._not_before, self._again_at = time.monotonic() + _LATER, last_change(registry) + seal_at
        if unsealed(registry) < seal_at:
            self._not_before = 0.0
        elif time.monotonic() >= self._not_before or last_change(registry) >= self._again_at:
            threads = {name: str(self._settings.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
            waiting = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
            command = [*_COMMAND, str(os.getpid())]
            self._child = subprocess.Popen(command, env={**os.environ, **threads, **waiting})

    @property
    def running(self) -> bool:
        """Whether a child is at work."""
        return self._child is not None and self._child.poll() is None

    def stop(self) -> None:
        """End the child; what it has registered stays, the rest is done again."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._give_back(self._child)

    def _give_back(self, child: subprocess.Popen[bytes]) -> None:
        """Leave the duty of a child that has ended, however, to the next one."""
        if self._registry is not None:
            with suppress(PictoglotError):  # then it expires
                self._registry.duties.give_back(SEALING, _owner(child.pid))


def main(arguments: list[str]) -> int:
    """Seal what is due and prune the change feed. Exit status 0, also when another has the duty; 1 when it failed."""
    from index.gallery import Gallery
    from index.indexer import Indexer
    from index.states import open_engine

    settings = WorkerSettings.load()
    die_with_parent(int(arguments[0]))
    os.nice(_NICE)  # searches come first
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this one
    logs.configure(settings.log_level)
    signal.signal(signal.SIGTERM, _end)
    owner = _owner(os.getpid())
    try:
        with closing(open_registry(settings.database, migrate=False)) as registry:
            duties = registry.duties
            with duties.held(SEALING, owner, settings.indexer_seconds) as ours:
                if not ours:
                    return 0
                root = DataRoot(settings.home, settings.store)
                engine = open_engine(settings.index, registry)
                indexer = Indexer(registry, Gallery(registry, root), root, seal_at=settings.seal_at, engine=engine)
                indexer.run(lambda: duties.keep(SEALING, owner, settings.indexer_seconds))
                prune(registry)
    except LeaseLost:
        _log.warning("another worker seals now")
    except SettingsError as error:
        _log.warning("what changed could not be sealed: %s", error)
        return MISCONFIGURED
    except PictoglotError as error:
        _log.warning("what changed could not be sealed: %s", error.code)
        return 1
    return 0


def _end(*_: object) -> None:
    """End this child in order: what it has registered stays, and the duty is given back."""
    raise SystemExit(128 + signal.SIGTERM)


def _owner(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
