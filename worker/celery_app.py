"""Celery application: how hints travel, who sends them, and what starts and stops with a worker. Imports no torch.

A hint only says "look at this expansion"; the registry decides whether there is work.
"""

import atexit
import logging
import os
import signal
import time
from contextlib import suppress
from importlib import import_module
from threading import Thread, Timer
from typing import Any

from celery import Celery, Task
from celery.signals import setup_logging, worker_init, worker_ready, worker_shutting_down
from kombu.exceptions import KombuError

from store import logs
from store.errors import PictoglotError
from worker.settings import WorkerSettings
from worker.supervisor import STOP_SECONDS, Supervisor
from worker.upkeep import FittingChore, IndexingChore, ScrubbingChore, Sweeper

HINT = "pictoglot.expand"
_POLL_SECONDS = 0.25  # between looks for a hint in memory
_REDIS = {
    # A hint is held while its expansion runs, and may be delivered again after this time: it finds the lease taken and
    # does nothing. A day keeps that rare. Nothing waits for the hint of a killed worker: the relay sends a new one.
    "visibility_timeout": 86_400,
    "socket_connect_timeout": 2,
    "socket_timeout": 10,  # a stalled Redis must not hold the relay for ever
    "socket_keepalive": True,
    "retry_on_timeout": True,
}
_DEAF_SECONDS = 60  # idle, with hints sent and none received
_END_SECONDS = 60.0  # from SIGTERM until a worker that has not ended is cut off
_log = logging.getLogger(__name__)


def create_app(settings: WorkerSettings) -> Celery:
    """Make an application on the broker of the settings; without one, hints stay in the memory of this process."""
    app = Celery("pictoglot", set_as_current=True)
    app.conf.update(
        broker_url=settings.broker_url or "memory://localhost//",
        broker_transport_options=_REDIS if settings.broker_url else {"polling_interval": _POLL_SECONDS},
        broker_connection_timeout=2,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_pool="threads",  # a child process does the work
        worker_concurrency=1,  # one training at a time uses all cores it may
        worker_enable_remote_control=False,
        worker_soft_shutdown_timeout=STOP_SECONDS + 1,
    )
    app.supervisor = Supervisor(settings)
    return app


class HintRelay(Thread):
    """Thread that sends a hint for every expansion that could run and does not: a lost hint only causes a delay.

    It reads the registry every second, and is silent while its own worker is busy and could not follow a hint. It also
    starts the chores that are due.
    """

    def __init__(self, app: Celery, supervisor: Supervisor) -> None:
        super().__init__(name="relay", daemon=True)
        self._app, self._supervisor = app, supervisor
        self._faults = dict[str, str | None]()  # what fails now, and why
        self._unheard_since: float | None = None  # when the first hint was sent that did not arrive here
        self._end = Timer(_END_SECONDS, os._exit, [1])  # where Celery hears no signal either
        self._end.daemon = True
        self._chores = tuple(kind(supervisor.settings) for kind in (IndexingChore, FittingChore, ScrubbingChore))

    def run(self) -> None:
        """Send hints and start chores until the worker stops."""
        while True:
            try:
                self.send_hints()
                with suppress(PictoglotError):  # `refused_seconds` tells
                    self._supervisor.registry.probe()
                for chore in self._chores:
                    chore.tick(self._supervisor.registry)
                self._note_fault("the registry cannot be read", None)
            except PictoglotError as error:
                self._note_fault("the registry cannot be read", f"{error.code} ({error.full_detail})")
            except Exception:  # noqa: BLE001 - a worker whose relay has ended looks alive
                _log.exception("unexpected error in the relay; it goes on")
            if self._supervisor.stop.wait(self._supervisor.settings.look_seconds):
                for chore in self._chores:
                    chore.stop()
                return

    def send_hints(self) -> None:
        """Send a hint for each runnable expansion without a lease."""
        expansions = self._supervisor.registry.expansions
        runnable = [] if self._supervisor.is_busy else expansions.list_runnable()
        try:
            for expansion in runnable:
                self._app.send_task(HINT, [expansion], retry=False)
            if runnable:
                self._note_fault("the broker does not accept hints", None)
        except (KombuError, OSError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            self._note_fault("the broker does not accept hints", why)
            runnable = []
        self._end_if_deaf(bool(runnable))

    def _note_fault(self, what: str, why: str | None) -> None:
        """Log a fault when it begins or changes, in between for debugging, and when it has ended (without a `why`)."""
        before, self._faults[what] = self._faults.get(what), why
        if why or before:
            _log.log(logging.WARNING if why != before else logging.DEBUG, "%s: %s", what, why or "no longer")

    def _end_if_deaf(self, has_sent: bool) -> None:
        """End a worker that sends hints and receives none, so that whatever started it starts it again.

        This is a known fault of Celery (celery #8030, #10205, #10302).
        """
        now = time.monotonic()
        if not has_sent:
            self._unheard_since = None
        elif self._unheard_since is None or self._supervisor.last_hint_at > self._unheard_since:
            self._unheard_since = now
        elif now - self._unheard_since > _DEAF_SECONDS:
            _log.critical("no hint arrived for %d s although hints were sent; the worker ends", _DEAF_SECONDS)
            if not self._end.is_alive():
                self._end.start()
                os.kill(os.getpid(), signal.SIGTERM)


app = create_app(WorkerSettings.load())


@app.task(name=HINT, bind=True)  # type: ignore[untyped-decorator]
def expand(self: Task, expansion: str) -> None:
    """Work on the expansion if no other worker does; otherwise return in milliseconds."""
    self.app.supervisor.run(expansion)


@setup_logging.connect  # type: ignore[untyped-decorator]
def _configure_logging(**_: Any) -> None:
    logs.configure(app.supervisor.settings.log_level)
    logging.getLogger("celery.worker.request").addFilter(_log_lost_answer)


def _log_lost_answer(record: logging.LogRecord) -> bool:
    """Say in one line that Redis was away when a hint was done, which loses nothing: Celery calls it critical."""
    if str(record.msg).startswith("Couldn't ack"):
        record.levelno, record.levelname, record.exc_info = logging.WARNING, "WARNING", None
        record.msg, record.args = "the broker did not hear that a hint is done; when it comes again, it is no work", ()
    return True


@worker_init.connect  # type: ignore[untyped-decorator]
def _start_threads(**_: Any) -> None:
    """Start what needs no broker, before Celery waits for one."""
    import_module("celery.events")  # late, the relay and Celery would import it at once, and wait for each other
    relay = HintRelay(app, app.supervisor)
    relay.start()
    Sweeper(app.supervisor).start()
    atexit.register(_join, relay)


@worker_ready.connect  # type: ignore[untyped-decorator]
def _tell_ready(**_: Any) -> None:
    _log.info("the worker is ready: hints by %s", "Redis" if app.supervisor.settings.broker_url else "memory")


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _begin_stop(sig: str, **_: Any) -> None:
    _log.info("the worker stops: %s", sig)
    app.supervisor.stop.set()


def _join(relay: HintRelay) -> None:
    """Let the relay end the indexer in order, which would otherwise be killed with this process."""
    app.supervisor.stop.set()
    relay.join(STOP_SECONDS)
