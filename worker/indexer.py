"""The indexer: seals, merges and purges segments and fits chances of hits, in a child process of one worker at a time.

`Indexing` belongs to the worker, which holds no model and no vectors; its child is `python -m worker.indexer PARENT
SEAL_AT`. A duty in the registry keeps two from doing the same work, compare-and-set from undoing each other's.
"""

import logging
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from index.states import FAISS, keeps_dead, last_change, prune, unsealed
from model.languages import ENGLISH
from store.data_root import DataRoot
from store.leases import FITTING, PURGING, SEALING
from store.registry import Registry
from worker.settings import WorkerSettings
from worker.supervisor import PYTHON, STILL_SECONDS, Chore, begin_child, do_duty

_PAUSE = 60.0  # seconds until the next try after one that failed
_LATER = 300.0  # after one that could not seal everything, unless as much has changed again
_LOOK = 3_600.0  # seconds between looks whether deleted rows are to go: what fails is not tried sooner
_DAY = 86_400.0
GROWTH = 0.5  # changes of the gallery for each picture that chances were fitted among, after which they are again
SLIGHT = 0.05  # where they could not be told, because there were few captions or pictures
FEW, FEWEST = 100, 10  # and at least so many, so that a gallery that has just begun is not fitted all the time
_log = logging.getLogger("worker.indexer")


class Indexing(Chore):
    """Starts the child when enough has changed, or what was deleted has been kept for long enough."""

    def __init__(self, settings: WorkerSettings, still_seconds: float = STILL_SECONDS) -> None:
        command = (*PYTHON, "worker.indexer", str(os.getpid()), str(settings.seal_at))
        super().__init__(settings, command, SEALING, still_seconds)
        self._seal_at = settings.seal_at
        self._look_at, self._fit_at = -math.inf, time.monotonic() + settings.match_seconds
        self._not_before = 0.0
        self._again_at = math.inf  # the change of the gallery at which one is started before that time

    def is_due(self, registry: Registry, status: int | None) -> bool:
        """Whether there is something to do; after an end only later, or when as much has changed again."""
        due = self._sealing_due(registry, status)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK
            due |= purging_due(registry, self.settings)
        if time.monotonic() >= self._fit_at:
            self._fit_at = time.monotonic() + self.settings.match_seconds
            due |= bool(unfitted(registry))
        return due

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


def unfitted(registry: Registry) -> list[tuple[str, int]]:
    """The languages for which the chance of a hit is to be fitted, with the versions that serve them.

    English comes first, which others lean on.
    """
    encoding, change = registry.encodings.current(), last_change(registry)
    if encoding is None or change < FEW:
        return []
    languages = registry.releases.serving().languages
    matches = registry.versions.matches(languages.values())

    def is_due(match: dict[str, Any]) -> bool:
        share, least = (SLIGHT, FEWEST) if match["curves"] is None else (GROWTH, FEW)
        grown: bool = change - match["change"] > max(least, share * match["pictures"])
        return grown or match["encoding"] != encoding.number

    due = [read for read in languages.items() if read[1] not in matches or is_due(matches[read[1]])]
    return sorted(due, key=lambda read: (read[0] != ENGLISH, read))


def main(arguments: list[str]) -> int:
    """Seal, purge and fit what is due, and prune the change feed; returns the exit status."""
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
            registry.duties.done(PURGING)
            _log.info("what was deleted is purged")
        prune(registry)
        if due:
            registry.forget_deleted()

    def fit(registry: Registry, keep: Callable[[], None]) -> None:
        if due := unfitted(registry):
            from worker.match import MatchFitter  # torch takes seconds

            fitter = MatchFitter(registry, DataRoot(settings.home, settings.store))
            for language, version in due:
                keep()
                fitter.fit(language, version)

    sealed = do_duty(SEALING, settings.database, settings.lease_seconds, work)
    return sealed or do_duty(FITTING, settings.database, settings.lease_seconds, fit)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
