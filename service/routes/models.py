"""The base as clients of OpenAI's format list models: its name, and what it reads. Encodes nothing."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from service.auth import GuardedRoute, needs
from service.context import AppContext, Context
from service.schemas import search as schemas

router = APIRouter(prefix="/v1/models", tags=["search"], route_class=GuardedRoute)


@router.get("")
@needs("search", parted=True)
async def list_models(context: AppContext) -> schemas.Models:
    """The one model of this service, as OpenAI lists models, with the languages that it reads."""
    snapshot = context.live.current
    base = snapshot.release.base
    first = await run_in_threadpool(context.registry.versions.get, base)
    taught = sorted(tag for tag, version in snapshot.release.languages.items() if version != base)
    model = schemas.Model(
        id=name_of(context),
        created=int(first.created_at.timestamp()),
        languages=list(context.encoder.languages),
        taught=taught,
        dimension=context.encoder.dimension,
    )
    return schemas.Models(data=[model])


def name_of(context: Context) -> str:
    """The name of the model in answers: the base's, without the path of a checkpoint."""
    return f"pictoglot/{context.base}"
