"""The routes of one language: its tag by its name."""

from fastapi import APIRouter

from model.languages import find_names, suggest
from service import values
from service.auth import GuardedRoute, require_scope
from service.context import AppContext
from service.schemas import one_language as schemas

router = APIRouter(prefix="/v1/languages", tags=["languages"], route_class=GuardedRoute)


@router.get("/names")
@require_scope("search", allows_bound_keys=True)
def suggest_languages(
    context: AppContext, query: values.QueryName, limit: values.QueryLimit = 10
) -> schemas.SuggestedLanguages:
    """Suggest languages that a text may name: by tag, code of ISO 639-3, or name in any language; best first.

    A private tag (`x-…`) suggests itself.
    """
    served = context.live.current.release.languages
    items = []
    for each in suggest(query, limit):
        names = find_names(each.tag)
        items.append(
            schemas.SuggestedLanguage(
                language=each.tag,
                name=names.name,
                native_name=names.native_name,
                direction=names.direction,
                matched=each.matched,
                iso639_3=each.alpha3,
                served=each.tag in served,
            )
        )
    return schemas.SuggestedLanguages(items=items)
