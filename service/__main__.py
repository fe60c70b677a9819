"""`python -m service`: the application under uvicorn, exit statuses, a graceful shutdown."""

import asyncio
import errno
import logging
import os
import socket
import sys
import time
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from model.processes import allow_descriptors, give_way
from service.connections import KEEP_SECONDS, Connection, Connections, Listener
from service.requests import MAX_HEADER_BYTES
from service.settings import Settings
from store import logs
from store.errors import (
    BackendNotAvailable,
    BaseMismatch,
    BaseNotFound,
    BaseNotSupported,
    EncodingMismatch,
    PictoglotError,
    RegistryOutdated,
)
from store.logs import export_spans
from store.settings import MISCONFIGURED, SettingsError

_FAILED = 1
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)  # what writing says where it is not allowed
_GRACE = 5.0  # seconds beyond a request's own deadline until a shutdown ends it
_LAST_MOMENT = 1.0  # seconds at a shutdown for the first request of a connection that came in the last moment
_log = logging.getLogger("pictoglot.serve")


class Server(uvicorn.Server):
    """Uvicorn that answers 503 on `/readyz` for `drain_seconds`, then closes the socket and exits with status 0."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_seconds: float) -> None:
        super().__init__(config)
        self._app, self._drain_seconds = app, drain_seconds
        metrics, settings = app.state.context.metrics, app.state.context.settings
        most_searches = settings.queue_limit + settings.batch_size  # those that wait, and those being encoded
        self._connections = self.server_state = Connections(metrics, most_searches)
        self._listeners: list[Listener] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the application, then the listeners: uvicorn itself listens to nothing."""
        await super().startup([])
        self._connections.watch()
        make = partial(Connection, self.config, self._connections, self.lifespan.state)
        self._listeners = [Listener(bound, self._connections, make) for bound in sockets or ()]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and answer on those that were taken."""
        for listener in self._listeners:
            listener.close()
        until = time.monotonic() + _LAST_MOMENT
        takers: tuple[Connections | Listener, ...] = (self._connections, *self._listeners)
        while any(each.has_newcomers for each in takers) and not self.force_exit and time.monotonic() < until:
            await asyncio.sleep(0.01)
        await super().shutdown([])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start a graceful shutdown at the first signal, end it at once at a second one."""
        context, loop = self._app.state.context, asyncio.get_running_loop()
        if context.stopping.is_set():
            self.should_exit = self.force_exit = True
            return
        context.stopping.set()
        loop.call_soon_threadsafe(loop.call_later, self._drain_seconds, setattr, self, "should_exit", True)


def main() -> int:
    """Serve with the settings of the environment; returns 78, after one sentence, if they are invalid, 1 on failure."""
    try:
        settings = Settings.load()
        settings.make_home()
    except SettingsError as error:
        return _fail(str(error), MISCONFIGURED)
    logs.configure(settings.log_level)
    allow_descriptors()
    # OpenMP's default makes searches 20 times slower while a worker trains (measured); read once, by torch and faiss
    os.environ.update(OMP_NUM_THREADS=str(settings.threads), OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="0")
    try:
        bound = bind(settings)
    except OSError as error:
        address = f"{settings.host}:{settings.port}"
        return _fail(f"PICTOGLOT_HOST, PICTOGLOT_PORT: cannot listen on {address}: {error.strerror}.", _FAILED)
    try:
        with bound:
            _serve(settings, bound)
    except SettingsError as error:
        return _fail(str(error), MISCONFIGURED)
    except (BaseNotFound, BaseNotSupported) as error:
        return _fail(f"PICTOGLOT_BASE: {error.detail}.", MISCONFIGURED)
    except BackendNotAvailable as error:
        return _fail(f"PICTOGLOT_{error.setting}: {error.detail}.", MISCONFIGURED)
    except (BaseMismatch, EncodingMismatch, RegistryOutdated) as error:
        return _fail(f"{error.detail.removesuffix('.')}.", MISCONFIGURED)
    except PictoglotError as error:
        return _fail(f"{error.title}: {error.full_detail.removesuffix('.')}.", _FAILED)
    except OSError as error:
        if error.errno not in _REFUSED or not Path(error.filename or "").is_relative_to(settings.home):
            raise
        return _fail(f"PICTOGLOT_HOME: {settings.home} cannot be written: {error.strerror}.", _FAILED)
    except KeyboardInterrupt:
        return 0
    return 0


def make_uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Make the settings by which uvicorn reads HTTP and shuts down."""
    logging.getLogger("uvicorn.access").disabled = True  # its lines contain URLs; ours contain routes
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of each malformed request
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Connection,  # by h11: httptools reads headers of any size, and more (decision 13)
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # clients can forge them
        server_header=False,
        timeout_keep_alive=KEEP_SECONDS,
        timeout_graceful_shutdown=int(settings.request_seconds + _GRACE),
    )


def bind(settings: Settings) -> socket.socket:
    """Bind a socket to the address; it does not listen yet, so that clients are refused while the base loads."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on a socket that names the protocol; without it, every answer takes 40 ms longer
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if settings.processes > 1:  # the kernel shares connections among all that listen
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((settings.host, settings.port))
    except OSError:
        bound.close()
        raise
    return bound


def _serve(settings: Settings, bound: socket.socket) -> None:
    from index.backup import back_up_before_upgrade
    from service.app import build, create_app, load_admin_key, open_encoder  # imported late: imports torch

    back_up_before_upgrade(settings)
    # Built before the server exists, so that a failed start ends with one sentence
    app = create_app(build(settings, open_encoder(settings)))
    give_way()
    lines = [f"pictoglot on {settings.make_address(bound.getsockname()[1])}"]
    if not settings.admin_key:
        lines.append(f"admin key: {load_admin_key(settings)}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    with export_spans("pictoglot"):
        asyncio.run(Server(make_uvicorn_config(app, settings), app, settings.drain_seconds).serve([bound]))


def _fail(sentence: str, status: int) -> int:
    sys.stderr.write(sentence + "\n")
    return status


if __name__ == "__main__":
    if sys.argv[1:]:
        raise SystemExit(
            "`python -m service` is the HTTP server and takes no arguments; the commands are those of `pictoglot`."
        )
    raise SystemExit(main())
