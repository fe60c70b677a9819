"""Query parameters, strictly: known names, each once. Knows no route."""

from typing import Annotated

from fastapi import Query, Request

from model.errors import FieldError, InvalidInput
from service import values

Limit = Annotated[values.TextLimit, Query()]
Cursor = Annotated[str | None, Query(min_length=1, max_length=2_048)]


def check(request: Request, known: frozenset[str]) -> None:
    """Raises `InvalidInput` for a name outside of `known` (never said back) and for one that stands twice."""
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            raise InvalidInput(
                "a name in the query is not known here", errors=(FieldError("query", "extra_forbidden"),)
            )
        if name in seen:
            raise InvalidInput(f"{name} stands twice", errors=(FieldError(f"query.{name}", "duplicate_key"),))
        seen.add(name)
