"""Admin: rolling languages back, releases, keys, verification. What a rollback means is the registry's to say."""

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from model.errors import KeyNotFound, ReleaseNotFound
from model.languages import canonical
from model.registry import Release
from service import bodies, queries, values
from service.auth import GuardedRoute, Scope, needs
from service.context import Asker, Context, Here
from service.documents import taking
from service.schemas import admin as schemas
from service.watch import catch_up

router = APIRouter(prefix="/v1/admin", tags=["admin"], route_class=GuardedRoute)
_HIGHEST = (1 << 31) - 1  # what an INTEGER column holds


@router.post("/languages/{tag}/rollback", openapi_extra=taking(json=schemas.RollbackRequest))
@needs(Scope.ADMIN)
async def roll_back(tag: str, request: Request, context: Here, asker: Asker) -> schemas.Rollback:
    """Take a language back to its version before, or out; every other language keeps its own, bit for bit."""
    asked = await bodies.read_json(request, schemas.RollbackRequest)
    told = await run_in_threadpool(_roll_back, canonical(tag), asked, asker.id, context)
    if not asked.dry_run:
        await catch_up(context, told.release)
    return told


@router.get("/releases")
@needs(Scope.ADMIN)
async def list_releases(
    context: Here,
    limit: queries.Limit = 20,
    cursor: queries.Cursor = None,
) -> schemas.ReleasePage:
    """Newest first: who, when, why, what changed."""
    before = None if cursor is None else context.cursors.read("releases", cursor)["before"]
    found = await run_in_threadpool(context.registry.releases.list, limit + 1, before)
    more = len(found) > limit
    return schemas.ReleasePage(
        items=[schemas.ReleaseItem.model_validate(release) for release in found[:limit]],
        next_cursor=context.cursors.write("releases", {"before": found[limit - 1].number}) if more else None,
    )


@router.post("/releases/{number}/restore", openapi_extra=taking(json=schemas.RestoreRequest))
@needs(Scope.ADMIN)
async def restore(number: int, request: Request, context: Here, asker: Asker) -> schemas.ReleaseItem:
    """Serve again what an earlier release served, if `expected` serves now."""
    asked = await bodies.read_json(request, schemas.RestoreRequest)

    if not 1 <= number <= _HIGHEST:
        raise ReleaseNotFound("there is no such release")

    def publish() -> Release:
        return context.registry.releases.restore(number, expected=asked.expected, actor=asker.id, reason=asked.reason)

    release = await run_in_threadpool(publish)
    await catch_up(context, release.number)
    return schemas.ReleaseItem.model_validate(release)


@router.post("/keys", status_code=201, openapi_extra=taking(json=schemas.KeyRequest))
@needs(Scope.ADMIN)
async def create_key(request: Request, context: Here) -> schemas.NewKey:
    """Make a key; its text is told this once."""
    asked = await bodies.read_json(request, schemas.KeyRequest)
    key, plain = await run_in_threadpool(context.registry.keys.create, asked.scope, asked.label, asked.expires_at)
    context.keyring.forget()
    return schemas.NewKey(**schemas.KeyItem.model_validate(key).model_dump(), key=plain)


@router.get("/keys")
@needs(Scope.ADMIN)
async def list_keys(context: Here) -> schemas.Keys:
    """All keys without their secrets, newest first."""
    found = await run_in_threadpool(context.registry.keys.list)
    return schemas.Keys(items=[schemas.KeyItem.model_validate(key) for key in found])


@router.delete("/keys/{id}", status_code=204, response_class=Response)
@needs(Scope.ADMIN)
async def revoke_key(id: str, context: Here) -> None:
    """Not valid any more: here at once, in other processes within five seconds."""
    if not values.is_id(id):
        raise KeyNotFound("there is no key of this id")
    await run_in_threadpool(context.registry.keys.revoke, id)
    context.keyring.forget()


@router.post("/index/verify")
@needs(Scope.ADMIN)
async def verify_index(context: Here) -> schemas.Verified:
    """Hash again every file that the served release stands on, and compare with what was registered."""
    problems = await run_in_threadpool(context.holder.verify)
    return schemas.Verified(ok=not problems, release=context.holder.current.release.number, problems=problems)


def _roll_back(tag: str, asked: schemas.RollbackRequest, actor: str, context: Context) -> schemas.Rollback:
    releases = context.registry.releases
    if asked.dry_run:
        plan = releases.plan_rollback(tag)
        number = plan.release
    else:
        release, plan = releases.roll_back(tag, actor=actor, reason=asked.reason, rebuild=asked.rebuild)
        number = release.number
    return schemas.Rollback(
        release=number,
        language=plan.language,
        from_version=plan.from_version,
        to_version=plan.to_version,
        unchanged=plan.unchanged,
        shared_version=plan.shared_version,
        replay=plan.replay,
        rebuild_expansion=plan.rebuild,
        dry_run=asked.dry_run,
    )
