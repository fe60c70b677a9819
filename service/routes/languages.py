"""Languages: those that are served, and teaching one more. The teaching itself is the worker's."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from model import dataset
from model.errors import FieldError, InvalidInput
from model.languages import canonical, names
from model.registry import Expansion, Version, new_expansion_id
from service import bodies
from service.auth import Body, GuardedRoute, Scope, needs
from service.context import Asker, Context, Here
from service.documents import taking
from service.schemas import languages as schemas
from service.uploads import EXPANSIONS, Upload, dataset_of, drop, keep

router = APIRouter(prefix="/v1/languages", tags=["languages"], route_class=GuardedRoute)
_LOCATION = {"headers": {"Location": {"description": "The expansion's path.", "schema": {"type": "string"}}}}
_MOST_KEY = 255  # characters of an idempotency key


@router.get("")
@needs(Scope.SEARCH)
async def list_languages(context: Here) -> schemas.Languages:
    """What can be asked in: each language with the version that reads it, and how well it did when it was learned."""
    snapshot = context.holder.current
    versions = await run_in_threadpool(_versions, context, sorted(set(snapshot.release.languages.values())))
    items = []
    for tag, number in sorted(snapshot.release.languages.items()):
        known, version = names(tag), versions[number]
        items.append(
            schemas.LanguageItem(
                language=tag,
                name=known.name,
                native_name=known.native_name,
                direction=known.direction,
                version=number,
                captions=snapshot.captions[tag].count,
                learned_at=version.created_at,
                report=schemas.Measured.model_validate(version.report if number else _english(versions)),
            )
        )
    return schemas.Languages(items=items, shared_version=snapshot.release.shared, release=snapshot.release.number)


def _english(versions: Mapping[int, Version]) -> dict[str, Any]:
    """How the base did with its own English on the held-out pictures of the newest language that has any."""
    for number in sorted(versions, reverse=True):
        found: dict[str, Any] = versions[number].report.get("english") or {}
        if found.get("against") == "pictures" and found.get("pairs"):
            return found
    return {}


@router.post(
    "",
    status_code=202,
    response_model=schemas.Submitted,
    responses={200: {"model": schemas.DryRun}, 202: _LOCATION},
    openapi_extra=taking(form=schemas.LanguageForm, file="dataset"),
)
@needs(Scope.WRITE, Body.DATASET)
async def teach_language(
    request: Request,
    response: Response,
    context: Here,
    asker: Asker,
    idempotency_key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=_MOST_KEY)] = None,
) -> schemas.Submitted | JSONResponse:
    """Teach a language from a dataset: 202 with the expansion; with `dry_run`, 200 with the report and nothing done."""
    async with dataset_of(request, context) as upload:
        form = upload.form.one(schemas.LanguageForm)
        tag = canonical(form.language)
        if tag == "en":
            raise InvalidInput("English is the base", errors=(FieldError("body.language", "base_language"),))
        settings = bodies.validated(
            schemas.TeachingSettings, bodies.parse_field(form.settings, "settings"), "body.settings"
        )
        report = await run_in_threadpool(_validated, upload.path, tag, context)
        if form.dry_run == "true":
            return JSONResponse(schemas.DryRun(language=tag, report=report.as_dict()).model_dump())
        expansion = await run_in_threadpool(
            _submit, context, upload, tag, settings.model_dump(exclude_unset=True), idempotency_key, asker.id
        )
    response.headers["Location"] = f"/v1/expansions/{expansion.id}"
    return schemas.Submitted(expansion=schemas.ExpansionItem.model_validate(expansion))


def _versions(context: Context, numbers: list[int]) -> dict[int, Version]:
    return {number: context.registry.versions.get(number) for number in numbers}


def _validated(path: Path, tag: str, context: Context) -> dataset.DatasetReport:
    read = dataset.read(path, language=tag)
    return dataset.validate(read, tag, context.gallery.known)


def _submit(
    context: Context, upload: Upload, tag: str, settings: dict[str, object], key: str | None, actor: str
) -> Expansion:
    """Place the dataset, then queue the expansion; what was not queued leaves no file."""
    id = new_expansion_id()
    folder = context.settings.home / EXPANSIONS / id
    body = json.dumps([tag, settings, upload.sha256], sort_keys=True)
    keep(upload, folder)
    queued = False
    try:
        expansion, queued = context.registry.expansions.submit(
            kind="learn",
            language=tag,
            settings=settings,
            dataset_path=f"{EXPANSIONS}/{id}/dataset",
            dataset_sha256=upload.sha256,
            dataset_bytes=upload.size,
            actor=actor,
            idempotency_key=key,
            body_sha256=hashlib.sha256(body.encode()).hexdigest(),
            id=id,
        )
    finally:
        if not queued:
            drop(folder)
    return expansion
