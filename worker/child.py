"""The child that carries one expansion through its phases: `python -m worker.child ID OWNER FENCE`.

It owns no lease, its parent does; but every write carries the fence, so that a child that was overtaken writes nothing.
Exit status: 0 the expansion is finished (or another worker's), 75 asked to stop and resumable, 1 crashed.
"""

import ctypes
import errno
import logging
import os
import signal
import sys
from threading import Event
from types import FrameType

from model import logs, storage
from model.errors import LeaseLost, PictoglotError, RegistryUnavailable, StorageFull, StoreUnavailable
from model.registry import Lease, open_registry
from worker.attempt import Attempt, Stopped
from worker.lease import RESUMABLE
from worker.phases import run
from worker.settings import WorkerSettings

_NICE = 10
_PAUSE = 5.0  # seconds between tries while there is no space, no registry or no store
_PR_SET_PDEATHSIG = 1
_log = logging.getLogger("worker.child")


def main(arguments: list[str]) -> int:
    """Run one expansion; the caller holds its lease."""
    expansion, owner, fence = arguments
    settings = WorkerSettings.load()
    _die_with_parent(int(owner.rpartition(":")[2]))
    os.nice(_NICE)  # serving beside training comes first
    stop = _stop_on_sigterm()
    logs.configure(settings.log_level)
    storage.sweep(settings.home / "expansions" / expansion)  # what killed attempts left half-written
    attempt = _opened(settings, Lease(expansion, owner, int(fence)), stop)
    if attempt is None:
        return RESUMABLE
    try:
        return _carry(attempt)
    finally:
        attempt.registry.close()


def _opened(settings: WorkerSettings, lease: Lease, stop: Event) -> Attempt | None:
    """The attempt, as soon as the registry answers; None when it was asked to stop before."""
    while not stop.is_set():
        try:
            return Attempt(settings, open_registry(settings.database, migrate=False), lease, stop)
        except RegistryUnavailable:
            _log.warning("waiting for the registry")
            stop.wait(_PAUSE)
    return None


def _carry(attempt: Attempt) -> int:
    try:
        _patiently(attempt)
        return 0
    except Stopped:
        _log.info("stopped; another attempt goes on from here")
        return RESUMABLE
    except LeaseLost:
        _log.warning("overtaken: a later attempt holds the lease, nothing more is written")
        return 0
    except PictoglotError as error:
        _log.warning("failed: %s", error.code)
        attempt.fail(error)
        return 0
    except Exception:  # noqa: BLE001 - whatever it is, the next attempt may be luckier; three without progress are the end
        _log.exception("crashed")
        return 1


def _patiently(attempt: Attempt) -> None:
    """Run again from the last resumable point as long as only space, the registry or the store is missing."""
    while True:
        try:
            return run(attempt)
        except (StorageFull, RegistryUnavailable, StoreUnavailable) as error:
            missing = error.code
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            missing = StorageFull.code
        _log.warning("paused: %s", missing)
        attempt.pause(missing, _PAUSE)


def _die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the lost lease ends it at its next write."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            os.kill(os.getpid(), signal.SIGKILL)


def _stop_on_sigterm() -> Event:
    stop = Event()

    def ask(_: int, __: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes it on as SIGTERM
    return stop


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
