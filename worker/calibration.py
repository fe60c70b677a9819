"""Calibration: with what chance hits are what is meant, in a child process of one worker at a time.

Each language that serves is measured once as its version reads it, and again when the gallery has changed much (at all,
where chances could not be told, or `PURGE_DAYS` after it was measured, as its sample may have vectors of deleted
pictures) or has vectors of another encoding.
`Calibrating` belongs to the worker; `python -m worker.calibration PARENT` is the child.
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import select

from index.states import last_change
from model.languages import ENGLISH
from store.calibrations import Read
from store.clock import now
from store.data_root import DataRoot
from store.leases import CALIBRATING
from store.registry import Registry
from worker.settings import WorkerSettings
from worker.supervisor import PYTHON, Chore, begin_child, do_duty

GROWTH = 0.5  # changes of the gallery for each picture that was measured, after which it is measured again
FEW = 100  # and at least so many, so that a gallery that has just begun is not measured all the time
AGAIN = 10  # pauses between looks, until what could not be told is measured again
_DUTY_SECONDS = 60.0  # for which the duty is taken; it is renewed
_log = logging.getLogger("worker.calibration")


class Calibrating(Chore):
    """Starts the child when a language is due; looks every `calibrate_seconds`, the first time after as long."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings, (*PYTHON, "worker.calibration", str(os.getpid())), CALIBRATING)
        self._pause, self._days = settings.calibrate_seconds, settings.purge_days
        self._next = time.monotonic() + self._pause

    def is_due(self, registry: Registry, status: int | None) -> bool:
        """Whether it is time to look, and a language is to be measured."""
        if status:
            _log.warning("the calibration ended with status %d; it is started again later", status)
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._pause
        return bool(due(registry, self._pause, self._days))


def due(registry: Registry, pause: float = 30.0, purge_days: int = 30) -> list[Read]:
    """The languages that serve and are to be measured, with their versions; English first, which others lean on.

    One whose chances could not be told (few captions, few pictures) is due after any change of the gallery, but only
    `AGAIN` pauses between looks, of `pause` seconds, after it was measured.
    """
    encoding, change = registry.encodings.current(), last_change(registry)
    if encoding is None or change < FEW:
        return []
    serving = registry.releases.serving()
    known, waiting = registry.calibrations.of(serving.languages), []
    with registry.read() as session:
        moment = session.scalars(select(now())).one()
    again, renewed = timedelta(seconds=AGAIN * pause), timedelta(days=max(purge_days, 1))
    for language, version in sorted(serving.languages.items(), key=lambda read: (read[0] != ENGLISH, read)):
        record = known.get((language, version))
        if (
            record is None
            or record.encoding != encoding.number
            or change - record.change > max(FEW, GROWTH * record.pictures)
            # a wrong clock may have written a moment that is still to come
            or (
                change != record.change
                and not timedelta() <= moment - record.created_at <= (again if record.curves is None else renewed)
            )
        ):
            waiting.append((language, version))
    return waiting


def main(arguments: list[str]) -> int:
    """Measure what is due; returns the exit status."""
    from worker.calibrate import Calibrator  # torch takes seconds, and settings may be wrong

    settings = begin_child(arguments[0])

    def work(registry: Registry, keep: Callable[[], None]) -> None:
        root = DataRoot(settings.home, settings.store)
        for language, version in due(registry, settings.calibrate_seconds, settings.purge_days):
            keep()
            Calibrator(registry, root).measure(language, version)

    return do_duty(CALIBRATING, settings.database, _DUTY_SECONDS, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
