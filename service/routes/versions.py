"""Versions: immutable steps of the model, served or not. Opens none."""

import json
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from model import storage
from model.errors import VersionNotFound
from model.registry import Version
from service import schemas
from service.auth import GuardedRoute, Scope, needs
from service.context import Context, Here

router = APIRouter(prefix="/v1/versions", tags=["versions"], route_class=GuardedRoute)
_HIGHEST = (1 << 31) - 1  # what an INTEGER column holds


@router.get("")
@needs(Scope.SEARCH)
async def list_versions(
    context: Here,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=2_048)] = None,
) -> schemas.VersionPage:
    """Newest first."""
    before = None if cursor is None else context.cursors.read("versions", cursor)["before"]
    found = await run_in_threadpool(context.registry.versions.list, limit + 1, before)
    more = len(found) > limit
    return schemas.VersionPage(
        items=[schemas.VersionItem.model_validate(version) for version in found[:limit]],
        next_cursor=context.cursors.write("versions", {"before": found[limit - 1].number}) if more else None,
    )


@router.get("/{number}")
@needs(Scope.SEARCH)
async def get_version(number: int, context: Here) -> schemas.VersionDetail:
    """One version with its manifest; the base has none."""
    if not 0 <= number <= _HIGHEST:
        raise VersionNotFound("there is no such version")
    return await run_in_threadpool(_detail, number, context)


def _detail(number: int, context: Context) -> schemas.VersionDetail:
    version = context.registry.versions.get(number)
    fields = schemas.VersionItem.model_validate(version).model_dump()
    return schemas.VersionDetail(**fields, manifest=_manifest(version, context.settings.home))


def _manifest(version: Version, home: Path) -> dict[str, Any] | None:
    """As it stands on disk; None when there is none, or it cannot be read: verifying is another request's matter."""
    if version.folder is None:
        return None
    try:
        manifest: dict[str, Any] = json.loads((home / version.folder / storage.MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest
