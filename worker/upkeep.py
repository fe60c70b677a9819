"""Work of a worker beside expansions: sealing and purging sets, fitting chances of hits, scrubs, sweeps.

All but the sweep are children, `python -m worker.upkeep seal PARENT SEAL_AT`, `fit PARENT` and `scrub PARENT`: the
worker holds no model and no vectors. A duty in the registry keeps two from doing the same work, compare-and-set from
undoing each other's. A sweep is a thread: it walks the whole data root, and nothing waits for it. Their imports take a
second, so each function has its own.
"""

import logging
import math
import os
import sys
import time
from collections.abc import Callable
from threading import Thread
from typing import Any

from index.scrub_report import load_report, name_duty
from index.set_states import FAISS, count_unsealed, has_dead_rows, prune_feed
from model.languages import ENGLISH
from store.bases import Encoding
from store.data_root import DataRoot
from store.errors import PictoglotError
from store.leases import FITTING, PURGING, SEALING
from store.registry import Registry
from worker.settings import WorkerSettings
from worker.supervisor import PYTHON, STILL_SECONDS, Chore, Supervisor, begin_child, do_duty

_DAY = 86_400.0
_UNSTEADY = "unsteady"  # what a worker says of the database's clock
_RETRY_SECONDS = 60.0  # seconds until the next try to seal after one that failed
_UNSEALED_SECONDS = 300.0  # after one that could not seal everything, unless as much has changed again
_PURGE_LOOK_SECONDS = 3_600.0  # seconds between looks whether deleted rows are to go: what fails is not tried sooner
# Chances are fitted again after so many changes of the gallery for each picture that they were fitted among, and after
# at least so many, so that a gallery that has just begun is not fitted all the time; less after a fit that failed
# because there were few captions or pictures.
_REFIT_SHARE, REFIT_CHANGES = 0.5, 100
_RETRY_SHARE, _RETRY_CHANGES = 0.05, 10
_FIRST_SCRUB_SECONDS = 600.0  # after the start of a worker, which has other things to do then
_SCRUB_LOOK_SECONDS = 600.0  # between two looks whether a scrub is due
_DUTY_SECONDS = 60.0  # for which the duty to scrub is taken; it is renewed
_log = logging.getLogger("worker.upkeep")


class IndexingChore(Chore):
    """Chore of sealing when enough has changed, and of purging when deleted rows were kept for long enough."""

    def __init__(self, settings: WorkerSettings, still_seconds: float = STILL_SECONDS) -> None:
        self._seal = (*PYTHON, "worker.upkeep", "seal", str(os.getpid()), str(settings.seal_at))
        super().__init__(settings, self._seal, SEALING, still_seconds)
        self._seal_at = settings.seal_at
        self._look_at = -math.inf
        self._not_before = 0.0
        self._again_at = math.inf  # the change of the gallery at which one is started before that time

    def is_due(self, registry: Registry, status: int | None) -> bool:
        """Tell whether there is something to do; after an end only later, or when as much has changed again."""
        due = self._is_seal_due(registry, status)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _PURGE_LOOK_SECONDS
            due |= is_purge_due(registry, self.settings)
        if due:
            with registry.read() as session:  # the child, which has just begun, could not tell
                self.command[len(self._seal) :] = [] if registry.is_steady(session) else [_UNSTEADY]
        return due

    def _is_seal_due(self, registry: Registry, status: int | None) -> bool:
        if status is not None:
            if status != 0:
                self._not_before, self._again_at = time.monotonic() + _RETRY_SECONDS, math.inf
            else:  # what cannot be sealed yet, such as captions that nobody has encoded, is tried again later
                self._not_before = time.monotonic() + _UNSEALED_SECONDS
                self._again_at = registry.read_last_change() + self._seal_at
        if count_unsealed(registry) < self._seal_at:
            self._not_before = 0.0
            return False
        return time.monotonic() >= self._not_before or registry.read_last_change() >= self._again_at


def is_purge_due(registry: Registry, settings: WorkerSettings) -> bool:
    """Tell whether replaced and deleted rows are to go from what is sealed: at most once in `purge_days`.

    From an engine, which removes single rows without writing anything again, they go each day.
    """
    days = settings.purge_days if settings.index == FAISS else min(settings.purge_days, 1)
    return has_dead_rows(registry) and not registry.duties.is_done_within(PURGING, days * _DAY)


def list_languages_to_fit(registry: Registry) -> list[tuple[str, int]]:
    """List the languages for which the chance of a hit is to be fitted, with the versions that serve them.

    English comes first: the fits of others lean on it.
    """
    encoding, base = registry.encodings.find_current(), registry.bases.find_serving()
    change = registry.read_last_change()
    if encoding is None or base is None or change < REFIT_CHANGES:
        return []
    tower = Encoding(encoding.backend, encoding.precision).compute_fingerprint(base.image_fingerprint)
    languages = registry.releases.get_serving().languages
    calibrations = registry.versions.read_calibrations(languages.values())

    def is_due(fitted: dict[str, Any]) -> bool:
        failed = fitted["curves"] is None
        share, least = (_RETRY_SHARE, _RETRY_CHANGES) if failed else (_REFIT_SHARE, REFIT_CHANGES)
        has_grown: bool = change - fitted["change"] > max(least, share * fitted["pictures"])
        return has_grown or fitted["tower"] != tower

    due = [pair for pair in languages.items() if pair[1] not in calibrations or is_due(calibrations[pair[1]])]
    return sorted(due, key=lambda pair: (pair[0] != ENGLISH, pair))


class FittingChore(Chore):
    """Chore of fitting the chance of a hit for languages that need it."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings, (*PYTHON, "worker.upkeep", "fit", str(os.getpid())), FITTING)
        self._look_at = time.monotonic() + settings.match_seconds

    def is_due(self, registry: Registry, status: int | None) -> bool:
        """Tell whether it is time to look, and a language is to be fitted."""
        if status is None and time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + self.settings.match_seconds
        return status is None and bool(list_languages_to_fit(registry))


class ScrubbingChore(Chore):
    """Chore of reading the data root to its end once a day."""

    def __init__(self, settings: WorkerSettings, first: float = _FIRST_SCRUB_SECONDS) -> None:
        self._root = DataRoot(settings.home)
        super().__init__(settings, (*PYTHON, "worker.upkeep", "scrub", str(os.getpid())), "")
        self._look_at = time.monotonic() + first

    def is_due(self, registry: Registry, status: int | None) -> bool:
        """Tell whether it is time to look, and the last scrub is a day old, or of a clock that was ahead."""
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + _SCRUB_LOOK_SECONDS
        self.duty = name_duty(self._root)
        report = load_report(self._root)
        return report is None or not 0 <= time.time() - report.finished < _DAY


class Sweeper(Thread):
    """Thread that sweeps once a day; while the registry is away, it tries as often as the relay."""

    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._supervisor = supervisor
        self._is_waiting = False  # for the registry, which is logged once

    def run(self) -> None:
        """Sweep again and again until the worker stops."""
        while not self._supervisor.stop.wait(self._pause_after_sweep()):
            pass

    def _pause_after_sweep(self) -> float:
        """Sweep once; returns the seconds until the next one."""
        try:
            sweep_leftovers(self._supervisor)
            self._is_waiting = False
        except PictoglotError as error:
            level = logging.DEBUG if self._is_waiting else logging.WARNING
            _log.log(level, "files left by crashed workers could not be removed: %s", error.code)
            self._is_waiting = True
            return self._supervisor.settings.look_seconds
        except OSError as error:  # another try would fail, too
            _log.warning("files left by crashed workers could not be removed: %s", type(error).__name__)
        except Exception:  # noqa: BLE001 - tomorrow's sweep is another chance
            _log.exception("unexpected error in the sweep; it is tried again later")
        return _DAY


def sweep_leftovers(supervisor: Supervisor) -> None:
    """Remove what crashes left under the data root, and what was kept of replaced and deleted pictures for processes
    that might have needed it. What cannot be removed now is left to the next time.
    """
    from index.janitor import remove_replaced, sweep
    from index.sets import open_sets

    settings, registry = supervisor.settings, supervisor.registry
    sets = open_sets(registry, DataRoot(settings.home, settings.store), settings.index)
    remove_replaced(sets)
    sweep(sets, kept_seconds=_count_kept_seconds(settings))


def _count_kept_seconds(settings: WorkerSettings) -> float:
    """Count the seconds for which what was deleted can be brought back, and its files are kept."""
    from index.gallery import KEPT_SECONDS

    return min(KEPT_SECONDS, settings.purge_days * _DAY)


def seal(parent: str, seal_at: str, clock: str = "") -> int:
    """Seal and purge what is due, and prune the change feed; returns the exit status.

    Nothing is purged early because the database's `clock` has jumped.
    """
    from index.indexer import Indexer
    from index.sets import open_sets

    settings = begin_child(parent)

    def work(registry: Registry, keep: Callable[[], None]) -> None:
        sets = open_sets(registry, DataRoot(settings.home, settings.store), settings.index)
        indexer = Indexer(sets, seal_at=int(seal_at))
        indexer.run(keep)
        due = (clock != _UNSTEADY or settings.purge_days == 0) and is_purge_due(registry, settings)
        if due:
            sets.gallery.erase_deleted(_count_kept_seconds(settings))
            indexer.purge(keep)
            registry.duties.note_done(PURGING)
            _log.info("what was deleted is purged")
        prune_feed(registry)
        if due:
            registry.truncate_log()

    return do_duty(SEALING, settings.database, settings.lease_seconds, work)


def fit(parent: str) -> int:
    """Fit the chances of hits that are due; returns the exit status."""
    settings = begin_child(parent)

    def work(registry: Registry, keep: Callable[[], None]) -> None:
        if due := list_languages_to_fit(registry):
            from worker.match import MatchFitter  # torch takes seconds

            fitter = MatchFitter(registry, DataRoot(settings.home, settings.store))
            for language, version in due:
                keep()
                fitter.fit(language, version)

    return do_duty(FITTING, settings.database, settings.lease_seconds, work)


def scrub(parent: str) -> int:
    from index.scrub import Scrub
    from index.sets import open_sets
    from index.stored_items import GENTLE, Pace

    settings = begin_child(parent)
    root = DataRoot(settings.home, settings.store)

    def work(registry: Registry, keep: Callable[[], None]) -> None:
        Scrub(open_sets(registry, root, settings.index), Pace(GENTLE, keep)).run()

    return do_duty(name_duty(root), settings.database, _DUTY_SECONDS, work)


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    children: dict[str, Callable[..., int]] = {"seal": seal, "fit": fit, "scrub": scrub}
    sys.exit(children[what](*arguments))
