"""Versions: immutable steps of the model, served or not. Opens none."""

import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from index.encoding import Encoder
from model import storage
from model.errors import VersionNotFound
from model.registry import Version
from service import queries, schemas
from service.auth import GuardedRoute, Scope, needs
from service.context import Context, Here

router = APIRouter(prefix="/v1/versions", tags=["versions"], route_class=GuardedRoute)
_HIGHEST = (1 << 31) - 1  # what an INTEGER column holds


@router.get("")
@needs(Scope.SEARCH)
async def list_versions(
    context: Here,
    limit: queries.Limit = 20,
    cursor: queries.Cursor = None,
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
    """One version with its manifest, and the digests of its files; the base has the fingerprints of its towers."""
    if not 0 <= number <= _HIGHEST:
        raise VersionNotFound("there is no such version")
    return await run_in_threadpool(_detail, number, context)


def _detail(number: int, context: Context) -> schemas.VersionDetail:
    version = context.registry.versions.get(number)
    manifest = _manifest(version, context.settings.home)
    return schemas.VersionDetail(
        **schemas.VersionItem.model_validate(version).model_dump(by_alias=True),
        manifest=manifest,
        digests=_digests(version, manifest, context.encoder),
        metrics=schemas.Measured.model_validate(version.report),
    )


def _digests(version: Version, manifest: dict[str, Any] | None, encoder: Encoder) -> dict[str, str]:
    if version.folder is None:
        return {"image": encoder.image_fingerprint, "text": encoder.text_fingerprint}
    return {name: file["sha256"] for name, file in (manifest or {}).get("files", {}).items()}


def _manifest(version: Version, home: Path) -> dict[str, Any] | None:
    """As it stands on disk; None when there is none, or it cannot be read: verifying is another request's matter."""
    if version.folder is None:
        return None
    try:
        manifest: dict[str, Any] = json.loads((home / version.folder / storage.MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest
