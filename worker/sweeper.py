"""Removes the files left by crashed processes when a worker starts, and then once a day.

In a thread of its own: a sweep walks the whole data root, and nothing waits for it. What it imports takes a second, so
that is left to it, too.
"""

import logging
from threading import Thread

from store.data_root import DataRoot
from store.errors import PictoglotError
from worker.supervisor import Supervisor

_SECONDS = 86_400.0
_log = logging.getLogger(__name__)


class Sweeper(Thread):
    """Sweeps again and again; while the registry is away, it tries as often as the relay."""

    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._supervisor = supervisor

    def run(self) -> None:
        """Until the worker stops."""
        while not self._supervisor.stop.wait(self._pause_after_sweep()):
            pass

    def _pause_after_sweep(self) -> float:
        """Sweep once; returns the seconds until the next one."""
        try:
            sweep_left_over(self._supervisor)
        except PictoglotError as error:
            _log.warning("files left by crashed workers could not be removed: %s", error.code)
            return self._supervisor.settings.look_seconds
        except OSError as error:  # another try would fail, too
            _log.warning("files left by crashed workers could not be removed: %s", type(error).__name__)
        except Exception:  # noqa: BLE001 - tomorrow's sweep is another chance
            _log.exception("unexpected error in the sweep; it is tried again later")
        return _SECONDS


def sweep_left_over(supervisor: Supervisor) -> None:
    """Remove what crashes left under the data root; what cannot be removed now is left to the next time.

    Before that, what was kept of replaced and deleted pictures for processes that might have needed it.
    """
    from index.engine.choice import open_engine
    from index.gallery import KEPT_SECONDS, Gallery
    from index.sets import VectorSets
    from index.sweep import forget_replaced, sweep

    settings, registry = supervisor.settings, supervisor.registry
    root = DataRoot(settings.home, settings.store)
    sets = VectorSets(Gallery(registry, root), open_engine(settings.index, registry))
    forget_replaced(sets)
    sweep(sets, kept=min(KEPT_SECONDS, settings.purge_days * 86_400.0))
