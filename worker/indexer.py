"""The indexer: seals and merges the segments of all vector sets, in a child process of one worker at a time.

`Indexing` belongs to the worker, which holds no model and no vectors; `python -m worker.indexer PARENT` is the child. A
duty in the registry keeps two from doing the same work, and compare-and-set keeps them from undoing each other's.
"""

import logging
import math
import sys
import time
from contextlib import closing

from index.states import last_change, prune, unsealed
from model.data_root import DataRoot
from model.errors import LeaseLost, PictoglotError
from model.registry import Registry, open_registry
from model.registry.duties import SEALING
from model.settings import MISCONFIGURED, SettingsError
from worker.chore import Chore, begin, owner
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
    """Seal what is due and prune the change feed. Exit status 0, also when another has the duty; 1 when it failed."""
    from index.gallery import Gallery
    from index.indexer import Indexer
    from index.sets import VectorSets
    from index.states import open_engine

    settings, name = begin(arguments[0]), owner()
    try:
        with closing(open_registry(settings.database, migrate=False)) as registry:
            duties = registry.duties
            with duties.held(SEALING, name, settings.indexer_seconds) as ours:
                if not ours:
                    return 0
                root = DataRoot(settings.home, settings.store)
                engine = open_engine(settings.index, registry)
                indexer = Indexer(VectorSets(Gallery(registry, root), engine), seal_at=settings.seal_at)
                indexer.run(lambda: duties.keep(SEALING, name, settings.indexer_seconds))
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
