"""The routes of versions, immutable steps of the model, served or not, and of languages as files, out and in."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import uuid4

import fastapi
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse
from starlette.types import Receive, Scope, Send

from model.encoder import Encoder, VersionFolder
from model.language_file import open_file, write_file
from model.languages import ENGLISH, canonicalize, find_names
from service import schemas as values
from service.auth import AppContext, Caller, GuardedRoute, require_scope
from service.context import Context
from service.forms import FOLDER, BodyKind, FileOnDisk
from service.requests import MULTIPART
from service.routes.languages import LOCATION, submit_dataset
from service.schemas import IndexRecall, describe_file
from service.schemas import languages as schemas
from service.schemas import speakers as file_schemas
from service.schemas.languages import ExpansionItem, SubmittedExpansion
from service.schemas.speakers import LanguageTerms
from store import files
from store.data_root import EXPANSIONS, DataRoot
from store.errors import (
    CorruptFolder,
    LanguageFileInvalid,
    LanguageNotFound,
    StoreUnavailable,
    VersionCorrupt,
    VersionNotFound,
)
from store.expansions import Expansion, IdempotencyKey
from store.versions import Version

_BYTES = "application/octet-stream"
_DATASET, _FILE = describe_file(_BYTES, description="The dataset."), describe_file(_BYTES)
_OPTIONS = {  # beside the settings of a training
    *("force", "replace", "without_missing", "pivot", "words", "captions", "confirmed", "doubts"),
    *("signer", "says", "letters"),
}

router = APIRouter(prefix="/v1/versions", tags=["versions"], route_class=GuardedRoute)
files_router = APIRouter(prefix="/v1/languages", tags=["languages"], route_class=GuardedRoute)
_ZIP = "application/zip"
# Of a report: no captions, and nothing of other languages
_REPORTED = ("against", "pairs", "candidates", "truncated", "t2i", "i2t", "in_sample", "letters")
_TEST = "validation.json"  # in an expansion's folder


class _WholeFile(FileResponse):
    """A file from its first byte to its last, whatever `Range` says: a wrong one would be refused as plain text."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["Accept-Ranges"] = "none"
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


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
    fitted = context.registry.versions.read_calibrations([number]).get(number)
    expansion = None if version.expansion is None else context.registry.expansions.get(version.expansion)
    return schemas.VersionReport(
        version=version.number,
        parent=version.parent,
        language=version.language,
        **asdict(find_names(version.language)),
        created_at=version.created_at,
        expansion=version.expansion,
        state=expansion and expansion.state,
        error=expansion and expansion.error,
        moved=_has_moved(version, expansion),
        terms=LanguageTerms.describe(context.registry.terms.get(version.terms)),
        chain=[_make_step(step) for step in reversed(context.registry.versions.trace_lineage(number))],
        match=fitted and schemas.MatchQuality.model_validate(fitted["result"]),
        index=IndexRecall.describe(context.live.measure_recall(anew=False)),
        report=schemas.Evaluation.model_validate(version.report),
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


@router.get("/{number}/datasets/{expansion}", response_class=_WholeFile, responses=_DATASET)
@require_scope("admin")
def get_dataset(number: values.PathNumber, expansion: str, context: AppContext) -> _WholeFile:
    """One of these datasets, byte for byte as it was sent. 404 when it was pruned."""
    if expansion not in _find_version(number, context).dataset_expansions:
        raise VersionNotFound("this version was not taught from such a dataset")
    path = _find_dataset_file(context.registry.expansions.get(expansion), context.root)
    if path is None:
        raise VersionNotFound("this dataset of the version is not kept")
    return _WholeFile(path, media_type=_BYTES)


@router.get("/{number}/files/{name}", response_class=_WholeFile, responses=_FILE)
@require_scope("admin")
def get_version_file(number: values.PathNumber, name: str, context: AppContext) -> _WholeFile:
    """A file of a version: `manifest.json`, or one that it names. 404 when they were pruned, and of a base."""
    version = _find_version(number, context)
    manifest = _read_manifest(version, context.root)
    if version.folder is None or manifest is None or name not in {files.MANIFEST, *manifest.get("files", {})}:
        raise VersionNotFound("this version has no such file")
    return _WholeFile(context.root.open(version.folder) / name, media_type=_BYTES)


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


@files_router.get("/{tag}/file", response_class=_WholeFile, responses=describe_file(_ZIP))
@require_scope("admin")
def export_language(tag: str, context: AppContext, sign: values.QueryFlag = "false") -> _WholeFile:
    """Send a taught language as a file, for any service with this base: its own rows and tokens, its test, its terms.

    It holds the held-out texts by which it is measured. With `sign`, it is signed by this data root's key.
    """
    tag, snapshot = canonicalize(tag), context.live.current
    view = snapshot.views.get(tag)
    if view is None or view.version == snapshot.release.base:
        raise LanguageNotFound(languages=sorted({*snapshot.views} - {ENGLISH}))
    version, root = context.registry.versions.get(view.version), context.root
    terms = context.registry.terms.list_current().get(tag)
    facts = {
        "language": tag,
        "base": context.base,
        "text_fingerprint": context.encoder.base_fingerprint,
        "learned_at": version.created_at.isoformat(),
        "terms": {} if terms is None else dict(terms.terms),
        "report": {name: version.report[name] for name in _REPORTED if name in version.report},
    }
    paths = [root.open(f"{EXPANSIONS}/{each}/{_TEST}") for each in version.dataset_expansions]
    tests = [json.loads(path.read_bytes()) for path in paths if path.is_file()]
    folder = root.locate(f"{FOLDER}/{files.TEMPORARY}{uuid4().hex}")
    files.make_folder(folder)
    path, clear = folder / "file", partial(files.remove, folder)
    try:
        write_file(path, view, VersionFolder.fetch(version, root), facts, tests, root if sign == "true" else None)
    except BaseException as error:
        clear()
        if isinstance(error, VersionCorrupt):
            raise VersionNotFound("the files of this language are missing or damaged") from error
        raise
    return _WholeFile(path, media_type=_ZIP, filename=f"{tag}.pictoglot", background=BackgroundTask(clear))


class _ImportPlan(NamedTuple):
    """What a file holds: its language, its terms as they are stored, and what its expansion has to know."""

    tag: str
    terms: dict[str, object]
    settings: dict[str, Any]
    item: file_schemas.LanguageFileItem


@files_router.post(
    "/import",
    status_code=202,
    response_model=SubmittedExpansion,
    responses={200: {"model": file_schemas.LanguageFileItem}, 202: LOCATION},
)
@require_scope("write", BodyKind.LANGUAGE)
async def import_language(
    form: Annotated[file_schemas.ImportForm, fastapi.Body(media_type=MULTIPART)],
    request: Request,
    response: Response,
    context: AppContext,
    caller: Caller,
    idempotency_key: values.IdempotencyHeader = None,
) -> SubmittedExpansion | JSONResponse:
    """Import a language from a file: 202 with the expansion, which measures it and serves it if it passes the gate.

    It is refused with `language_of_other_base` if it was taught for another base, with `language_file_changed` if it is
    not as it was made, else with `language_file_invalid`. Its terms become those of the language.
    """
    (upload,) = request.state.files
    key = IdempotencyKey.build(caller.id, idempotency_key, ["import", upload.sha256, form.force])
    expansion = None
    if form.dry_run == "false":  # first: a file that was accepted before is not checked again
        expansion = await run_in_threadpool(context.registry.expansions.find_submitted, key)
    if expansion is None:
        found = await context.lanes.dataset.run(partial(_check, upload, context))
        right = partial(context.registry.terms.require_right, may_change=caller.scope == "admin")
        if found.terms:
            await run_in_threadpool(right, found.tag, found.terms)
        if form.dry_run == "true":
            return JSONResponse(found.item.model_dump(mode="json"))
        settings = found.settings | ({"force": True} if form.force == "true" else {})
        expansion = await run_in_threadpool(
            submit_dataset, context, upload, "import", found.tag, settings, key, caller, found.terms or None, ()
        )
    response.headers["Location"] = f"/v1/expansions/{expansion.id}"
    return SubmittedExpansion(expansion=ExpansionItem.model_validate(expansion))


def _check(upload: FileOnDisk, context: Context) -> _ImportPlan:
    """Check all of a file that asks for no reading of its texts, which the worker does."""
    base = (context.base, context.encoder.base_fingerprint)
    file = open_file(upload.path, upload.path.with_name("parts"), base, context.encoder.table.rows.width)
    try:
        manifest = file_schemas.LanguageManifest.model_validate(file.manifest)
        letters = file_schemas.Letters.model_validate(manifest.report).letters
        says = file_schemas.StatedEvaluation.model_validate(manifest.report) if manifest.report.get("pairs") else None
    except ValidationError as error:
        raise LanguageFileInvalid("the manifest of the language file has a form that no export writes") from error
    tag, terms = canonicalize(manifest.language), manifest.terms.pack()
    if tag == ENGLISH:
        raise LanguageFileInvalid("English is built in and cannot be imported")
    measured = {} if says is None else says.model_dump(by_alias=True, exclude_none=True)
    settings = {"signer": file.signer, "says": measured, "letters": letters}
    item = file_schemas.LanguageFileItem(
        language=tag,
        name=find_names(tag).name,
        base=manifest.base,
        learned_at=manifest.learned_at,
        rows=manifest.rows,
        bytes=upload.size,
        terms=manifest.terms if terms else None,
        signer=file.signer,
        pairs=says.pairs if says else 0,
        recall=says.t2i.at_10 if says else None,
    )
    return _ImportPlan(tag, terms, settings, item)
