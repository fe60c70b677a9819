"""Moving to another base, and back. The worker does the work; `service.moving` follows the release."""

import shutil
from dataclasses import asdict

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from index.sweep import move_needs
from model.languages import MANY
from service import bodies, values
from service.auth import GuardedRoute, needs
from service.context import AppContext, Caller, Context
from service.errors import BaseUnusable
from service.openapi import taking
from service.schemas import bases as schemas
from service.schemas.languages import ExpansionItem
from service.watch import catch_up
from store import files
from store.bases import Undoing
from store.errors import BaseNotFound, BaseNotSupported, BaseServes, Conflict, IndexUnavailable
from store.expansions import Expansion, Once

router = APIRouter(prefix="/v1/admin/base", tags=["admin"], route_class=GuardedRoute)


@router.get("")
@needs("admin")
async def get_base(context: AppContext) -> schemas.BaseStatus:
    """Which base serves, the newest move to another one with its comparison, and what the way back would do."""
    return await run_in_threadpool(_status, context)


@router.post(
    "",
    status_code=202,
    responses={200: {"model": schemas.MoveSubmitted, "description": "With `dry_run`."}},
    openapi_extra=taking(json=schemas.BaseMove),
)
@needs("admin")
async def move_base(
    request: Request,
    response: Response,
    context: AppContext,
    caller: Caller,
    idempotency_key: values.IdempotencyKey = None,
) -> schemas.MoveSubmitted:
    """Make everything anew for another base, beside the one that serves, and then serve that by one release.

    202 with the expansion; with `dry_run` only what it takes. It ends with `gate_failed` when a language would lose
    more than the forgetting budget, unless it is forced. Refused while anything else is queued or running.
    """
    body = await bodies.read_json(request, schemas.BaseMove)
    once = Once.of(caller.id, idempotency_key, ["base", body.model_dump()])
    submitted = await run_in_threadpool(_submit, body, once, caller.id, context)
    if submitted.expansion is None:
        response.status_code = 200
    else:
        response.headers["Location"] = f"/v1/expansions/{submitted.expansion.id}"
    return submitted


@router.post("/undo", openapi_extra=taking(json=schemas.BaseUndo))
@needs("admin")
async def undo_base(request: Request, context: AppContext, caller: Caller) -> schemas.BaseUndone:
    """Serve the base before this one again, as its last release did; each process opens it as at a start.

    Languages that were learned on this base alone are no longer served. Done twice, it leads back.
    """
    body = await bodies.read_json(request, schemas.BaseUndo)
    bases = context.registry.bases
    if body.dry_run:
        planned = await run_in_threadpool(bases.plan_undo, expected=body.expected)
    else:
        planned = await run_in_threadpool(bases.undo, actor=caller.id, reason=body.reason, expected=body.expected)
        await catch_up(context, planned.release)
    return await run_in_threadpool(_undone, planned, context, dry_run=body.dry_run)


def _submit(body: schemas.BaseMove, once: Once | None, actor: str, context: Context) -> schemas.MoveSubmitted:
    from model.base import described  # imported late: torch takes seconds, and test encoders do not need it

    registry, settings = context.registry, context.settings
    serving, served = registry.releases.serving(), registry.bases.serving()
    if served is not None and served.name == body.base:
        raise BaseServes(f"Base {served.public_name} serves already.")
    try:
        dimension, towers = described(body.base)
    except (BaseNotFound, BaseNotSupported) as error:
        raise BaseUnusable(f"{error.detail}.".replace("..", ".")) from error
    needed = move_needs(registry, dimension, towers)
    free = shutil.disk_usage(settings.home).free
    expansion: Expansion | None = None if body.dry_run else registry.expansions.submitted(once)
    if expansion is None:
        files.require_room(settings.home, needed, settings.free_bytes)
    if expansion is None and not body.dry_run:
        expansion, _ = registry.expansions.submit(
            kind="base", language=MANY, settings={"base": body.base, "force": body.force}, actor=actor, once=once
        )
    return schemas.MoveSubmitted(
        base=body.base.partition("@")[0],
        languages=sorted(serving.languages.keys() - {"en"}),
        needed=needed,
        free=free,
        expansion=None if expansion is None else ExpansionItem.model_validate(expansion),
        dry_run=body.dry_run,
    )


def _status(context: Context) -> schemas.BaseStatus:
    registry, names = context.registry, _names(context)
    serving, newest = registry.releases.serving(), registry.expansions.newest("base")
    try:
        undo = _undone(registry.bases.plan_undo(), context, dry_run=True)
    except Conflict:  # nothing before, pruned, or a move in progress
        undo = None
    try:
        release = context.live.current.release.number
    except IndexUnavailable:
        release = None
    version = context.encoder.base_view.version
    return schemas.BaseStatus(
        base=names[serving.base],
        version=serving.base,
        release=serving.number,
        open=schemas.OpenBase(base=context.base, version=version, release=release),
        move=None if newest is None else ExpansionItem.model_validate(newest),
        undo=undo,
    )


def _undone(planned: Undoing, context: Context, *, dry_run: bool) -> schemas.BaseUndone:
    names, fields = _names(context), asdict(planned)
    bases = {name: names[fields.pop(name)] for name in ("from_base", "to_base")}
    return schemas.BaseUndone(**fields, **bases, dry_run=dry_run)


def _names(context: Context) -> dict[int, str]:
    """Of each base as clients see it."""
    return {base.number: base.public_name for base in context.registry.bases.list()}
