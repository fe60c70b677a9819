"""Languages: the available ones, and teaching one more. The worker does the training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from index.sweep import EXPANSIONS
from model import dataset
from model.errors import FieldError, InvalidInput
from model.languages import canonical, names
from model.registry import Expansion, Once, Version, new_expansion_id
from service import bodies, values
from service.auth import Body, GuardedRoute, needs
from service.context import AppContext, Caller, Context
from service.forms import Upload, dataset_of, keep
from service.openapi import taking
from service.schemas import languages as schemas

router = APIRouter(prefix="/v1/languages", tags=["languages"], route_class=GuardedRoute)
_LOCATION = {"headers": {"Location": {"description": "The path of the expansion.", "schema": {"type": "string"}}}}


@router.get("")
@needs("search")
async def list_languages(context: AppContext) -> schemas.Languages:
    """The languages that can be searched, each with the version that encodes it and its evaluation when learned."""
    snapshot = context.live.current
    versions = await run_in_threadpool(_versions, context, sorted(set(snapshot.release.languages.values())))
    items = []
    for tag, number in sorted(snapshot.release.languages.items()):
        language, version = names(tag), versions[number]
        items.append(
            schemas.LanguageItem(
                language=tag,
                name=language.name,
                native_name=language.native_name,
                direction=language.direction,
                version=number,
                captions=snapshot.captions[tag].count,
                learned_at=version.created_at,
                report=schemas.Measured.model_validate(version.report if number else _english(versions)),
            )
        )
    return schemas.Languages(items=items, shared_version=snapshot.release.shared, release=snapshot.release.number)


def _english(versions: Mapping[int, Version]) -> dict[str, Any]:
    """The base's evaluation in English, on the held-out pictures of the newest language that has any."""
    for number in sorted(versions, reverse=True):
        english: dict[str, Any] = versions[number].report.get("english") or {}
        if english.get("against") == "pictures" and english.get("pairs"):
            return english
    return {}


@router.post(
    "",
    status_code=202,
    response_model=schemas.Submitted,
    responses={200: {"model": schemas.DryRun}, 202: _LOCATION},
    openapi_extra=taking(form=schemas.LanguageForm, file="dataset"),
)
@needs("write", Body.DATASET)
async def teach_language(
    request: Request,
    response: Response,
    context: AppContext,
    caller: Caller,
    idempotency_key: values.IdempotencyKey = None,
) -> schemas.Submitted | JSONResponse:
    """Teach a language from a dataset: 202 with the expansion; with `dry_run`, only 200 and the dataset's report."""
    async with dataset_of(request, context) as upload:
        form = upload.form.parse(schemas.LanguageForm)
        tag = canonical(form.language)
        if tag == "en":
            place = FieldError("body.language", "base_language")
            raise InvalidInput("English is built in and cannot be taught", errors=(place,))
        settings = bodies.validated(
            schemas.TeachingSettings, bodies.parse_field(form.settings, "settings"), "body.settings"
        )
        explicit = settings.model_dump(exclude_unset=True)
        once = Once.of(caller.id, idempotency_key, [tag, explicit, upload.sha256])
        expansion = None
        if form.dry_run == "false":  # first: a dataset that was accepted before is not validated again
            expansion = await run_in_threadpool(context.registry.expansions.submitted, once)
        if expansion is None:
            report = await to_thread.run_sync(_validate, upload.path, tag, context, limiter=context.validating)
            if form.dry_run == "true":
                return JSONResponse(schemas.DryRun(language=tag, report=report.as_dict()).model_dump())
            expansion = await run_in_threadpool(_submit, context, upload, tag, explicit, once, caller.id)
    response.headers["Location"] = f"/v1/expansions/{expansion.id}"
    return schemas.Submitted(expansion=schemas.ExpansionItem.model_validate(expansion))


def _versions(context: Context, numbers: list[int]) -> dict[int, Version]:
    return {number: context.registry.versions.get(number) for number in numbers}


def _validate(path: Path, tag: str, context: Context) -> dataset.DatasetReport:
    return dataset.validate(dataset.read(path, language=tag), tag, context.gallery.known)


def _submit(
    context: Context, upload: Upload, tag: str, settings: dict[str, object], once: Once | None, actor: str
) -> Expansion:
    """Store the dataset, then queue the expansion; the file is removed if nothing was queued."""
    id = new_expansion_id()
    folder = f"{EXPANSIONS}/{id}"
    keep(upload, context.root, folder)
    queued = False
    try:
        expansion, queued = context.registry.expansions.submit(
            kind="learn",
            language=tag,
            settings=settings,
            dataset_path=f"{folder}/dataset",
            dataset_sha256=upload.sha256,
            dataset_bytes=upload.size,
            actor=actor,
            once=once,
            id=id,
        )
    finally:
        if not queued:
            context.root.remove(folder)
    return expansion
