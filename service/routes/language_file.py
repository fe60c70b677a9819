"""The routes of languages as files: one is written, and one is imported by an expansion."""

import json
from functools import partial
from typing import Annotated, Any, NamedTuple
from uuid import uuid4

import fastapi
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse

from model.encoder import VersionFolder
from model.language_file import open_file, write_file
from model.languages import ENGLISH, canonicalize, find_names
from service import values
from service.auth import GuardedRoute, require_scope
from service.context import AppContext, Caller, Context
from service.forms import FOLDER, BodyKind, FileOnDisk
from service.openapi import describe_file
from service.requests import MULTIPART
from service.routes.languages import LOCATION, submit_dataset
from service.schemas import language_file as schemas
from service.schemas.languages import ExpansionItem, Submitted
from store import files
from store.data_root import EXPANSIONS
from store.errors import LanguageFileInvalid, LanguageNotFound, VersionCorrupt, VersionNotFound
from store.expansions import IdempotencyKey

router = APIRouter(prefix="/v1/languages", tags=["languages"], route_class=GuardedRoute)
_ZIP = "application/zip"
# Of a report: no captions, and nothing of other languages
_REPORTED = ("against", "pairs", "candidates", "truncated", "t2i", "i2t", "in_sample", "letters")
_TEST = "validation.json"  # in an expansion's folder


@router.get("/{tag}/file", response_class=FileResponse, responses=describe_file(_ZIP))
@require_scope("admin")
def export_language(tag: str, context: AppContext, sign: values.QueryFlag = "false") -> FileResponse:
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
    return FileResponse(path, media_type=_ZIP, filename=f"{tag}.pictoglot", background=BackgroundTask(clear))


class _Found(NamedTuple):
    """What a file holds: its language, its terms as they are stored, and what its expansion has to know."""

    tag: str
    terms: dict[str, object]
    settings: dict[str, Any]
    item: schemas.LanguageFileItem


@router.post(
    "/import",
    status_code=202,
    response_model=Submitted,
    responses={200: {"model": schemas.LanguageFileItem}, 202: LOCATION},
)
@require_scope("write", BodyKind.LANGUAGE)
async def import_language(
    form: Annotated[schemas.ImportForm, fastapi.Body(media_type=MULTIPART)],
    request: Request,
    response: Response,
    context: AppContext,
    caller: Caller,
    idempotency_key: values.IdempotencyHeader = None,
) -> Submitted | JSONResponse:
    """Import a language from a file: 202 with the expansion, which measures it and serves it if it passes the gate.

    It is refused with `language_of_other_base` if it was taught for another base, with `language_file_changed` if it is
    not as it was made, else with `language_file_invalid`. Its terms become those of the language.
    """
    (upload,) = request.state.files
    found = await context.lanes.dataset.run(partial(_check, upload, context))
    right = partial(context.registry.terms.require_right, may_change=caller.scope == "admin")
    if found.terms:
        await run_in_threadpool(right, found.tag, found.terms)
    if form.dry_run == "true":
        return JSONResponse(found.item.model_dump(mode="json"))
    settings = found.settings | ({"force": True} if form.force == "true" else {})
    key = IdempotencyKey.build(caller.id, idempotency_key, ["import", upload.sha256, form.force])
    expansion = await run_in_threadpool(
        submit_dataset, context, upload, "import", found.tag, settings, key, caller, found.terms or None, ()
    )
    response.headers["Location"] = f"/v1/expansions/{expansion.id}"
    return Submitted(expansion=ExpansionItem.model_validate(expansion))


def _check(upload: FileOnDisk, context: Context) -> _Found:
    """Check all of a file that asks for no reading of its texts, which the worker does."""
    base = (context.base, context.encoder.base_fingerprint)
    file = open_file(upload.path, upload.path.with_name("parts"), base, context.encoder.table.rows.width)
    try:
        manifest = schemas.Manifest.model_validate(file.manifest)
        letters = schemas.Letters.model_validate(manifest.report).letters
        says = schemas.MeasuredThere.model_validate(manifest.report) if manifest.report.get("pairs") else None
    except ValidationError as error:
        raise LanguageFileInvalid("the manifest of the language file has a form that no export writes") from error
    tag, terms = canonicalize(manifest.language), manifest.terms.pack()
    if tag == ENGLISH:
        raise LanguageFileInvalid("English is built in and cannot be imported")
    measured = {} if says is None else says.model_dump(by_alias=True, exclude_none=True)
    settings = {"signer": file.signer, "says": measured, "letters": letters}
    item = schemas.LanguageFileItem(
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
    return _Found(tag, terms, settings, item)
