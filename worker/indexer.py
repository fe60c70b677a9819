"""The indexer: seals and merges the segments of all vector sets, in a child process of one worker at a time.

`Indexing` belongs to the worker, which holds no model and no vectors; `python -m worker.indexer PARENT` is the child. A
duty in the registry keeps two from doing the same work, and compare-and-set keeps them from undoing each other's.
"""

import logging
import math
import sys
import time
from collections.abc import Callable

from index.states import last_change, prune, unsealed
from model.data_root import DataRoot
from model.registry import Registry
from model.registry.duties import SEALING
from worker.chore import Chore, begin, perform
from worker.settings import WorkerSettings

_PAUSE = 60.0  # seconds until the next try after one that failed
_LATER = 300.0  # after one that could not seal everything, unless as much has changed again
_log = logging.getLogger("worker.indexer")


class Indexing(Chore):
    """Starts the child when enough has changed."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__("worker.indexer", SEALING, settings)
        self._seal_at = settings.seal_at
        self._not_before = 0.0
        self._again_at = math.inf  # the change of the gallery at which one is started before that time

    def due(self, registry: Registry, status: int | None) -> bool:
        """Whether enough waits; after an end only later, or when as much has changed again."""
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


def main(arguments: list[str]) -> int:
    """Seal what is due and prune the change feed; returns the exit status."""
    from index.gallery import Gallery
    from index.indexer import Indexer
    from index.sets import VectorSets
    from index.states import open_engine

    settings = begin(arguments[0])

    def work(registry: Registry, keep: Callable[[], None]) -> None:
        root = DataRoot(settings.home, settings.store)
        engine = open_engine(settings.index, registry)
        Indexer(VectorSets(Gallery(registry, root), engine), seal_at=settings.seal_at).run(keep)
        prune(registry)

    return perform(SEALING, settings.database, settings.indexer_seconds, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
