"""The routes of versions, immutable steps of the model, served or not. Opens none."""

import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import FileResponse

from model.encoder import Encoder
from model.languages import find_names
from service import values
from service.auth import GuardedRoute, require_scope
from service.context import AppContext, Context
from service.openapi import describe_file
from service.schemas import languages as schemas
from service.schemas.common import IndexRecall
from service.schemas.terms import LanguageTerms
from store import files
from store.data_root import DataRoot
from store.errors import CorruptFolder, StoreUnavailable, VersionNotFound
from store.expansions import Expansion
from store.versions import Version

_BYTES = "application/octet-stream"
_DATASET, _FILE = describe_file(_BYTES, description="The dataset."), describe_file(_BYTES)
_OPTIONS = {  # beside the settings of a training
    *("force", "replace", "without_missing", "pivot", "words", "captions", "confirmed", "doubts"),
    *("signer", "says", "letters"),
}

router = APIRouter(prefix="/v1/versions", tags=["versions"], route_class=GuardedRoute)


@router.get("")
@require_scope("search")
def list_versions(
    context: AppContext, limit: values.QueryLimit = 20, cursor: values.QueryCursor = None
) -> schemas.VersionPage:
    """Versions, newest first."""
    fetch, paginate = context.registry.versions.list, context.cursors.paginate
    page, following = paginate("versions", limit, cursor, fetch, lambda version: version.number)
    items = [schemas.VersionItem.model_validate(version) for version in page]
    return schemas.VersionPage(items=items, next_cursor=following)


@router.get("/{number}")
@require_scope("search")
def get_version(number: values.PathNumber, context: AppContext) -> schemas.VersionDetail:
    """One version with its manifest and hashes of its files; a base has the fingerprints of its towers."""
    version = _find_version(number, context)
    manifest = _read_manifest(version, context.root)
    return schemas.VersionDetail(
        **schemas.VersionItem.model_validate(version).model_dump(by_alias=True),
        manifest=manifest,
        digests=_list_digests(version, manifest, context.encoder),
    )


@router.get("/{number}/report")
@require_scope("search")
def get_report(number: values.PathNumber, context: AppContext) -> schemas.VersionReport:
    """The evaluation of a version, promoted or not; `/versions/{number}/report` shows it as a page."""
    version = _find_version(number, context)
    language, match = find_names(version.language), context.registry.versions.read_matches([number]).get(number)
    expansion = None if version.expansion is None else context.registry.expansions.get(version.expansion)
    return schemas.VersionReport(
        version=version.number,
        parent=version.parent,
        language=version.language,
        name=language.name,
        native_name=language.native_name,
        direction=language.direction,
        created_at=version.created_at,
        expansion=version.expansion,
        state=expansion and expansion.state,
        error=expansion and expansion.error,
        moved=_has_moved(version, expansion),
        terms=LanguageTerms.describe(context.registry.terms.get(version.terms)),
        chain=[_make_step(step) for step in reversed(context.registry.versions.trace_lineage(number))],
        match=match and schemas.MatchMeasured.model_validate(match["result"]),
        index=IndexRecall.describe(context.live.measure_recall(anew=False)),
        report=schemas.Measured.model_validate(version.report),
    )


@router.get("/{number}/datasets")
@require_scope("admin")
def list_datasets(number: values.PathNumber, context: AppContext) -> schemas.Datasets:
    """The datasets that a version's language was taught from, oldest first.

    Taught again in this order, they make the language again. A base has none.
    """
    items = [
        schemas.DatasetItem(
            expansion=each.id,
            created_at=each.created_at,
            settings={name: value for name, value in each.settings.items() if name not in _OPTIONS},
            pivot=each.settings.get("pivot"),
            sha256=each.dataset_sha256,
            bytes=each.dataset_bytes,
            kept=_find_dataset_file(each, context.root) is not None,
            imported=each.kind == "import",
            terms=LanguageTerms.describe(context.registry.terms.get(each.terms)),
        )
        for each in map(context.registry.expansions.get, _find_version(number, context).dataset_expansions)
    ]
    return schemas.Datasets(items=items)


@router.get("/{number}/datasets/{expansion}", response_class=FileResponse, responses=_DATASET)
@require_scope("admin")
def get_dataset(number: values.PathNumber, expansion: str, context: AppContext) -> FileResponse:
    """One of these datasets, byte for byte as it was sent. 404 when it was pruned."""
    if expansion not in _find_version(number, context).dataset_expansions:
        raise VersionNotFound("this version was not taught from such a dataset")
    path = _find_dataset_file(context.registry.expansions.get(expansion), context.root)
    if path is None:
        raise VersionNotFound("this dataset of the version is not kept")
    return FileResponse(path, media_type=_BYTES)


@router.get("/{number}/files/{name}", response_class=FileResponse, responses=_FILE)
@require_scope("admin")
def get_version_file(number: values.PathNumber, name: str, context: AppContext) -> FileResponse:
    """A file of a version: `manifest.json`, or one that it names. 404 when they were pruned, and of a base."""
    version = _find_version(number, context)
    manifest = _read_manifest(version, context.root)
    if version.folder is None or manifest is None or name not in {files.MANIFEST, *manifest.get("files", {})}:
        raise VersionNotFound("this version has no such file")
    return FileResponse(context.root.open(version.folder) / name, media_type=_BYTES)


def _find_version(number: int, context: Context) -> Version:
    if not 0 <= number <= values.MAX_INTEGER:
        raise VersionNotFound("there is no such version")
    return context.registry.versions.get(number)


def _find_dataset_file(expansion: Expansion, root: DataRoot) -> Path | None:
    """Find the file of a dataset; None where it is not kept."""
    path = root.open(expansion.dataset_path) if expansion.dataset_path else None
    return path if path is not None and path.is_file() else None


def _has_moved(version: Version, expansion: Expansion | None) -> bool | None:
    """Tell from the expansion's report whether the shared table moved; a rebuild reports this for each language."""
    report = (expansion and expansion.report) or {}
    report = report.get("languages", {}).get(version.language, report)
    moved: bool | None = report.get("shared", {}).get("moved")
    return moved


def _make_step(version: Version) -> schemas.ChainStep:
    so_far = version.report.get("shared", {}).get("so_far", {})
    return schemas.ChainStep(version=version.number, language=version.language, AA=so_far.get("AA"), F=so_far.get("F"))


def _list_digests(version: Version, manifest: dict[str, Any] | None, encoder: Encoder) -> dict[str, str]:
    if version.number == encoder.base_view.version:
        return {"image": encoder.image_fingerprint, "text": encoder.text_fingerprint}
    if version.parent is None:  # a base that does not serve
        return {"text": version.manifest_sha256 or ""}
    return {name: file["sha256"] for name, file in (manifest or {}).get("files", {}).items()}


def _read_manifest(version: Version, root: DataRoot) -> dict[str, Any] | None:
    """Read the manifest on disk; None if it is missing or damaged, which `/v1/admin/index/verify` reports."""
    if version.folder is None:
        return None
    try:
        manifest: dict[str, Any] = json.loads((root.open(version.folder) / files.MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, CorruptFolder, StoreUnavailable):
        return None
    return manifest
