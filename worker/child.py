"""The child process that carries out one expansion: `python -m worker.child ID OWNER FENCE`.

Its parent owns the lease, but every write carries the fence, so that a child that was overtaken writes nothing.
Exit status: 0 the expansion is finished (or another worker's), 75 stopped on request and resumable, 78 wrong settings,
1 crashed.
"""

import errno
import logging
import sys
from collections.abc import Callable
from threading import Event

from model.processes import pulse
from store import files
from store.data_root import EXPANSIONS
from store.errors import (
    IndexUnavailable,
    LeaseLost,
    PictoglotError,
    RegistryUnavailable,
    StorageFull,
    StoreUnavailable,
    VersionCorrupt,
)
from store.leases import Lease
from store.logs import export_spans, open_span
from store.registry import open_registry
from worker.attempt import Attempt, Stopped
from worker.evaluate import assess
from worker.gate import GateFailed
from worker.learn import import_language, learn, rebuild
from worker.move import move
from worker.settings import WorkerSettings
from worker.supervisor import RESUMABLE, begin_child

_BY_KIND = {"learn": learn, "assess": assess, "import": import_language, "rebuild": rebuild, "base": move}
_PAUSE_SECONDS = 5.0  # seconds between tries while there is no space, no registry or no store
_MOST_UNREAD = 3  # times that a disk may not give a version's files until they count as damaged
_LOST = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
_log = logging.getLogger("worker.child")


def main(arguments: list[str]) -> int:
    """Run one expansion; the caller holds its lease."""
    expansion, owner, fence = arguments
    stop = Event()
    settings = begin_child(owner.rpartition(":")[2], stop.set)
    # Not the sweeper's job: it leaves everything alone for an hour. The lease is ours, so nobody else writes in this
    # expansion's folder, and what killed attempts left half-written can go at once.
    files.sweep(settings.home / EXPANSIONS / expansion)
    attempt = _open_attempt(settings, Lease(expansion, owner, int(fence)), stop)
    if attempt is None:
        return RESUMABLE
    try:
        with export_spans("pictoglot-worker"):
            return run_to_status(attempt)
    finally:
        attempt.registry.close()


def _open_attempt(settings: WorkerSettings, lease: Lease, stop: Event) -> Attempt | None:
    """Begin the attempt as soon as the registry answers; returns None when asked to stop before that."""
    while not stop.is_set():
        try:
            return Attempt(settings, open_registry(settings.database, migrate=False), lease, stop)
        except RegistryUnavailable:
            _log.warning("waiting for the registry")
            pulse()
            stop.wait(_PAUSE_SECONDS)
    return None


def run_to_status(attempt: Attempt) -> int:
    """Run the attempt, record why it failed if it did, and return what ends it as an exit status."""
    try:
        _run_or_fail(attempt)
        return 0
    except Stopped:
        _log.info("stopped on request; a later attempt goes on from here")
        return RESUMABLE
    except LeaseLost:
        _log.warning("the lease is no longer ours; this attempt writes nothing more")
        return 0
    except Exception:  # noqa: BLE001 - the next attempt may succeed; after three without progress the expansion fails
        _log.exception("crashed")
        return 1


def _run_or_fail(attempt: Attempt) -> None:
    expansion, parent = attempt.expansion, {"traceparent": attempt.expansion.trace or ""}
    about: dict[str, str | int] = {
        "pictoglot.expansion": expansion.id,
        "pictoglot.language": expansion.language,
        "pictoglot.attempt": expansion.attempt,
    }
    try:
        with open_span(expansion.kind, parent, about):
            _do_patiently(attempt, lambda: run(attempt))
    except LeaseLost:
        raise
    except PictoglotError as error:
        # others may name files
        cause = f"{error.code}: {error.detail}" if isinstance(error, GateFailed) else error.code
        _log.warning("expansion %s of %s failed: %s", expansion.id, expansion.language, cause)
        failed = error
        _do_patiently(attempt, lambda: attempt.fail(failed))


def run(attempt: Attempt) -> None:
    """Carry the expansion on from where earlier attempts left it; raises what ends it."""
    _BY_KIND[attempt.expansion.kind](attempt)


def _do_patiently(attempt: Attempt, work: Callable[[], None]) -> None:
    """Do the work again, from the last resumable point, while only space, registry, store or engine is missing.

    So it does where a disk did not give the files of a version, a few times.
    """
    unread = 0
    while True:
        try:
            return work()
        except (StorageFull, RegistryUnavailable, StoreUnavailable, IndexUnavailable) as error:
            missing = error.code
        except VersionCorrupt as error:
            unread += 1
            if unread == _MOST_UNREAD or not _is_unread(error):
                raise
            missing = error.code
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            missing = StorageFull.code
        _log.warning("paused: %s", missing)
        attempt.pause(missing, _PAUSE_SECONDS)


def _is_unread(error: BaseException) -> bool:
    """Tell whether reading failed, which may pass; what is lost, or differs from its hash, stays so."""
    cause = error.__cause__  # of safetensors' own there is no number
    return cause is not None and ((isinstance(cause, OSError) and cause.errno not in _LOST) or _is_unread(cause))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
