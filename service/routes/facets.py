"""What the gallery has, counted: collections, months, folders and cameras; and what it takes."""

from fastapi import APIRouter

from index.selection import MONTHS, Criteria
from service import values
from service.auth import GuardedRoute, require_scope
from service.context import AppContext, Caller
from service.listings import parse_query_filter
from service.schemas import gallery as schemas

router = APIRouter(prefix="/v1", tags=["gallery"], route_class=GuardedRoute)
_MOST = 1_200  # values of each: a hundred years of months
_KEYS = {"months": MONTHS, "folders": "folder", "cameras": "camera", "collections": "collection"}


@router.get("/collections")
@require_scope("search", allows_bound_keys=True)
async def list_collections(context: AppContext, caller: Caller) -> schemas.Collections:
    """The collections that the key may see, by name, with the number of their pictures.

    503 `registry_unavailable` after six seconds, as a search with a filter.
    """
    found = await context.lanes.read.run(context.selection.list_collections, caller.collections)
    return schemas.Collections(items=[schemas.CollectionItem(name=name, count=count) for name, count in found])


@router.get("/facets")
@require_scope("search", allows_bound_keys=True)
async def count_gallery(
    context: AppContext,
    caller: Caller,
    filter: values.QueryFilter = None,
    collection: values.QueryCollection = None,
) -> schemas.GalleryFacets:
    """Count pictures by month, newest first, and by folder, camera and collection, most first.

    Those that the filter leaves and the key may see; at most 1,200 of each. A month is that of `shown_at`, in UTC.
    503 `registry_unavailable` after six seconds, as a search with a filter.
    """
    criteria = Criteria(parse_query_filter(filter), caller.collections, collection)
    counts = await context.lanes.filter.run(context.selection.count_facets, criteria, [*_KEYS.values()], _MOST)
    by_name = {name: counts[key] for name, key in _KEYS.items()}
    return schemas.GalleryFacets.model_validate(
        {"pictures": sum(each.count for each in by_name["collections"]), **by_name}, from_attributes=True
    )


@router.get("/limits")
@require_scope("search", allows_bound_keys=True)
async def get_limits(context: AppContext) -> schemas.Limits:
    """Return what a picture may have: bytes and pixels. Some formats are read up to fewer pixels: docs/gallery.md."""
    settings = context.settings
    return schemas.Limits(picture_bytes=settings.picture_bytes, picture_pixels=settings.picture_pixels)
