"""The indexer: seals, merges and purges the segments of all vector sets, in a child process of one worker at a time.

`Indexing` belongs to the worker, which holds no model and no vectors; its child is `python -m worker.indexer PARENT
SEAL_AT`. A duty in the registry keeps two from doing the same work, compare-and-set from undoing each other's.
"""

import logging
import math
import os
import sys
import time
from collections.abc import Callable

from index.states import FAISS, keeps_dead, last_change, prune, unsealed
from store.data_root import DataRoot
from store.leases import PURGING, SEALING
from store.registry import Registry
from worker.settings import WorkerSettings
from worker.supervisor import PYTHON, STILL_SECONDS, Chore, begin_child, do_duty

_PAUSE = 60.0  # seconds until the next try after one that failed
_LATER = 300.0  # after one that could not seal everything, unless as much has changed again
_LOOK = 3_600.0  # seconds between looks whether deleted rows are to go: what fails is not tried sooner
_DAY = 86_400.0
_log = logging.getLogger("worker.indexer")


class Indexing(Chore):
    """Starts the child when enough has changed, or what was deleted has been kept for long enough."""

    def __init__(self, settings: WorkerSettings, still_seconds: float = STILL_SECONDS) -> None:
        command = (*PYTHON, "worker.indexer", str(os.getpid()), str(settings.seal_at))
        super().__init__(settings, command, SEALING, still_seconds)
        self._seal_at = settings.seal_at
        self._look_at = -math.inf
        self._not_before = 0.0
        self._again_at = math.inf  # the change of the gallery at which one is started before that time

    def is_due(self, registry: Registry, status: int | None) -> bool:
        """Whether there is something to do; after an end only later, or when as much has changed again."""
        sealing = self._sealing_due(registry, status)
        if time.monotonic() < self._look_at:
            return sealing
        self._look_at = time.monotonic() + _LOOK
        return purging_due(registry, self.settings) or sealing

    def _sealing_due(self, registry: Registry, status: int | None) -> bool:
        if status is not None:
            if status != 0:
                _log.warning("the indexer ended with status %d; it is started again later", status)
                self._not_before, self._again_at = time.monotonic() + _PAUSE, math.inf
            else:  # what cannot be sealed yet, such as captions that nobody has encoded, is tried again later
                self._not_before, self._again_at = time.monotonic() + _LATER, last_change(registry) + self._seal_at
        if unsealed(registry) < self._seal_at:
            self._not_before = 0.0
            return False
        return time.monotonic() >= self._not_before or last_change(registry) >= self._again_at


def purging_due(registry: Registry, settings: WorkerSettings) -> bool:
    """Whether rows that were replaced or deleted are to go from what is sealed: at most once in `PURGE_DAYS`.

    An engine removes single rows, so that nothing is written again for it: from there they go each day.
    """
    days = settings.purge_days if settings.index == FAISS else min(settings.purge_days, 1)
    return keeps_dead(registry) and not registry.duties.done_within(PURGING, days * _DAY)


def main(arguments: list[str]) -> int:
    """Seal and purge what is due, and prune the change feed; returns the exit status."""
    from index.engine.choice import open_engine
    from index.gallery import Gallery
    from index.indexer import Indexer
    from index.sets import VectorSets

    settings = begin_child(arguments[0])

    def work(registry: Registry, keep: Callable[[], None]) -> None:
        root = DataRoot(settings.home, settings.store)
        engine = open_engine(settings.index, registry)
        indexer = Indexer(VectorSets(Gallery(registry, root), engine), seal_at=int(arguments[1]))
        indexer.run(keep)
        due = purging_due(registry, settings)
        if due:
            indexer.purge(keep)
            read = {number for release in registry.releases.in_use() for number in release.languages.values()}
            registry.calibrations.forget_others(read)
            registry.duties.done(PURGING)
            _log.info("what was deleted is purged")
        prune(registry)
        if due:
            registry.forget_deleted()

    return do_duty(SEALING, settings.database, settings.lease_seconds, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
