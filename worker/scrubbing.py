"""The scrub as a chore of the worker: each data root is read once a day, and searches come first.

`Scrubbing` belongs to the worker; `python -m worker.scrubbing PARENT` is the child. What it does is in `index.scrub`.
"""

import logging
import os
import sys
import time
from collections.abc import Callable

from index.damage import duty_of, last
from store.data_root import DataRoot
from store.registry import Registry
from worker.settings import WorkerSettings
from worker.supervisor import PYTHON, Chore, begin_child, do_duty

_DAY = 86_400.0  # seconds between the ends of two scrubs
_FIRST = 600.0  # after the start of a worker, which has other things to do then
_PAUSE = 600.0  # between two looks
_DUTY_SECONDS = 60.0  # for which the duty is taken; it is renewed
_log = logging.getLogger("worker.scrubbing")


class Scrubbing(Chore):
    """Starts the child when the data root has not been read to its end for a day."""

    def __init__(self, settings: WorkerSettings, first: float = _FIRST) -> None:
        self._root = DataRoot(settings.home)
        super().__init__(settings, (*PYTHON, "worker.scrubbing", str(os.getpid())), "")
        self._look_at = time.monotonic() + first

    def is_due(self, registry: Registry, status: int | None) -> bool:
        """Whether it is time to look, and the last scrub is a day old, or of a clock that was ahead."""
        if status:
            _log.warning("the scrub ended with status %d; it is started again later", status)
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + _PAUSE
        self.duty = duty_of(self._root)
        report = last(self._root)
        return report is None or not 0 <= time.time() - report.finished < _DAY


def main(arguments: list[str]) -> int:
    """Read everything once; returns the exit status."""
    from index.engine.choice import open_engine
    from index.examiner import GENTLE, Pace
    from index.gallery import Gallery
    from index.scrub import Scrub
    from index.sets import VectorSets

    settings = begin_child(arguments[0])
    root = DataRoot(settings.home, settings.store)

    def work(registry: Registry, keep: Callable[[], None]) -> None:
        sets = VectorSets(Gallery(registry, root), open_engine(settings.index, registry))
        Scrub(sets, Pace(GENTLE, keep)).run()

    return do_duty(duty_of(root), settings.database, _DUTY_SECONDS, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
