"""Admin: rollbacks, releases, retention, keys, verification. What they do is decided in `store`."""

import logging
from collections.abc import Set
from dataclasses import asdict

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from index.sweep import Pruner
from model.languages import canonical
from service import bodies, values
from service.auth import GuardedRoute, needs
from service.context import AppContext, Caller, Context
from service.openapi import taking
from service.schemas import admin as schemas
from service.schemas.common import IndexRecall
from service.watch import catch_up
from store.errors import KeyNotFound, ReleaseNotFound
from store.expansions import Once
from store.releases import Release
from store.rollback import RollbackPlan

router = APIRouter(prefix="/v1/admin", tags=["admin"], route_class=GuardedRoute)
_log = logging.getLogger("pictoglot.admin")


@router.post("/languages/{tag}/rollback", openapi_extra=taking(json=schemas.RollbackRequest, required=False))
@needs("admin")
async def roll_back(
    tag: str, request: Request, context: AppContext, caller: Caller, idempotency_key: values.IdempotencyKey = None
) -> schemas.Rollback:
    """Roll a language back to its previous version, or remove it if it has none; other languages keep their versions.

    To make a retry safe, send `expected`, the release you have seen: if another one serves by now, the answer is 409
    `alias_moved`. Or send an `Idempotency-Key`: a repeated request gets the first answer again.
    """
    body = await bodies.read_json_if_any(request, schemas.RollbackRequest)
    tag = canonical(tag)
    once = Once.of(caller.id, idempotency_key, ["rollback", tag, body.model_dump()])
    plan = await run_in_threadpool(_roll_back, tag, body, caller.id, once, context)
    if not body.dry_run:
        await catch_up(context, plan.release)
    return schemas.Rollback(**asdict(plan), rebuild_expansion=plan.rebuild, dry_run=body.dry_run)


@router.get("/releases")
@needs("admin")
async def list_releases(
    context: AppContext, limit: values.QueryLimit = 20, cursor: values.QueryCursor = None
) -> schemas.ReleasePage:
    """Releases, newest first: who made them, when and why, and what changed."""
    fetch, cut = context.registry.releases.list, context.cursors.cut
    page, following = await run_in_threadpool(cut, "releases", limit, cursor, fetch, lambda release: release.number)
    versions = context.registry.versions
    pruned, gone = await run_in_threadpool(lambda: (versions.pruned(), versions.gone()))
    return schemas.ReleasePage(items=[_item(release, pruned, gone) for release in page], next_cursor=following)


@router.post("/releases/{number}/restore", openapi_extra=taking(json=schemas.RestoreRequest))
@needs("admin")
async def restore(
    number: values.PathNumber, request: Request, context: AppContext, caller: Caller
) -> schemas.ReleaseItem:
    """Serve again what an earlier release served, if `expected` is the release that serves now."""
    body = await bodies.read_json(request, schemas.RestoreRequest)
    if not 1 <= number <= values.MAX_INTEGER:
        raise ReleaseNotFound("there is no such release")

    def publish() -> Release:
        return context.registry.releases.restore(number, expected=body.expected, actor=caller.id, reason=body.reason)

    release = await run_in_threadpool(publish)
    await catch_up(context, release.number)
    return _item(release)


@router.post("/prune", openapi_extra=taking(json=schemas.PruneRequest))
@needs("admin")
async def prune(request: Request, context: AppContext, caller: Caller) -> schemas.Pruned:
    """Remove the files and vectors of versions that no release in reach names; versions and releases stay listed.

    In reach are the `keep` newest releases, the version that one language would go back to from any of them, everything
    that a running expansion may use, and whatever is younger than the oldest of these releases. What was pruned cannot
    be restored. If this is interrupted, or answers 503, send it again: it goes on.
    """
    body = await bodies.read_json(request, schemas.PruneRequest)
    pruner = Pruner(context.live.sets)
    act = pruner.plan if body.dry_run else pruner.prune
    pruning, items = await run_in_threadpool(act, body.keep, expected=body.expected)
    if not body.dry_run:
        versions = [item.name for item in items if item.what == "version"]
        named = ", ".join(versions) or "no version"
        _log.info("pruned up to release %d: %s", pruning.oldest, named, extra={"key": caller.id})
    return schemas.Pruned(
        release=pruning.release,
        oldest=pruning.oldest,
        items=[schemas.PrunedItem.model_validate(item) for item in items],
        bytes=sum(item.bytes for item in items),
        dry_run=body.dry_run,
    )


@router.post("/keys", status_code=201, openapi_extra=taking(json=schemas.KeyRequest))
@needs("admin")
async def create_key(request: Request, context: AppContext) -> schemas.NewKey:
    """Create a key; its text is shown only in this response."""
    body = await bodies.read_json(request, schemas.KeyRequest)
    given = (body.scope, body.label, body.expires_at, body.collections)
    key, plain = await run_in_threadpool(context.keys.create, *given)
    return schemas.NewKey(**schemas.KeyItem.model_validate(key).model_dump(), key=plain)


@router.get("/keys")
@needs("admin")
async def list_keys(context: AppContext) -> schemas.Keys:
    """All keys without their secrets, newest first."""
    keys = await run_in_threadpool(context.keys.list)
    return schemas.Keys(items=[schemas.KeyItem.model_validate(key) for key in keys])


@router.delete("/keys/{id}", status_code=204, response_class=Response)
@needs("admin")
async def revoke_key(id: str, context: AppContext) -> None:
    """Revoke a key: in this process at once, in other processes within five seconds."""
    if not values.is_id(id):
        raise KeyNotFound("there is no key with this id")
    await run_in_threadpool(context.keys.revoke, id)
    context.keyring.revoke(id)


@router.post("/index/verify")
@needs("admin")
async def verify_index(context: AppContext) -> schemas.Verified:
    """Hash every file of the served release again, and measure how many of the nearest pictures searches find.

    Files of pictures, datasets and versions that the registry names are looked for, not hashed.
    """
    problems = await run_in_threadpool(context.live.verify)
    recall = IndexRecall.told(await run_in_threadpool(context.live.recall))
    return schemas.Verified(
        ok=not problems, release=context.live.current.release.number, problems=problems, recall=recall
    )


def _item(release: Release, pruned: Set[int] = frozenset(), gone: Set[int] = frozenset()) -> schemas.ReleaseItem:
    missing = (pruned & {*release.languages.values()}) | (gone & {release.shared})
    return schemas.ReleaseItem(**asdict(release), pruned=sorted(missing))


def _roll_back(
    tag: str, body: schemas.RollbackRequest, actor: str, once: Once | None, context: Context
) -> RollbackPlan:
    releases = context.registry.releases
    if body.dry_run:
        return releases.plan_rollback(tag, expected=body.expected)
    return releases.roll_back(
        tag, actor=actor, reason=body.reason, expected=body.expected, rebuild=body.rebuild, once=once
    )
