"""Sends a hint for every expansion that could run and does not, again and again, so that a lost one only delays."""

import logging
import os
import signal
import time
from threading import Thread

from celery import Celery
from kombu.exceptions import KombuError

from index.gallery import Gallery
from index.sweep import sweep
from model.data_root import DataRoot
from model.errors import PictoglotError
from worker.lease import Supervisor
from worker.tasks import HINT

_DEAF_SECONDS = 60  # idle, with hints sent and none received
_log = logging.getLogger(__name__)


class Relay(Thread):
    """Looks into the registry every few seconds; silent while its own worker is busy: nobody here could follow."""

    def __init__(self, app: Celery, attempts: Supervisor) -> None:
        super().__init__(name="relay", daemon=True)
        self._app, self._attempts = app, attempts
        self._unheard: float | None = None  # when the first hint was sent that nothing came back for

    def run(self) -> None:
        """Until the worker stops."""
        while True:
            try:
                self.tick()
            except PictoglotError as error:
                _log.warning("the registry cannot be followed: %s", error.code)
            except Exception:  # noqa: BLE001 - one bad look must not be the last: a worker without a relay looks alive
                _log.exception("the relay goes on")
            if self._attempts.stop.wait(self._attempts.settings.relay_seconds):
                return

    def tick(self) -> None:
        """One look: a hint for each runnable expansion without a lease."""
        expansions = self._attempts.registry.expansions
        runnable = [] if self._attempts.busy else expansions.runnable()
        for expansion in runnable:
            try:
                self._app.send_task(HINT, [expansion], retry=False)
            except (KombuError, OSError) as error:
                _log.warning("the broker does not take hints: %s", type(error).__name__)
                runnable = []
                break
        self._mistrust(bool(runnable))

    def _mistrust(self, sent: bool) -> None:
        """End a worker that sends hints and gets none back, as Celery's came to do three times (celery #8030, #10205,
        #10302); whoever started it starts it again."""
        now = time.monotonic()
        if not sent:
            self._unheard = None
        elif self._unheard is None or self._attempts.heard > self._unheard:
            self._unheard = now
        elif now - self._unheard > _DEAF_SECONDS:
            _log.critical("idle, and no hint arrived for %d s: ending", _DEAF_SECONDS)
            os.kill(os.getpid(), signal.SIGTERM)


def sweep_left_over(supervisor: Supervisor) -> None:
    """Remove what crashes left under the data root; what cannot be removed now is left for the next start."""
    settings, registry = supervisor.settings, supervisor.registry
    root = DataRoot(settings.home, settings.store)
    sweep(root, registry, Gallery(registry, root))
