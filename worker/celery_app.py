"""The Celery application: how hints travel, and what starts and stops with a worker. Imports no torch."""

import atexit
import logging
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_ready, worker_shutting_down

from store import logs
from worker.relay import Relay
from worker.settings import WorkerSettings
from worker.supervisor import STOP_SECONDS, Supervisor
from worker.sweeper import Sweeper

_log = logging.getLogger(__name__)
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


def create_app(settings: WorkerSettings) -> Celery:
    """An application on the broker of the settings; without one, hints stay in the memory of this process."""
    app = Celery("pictoglot", include=["worker.tasks"], set_as_current=True)
    app.conf.update(
        broker_url=settings.broker_url or "memory://",
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


app = create_app(WorkerSettings.load())


@setup_logging.connect  # type: ignore[untyped-decorator]
def _logging(**_: Any) -> None:
    logs.configure(app.supervisor.settings.log_level)


@worker_ready.connect  # type: ignore[untyped-decorator]
def _ready(**_: Any) -> None:
    settings = app.supervisor.settings
    _log.info("the worker is ready: hints by %s", "Redis" if settings.broker_url else "memory")
    relay = Relay(app, app.supervisor)
    relay.start()
    Sweeper(app.supervisor).start()
    atexit.register(_join, relay)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _shutting_down(**_: Any) -> None:
    app.supervisor.stop.set()


def _join(relay: Relay) -> None:
    """Let the relay end the indexer in order, which would otherwise be killed with this process."""
    app.supervisor.stop.set()
    relay.join(STOP_SECONDS)
