"""Builds the application from its settings: components, middleware, routes, startup, shutdown. No effect at import."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from index.gallery import Gallery
from index.selection import Selection
from model.encoder import Encoder
from service import problems
from service.context import Context, Cursors
from service.lanes import Lanes
from service.metrics import Metrics, collect_metrics
from service.people import UNAUTHENTICATED, People, RateLimiter
from service.requests import RequestMiddleware
from service.routes import admin, gallery, languages, operations, pictures, search, session, speakers, versions
from service.settings import Settings
from service.watch import RegistryFollower, build_components, update_metrics, warm_up
from store.data_root import DataRoot
from store.files import make_folder, restrict_access, write_once
from store.keys import ApiKeys
from store.registry import open_registry

_INVALID_PER_MINUTE = 6_000  # requests without a valid key, all callers together
_ROUTERS = (
    search.router,
    search.embeddings_router,
    search.models_router,
    pictures.router,
    gallery.router,
    gallery.overview_router,
    gallery.duplicates_router,
    languages.router,
    languages.expansions_router,
    speakers.router,
    versions.files_router,
    versions.router,
    admin.router,
    operations.router,
    operations.status_router,
    session.router,
)
_log = logging.getLogger("pictoglot.app")


def create_app(context: Context | None) -> FastAPI:
    """Make the application with the components from `build`; with None it can only describe itself, not start."""

    @contextlib.asynccontextmanager
    async def run_lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with RegistryFollower(app):
            with contextlib.suppress(asyncio.CancelledError):  # a second signal ends requests; files are still closed
                yield
            app.state.context.stopping.set()
        await run_in_threadpool(app.state.context.registry.close)

    app = FastAPI(
        lifespan=run_lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,  # what generated clients call their functions
    )
    for router in _ROUTERS:
        app.include_router(router)
    operations.mount_pages(app, None if context is None else context.root.locate("texts"))
    app.state.context = context
    app.state.provider = session.Provider(context.settings) if context and context.settings.oidc_issuer else None
    if context is not None:
        context.metrics.watch(lambda: collect_metrics(app.state.context))
    operations.install_document(app)
    problems.install(app)
    app.add_middleware(RequestMiddleware)
    return app


def build(settings: Settings, encoder: Encoder, reopen: Callable[[Settings], Encoder] | None = None) -> Context:
    """Open and verify every component; if no release can be verified, the service starts and `/readyz` answers 503.

    `reopen` opens the base that serves after a move, by default with `open_encoder`. Raises `RegistryUnavailable`,
    `RegistryOutdated`, `BaseMismatch`, `StoreUnavailable`, and `SettingsError` for an engine that cannot be opened.
    """
    metrics = Metrics()
    root = DataRoot(settings.home, settings.store)
    make_folder(settings.home)
    registry = open_registry(settings.database)
    registry.initialise(encoder.base_fingerprint, settings.base)
    gallery = Gallery(registry, root, settings.bound_collections)
    keys, rate = ApiKeys(registry), RateLimiter(settings.rate_per_minute)
    invalid = RateLimiter(min(_INVALID_PER_MINUTE, settings.rate_per_minute))
    people = People(
        settings,
        load_admin_key(settings),
        lambda: [*keys.list(), *registry.sessions.list()],
        lambda: invalid.take(UNAUTHENTICATED),
    )
    context = Context(
        settings=settings,
        root=root,
        registry=registry,
        open_encoder=reopen or (lambda settings: open_encoder(settings)),
        gallery=gallery,
        selection=Selection(registry),
        keys=keys,
        people=people,
        rate=rate,
        cursors=Cursors.open(root),
        metrics=metrics,
        lanes=Lanes(),
        **build_components(settings, registry, gallery, metrics, encoder),
    )
    warm_up(context)
    if not context.live.start():
        _log.error("no release can be verified; /readyz has the reason; trying again")
    update_metrics(context)
    return context


def load_admin_key(settings: Settings) -> str:
    """Return the key from the settings; without one, in `local`, a key made once and kept under the data root."""
    if settings.admin_key:
        return settings.admin_key
    with restrict_access():
        write_once(settings.key_file, secrets.token_urlsafe(32).encode())
    return settings.key_file.read_text().strip()


def open_encoder(settings: Settings) -> Encoder:
    """Open the encoder of this data root; raises what `model.backend.open_encoder` does, and `RegistryUnavailable`."""
    from model import backend

    with contextlib.closing(open_registry(settings.database)) as registry:
        return backend.open_encoder(settings, registry)
