"""Collections: their names and how many pictures each has. They come and go with their pictures."""

from fastapi import APIRouter

from service.auth import GuardedRoute, needs
from service.context import AppContext, Caller
from service.schemas import gallery as schemas

router = APIRouter(prefix="/v1/collections", tags=["gallery"], route_class=GuardedRoute)


@router.get("")
@needs("search", parted=True)
async def list_collections(context: AppContext, caller: Caller) -> schemas.Collections:
    """The collections that the key may see, by name, with the number of their pictures.

    503 `registry_unavailable` after six seconds, as a search with a filter.
    """
    found = await context.filtering.read_plainly(context.selection.collections, caller.collections)
    return schemas.Collections(items=[schemas.CollectionItem(name=name, count=count) for name, count in found])
