"""Versions: immutable steps of the model, served or not. Opens none."""

import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from index.encoding import Encoder
from model import storage
from model.errors import VersionNotFound
from model.languages import names
from model.registry import Expansion, Version
from service import values
from service.auth import GuardedRoute, needs
from service.context import Context, Here
from service.schemas import languages as schemas

router = APIRouter(prefix="/v1/versions", tags=["versions"], route_class=GuardedRoute)
_HIGHEST = (1 << 31) - 1  # what an INTEGER column holds


@router.get("")
@needs("search")
async def list_versions(
    context: Here,
    limit: values.QueryLimit = 20,
    cursor: values.QueryCursor = None,
) -> schemas.VersionPage:
    """Newest first."""
    fetch = context.registry.versions.list
    page, following = await context.cursors.page("versions", limit, cursor, fetch, lambda version: version.number)
    items = [schemas.VersionItem.model_validate(version) for version in page]
    return schemas.VersionPage(items=items, next_cursor=following)


@router.get("/{number}")
@needs("search")
async def get_version(number: int, context: Here) -> schemas.VersionDetail:
    """One version with its manifest, and the digests of its files; the base has the fingerprints of its towers."""
    return await run_in_threadpool(_detail, number, context)


@router.get("/{number}/report")
@needs("search")
async def get_report(number: int, context: Here) -> schemas.VersionReport:
    """What was measured before the version was promoted, or was not; `/versions/{number}/report` draws it."""
    return await run_in_threadpool(_report, number, context)


def _find(number: int, context: Context) -> Version:
    if not 0 <= number <= _HIGHEST:
        raise VersionNotFound("there is no such version")
    return context.registry.versions.get(number)


def _detail(number: int, context: Context) -> schemas.VersionDetail:
    version = _find(number, context)
    manifest = _manifest(version, context.settings.home)
    return schemas.VersionDetail(
        **schemas.VersionItem.model_validate(version).model_dump(by_alias=True),
        manifest=manifest,
        digests=_digests(version, manifest, context.encoder),
        metrics=schemas.Measured.model_validate(version.report),
    )


def _report(number: int, context: Context) -> schemas.VersionReport:
    version = _find(number, context)
    known = names(version.language)
    expansion = None if version.expansion is None else context.registry.expansions.get(version.expansion)
    return schemas.VersionReport(
        version=version.number,
        parent=version.parent,
        language=version.language,
        name=known.name,
        native_name=known.native_name,
        direction=known.direction,
        created_at=version.created_at,
        expansion=version.expansion,
        state=expansion and expansion.state,
        error=expansion and expansion.error,
        moved=_moved(version, expansion),
        chain=[_step(step) for step in reversed(context.registry.versions.lineage(number))],
        report=schemas.Measured.model_validate(version.report),
    )


def _moved(version: Version, expansion: Expansion | None) -> bool | None:
    """As the expansion concluded; a rebuild concludes for each language."""
    concluded = (expansion and expansion.report) or {}
    concluded = concluded.get("languages", {}).get(version.language, concluded)
    moved: bool | None = concluded.get("shared", {}).get("moved")
    return moved


def _step(version: Version) -> schemas.ChainStep:
    so_far = version.report.get("shared", {}).get("so_far", {})
    return schemas.ChainStep(version=version.number, language=version.language, AA=so_far.get("AA"), F=so_far.get("F"))


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
