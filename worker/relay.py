"""Sends a hint for every expansion that could run and does not, again and again: a lost hint only causes a delay.

Its thread also starts the indexer and the scrub when they are due.
"""

import logging
import os
import signal
import time
from contextlib import suppress
from threading import Thread, Timer

from celery import Celery
from kombu.exceptions import KombuError

from store.errors import PictoglotError
from worker.indexer import Indexing
from worker.scrubbing import Scrubbing
from worker.supervisor import Supervisor
from worker.tasks import HINT

_DEAF_SECONDS = 60  # idle, with hints sent and none received
_END_SECONDS = 60.0  # from SIGTERM until a worker that has not ended is cut off
_log = logging.getLogger(__name__)


class Relay(Thread):
    """Reads the registry every second; silent while its own worker is busy and could not follow a hint."""

    def __init__(self, app: Celery, supervisor: Supervisor) -> None:
        super().__init__(name="relay", daemon=True)
        self._app, self._supervisor = app, supervisor
        self._unheard: float | None = None  # when the first hint was sent that did not arrive here
        # what a broker answers that is full, or loading its data, is no `KombuError`
        self._refusals = (KombuError, OSError, *app.connection_for_write().channel_errors)
        self._end = Timer(_END_SECONDS, os._exit, [1])  # where Celery hears no signal either
        self._end.daemon = True
        self._chores = (Indexing(supervisor.settings), Scrubbing(supervisor.settings))

    def run(self) -> None:
        """Until the worker stops."""
        while True:
            try:
                self.tick()
                with suppress(PictoglotError):  # `refused_seconds` tells
                    self._supervisor.registry.probe()
                for chore in self._chores:
                    chore.tick(self._supervisor.registry)
            except PictoglotError as error:
                _log.warning("the registry cannot be read: %s (%s)", error.code, error.told)
            except Exception:  # noqa: BLE001 - a worker whose relay has ended looks alive
                _log.exception("unexpected error in the relay; it goes on")
            if self._supervisor.stop.wait(self._supervisor.settings.look_seconds):
                for chore in self._chores:
                    chore.stop()
                return

    def tick(self) -> None:
        """Send a hint for each runnable expansion without a lease."""
        expansions = self._supervisor.registry.expansions
        runnable = [] if self._supervisor.is_busy else expansions.runnable()
        try:
            for expansion in runnable:
                self._app.send_task(HINT, [expansion], retry=False)
        except self._refusals as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            _log.warning("the broker does not accept hints: %s", why)
            runnable = []
        self._end_if_deaf(bool(runnable))

    def _end_if_deaf(self, sent: bool) -> None:
        """End a worker that sends hints and receives none, a known fault of Celery (celery #8030, #10205, #10302).

        Whatever started the worker starts it again.
        """
        now = time.monotonic()
        if not sent:
            self._unheard = None
        elif self._unheard is None or self._supervisor.heard > self._unheard:
            self._unheard = now
        elif now - self._unheard > _DEAF_SECONDS:
            _log.critical("no hint arrived for %d s although hints were sent; the worker ends", _DEAF_SECONDS)
            if not self._end.is_alive():
                self._end.start()
                os.kill(os.getpid(), signal.SIGTERM)
