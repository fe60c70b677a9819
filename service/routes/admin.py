"""The routes of administrators: rollbacks, releases, retention, keys, verification, another base."""

import logging
import shutil
from collections.abc import Set
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from pydantic import AwareDatetime
from starlette.concurrency import run_in_threadpool

from index.janitor import Pruner, estimate_move_bytes, finish_withdrawal
from model.backend import choose_target_encoding
from model.languages import MANY, canonicalize
from service import schemas as values
from service.auth import AppContext, Caller, GuardedRoute, require_scope
from service.context import Context
from service.problems import BaseUnusable
from service.schemas import IndexRecall, Report
from service.schemas import admin as schemas
from service.schemas.languages import ExpansionItem
from service.watch import catch_up
from store import files
from store.bases import UndoPlan
from store.errors import (
    BackendNotAvailable,
    BaseNotFound,
    BaseNotSupported,
    BaseServes,
    Conflict,
    EncodingMismatch,
    KeyNotFound,
    ReleaseNotFound,
)
from store.expansions import Expansion, IdempotencyKey
from store.reach import RollbackPlan
from store.releases import Release

router = APIRouter(prefix="/v1/admin", tags=["admin"], route_class=GuardedRoute)
_log = logging.getLogger("pictoglot.admin")


@router.post("/languages/{tag}/rollback")
@require_scope("admin")
async def roll_back(
    tag: str,
    context: AppContext,
    caller: Caller,
    body: Annotated[schemas.RollbackRequest, Body(default_factory=schemas.RollbackRequest)],
    idempotency_key: values.IdempotencyHeader = None,
) -> schemas.Rollback:
    """Roll a language back to its previous version, or remove it if it has none; other languages keep their versions.

    To make a retry safe, send `expected`, the release you have seen: if another one serves by now, the answer is 409
    `alias_moved`. Or send an `Idempotency-Key`: a repeated request gets the first answer again.
    """
    tag = canonicalize(tag)
    key = IdempotencyKey.build(caller.id, idempotency_key, ["rollback", tag, body.model_dump()])
    plan = await run_in_threadpool(_roll_back, tag, body, caller.id, key, context)
    if not body.dry_run:
        await catch_up(context, plan.release)
    return schemas.Rollback(**asdict(plan), rebuild_expansion=plan.rebuild, dry_run=body.dry_run)


@router.post("/languages/{tag}/withdraw")
@require_scope("admin")
async def withdraw_language(
    tag: str, body: schemas.WithdrawalRequest, context: AppContext, caller: Caller
) -> schemas.LanguageWithdrawal:
    """Take a language away for good, with its versions, datasets, taught captions and answers; certify it.

    Files that another language was taught upon stay, and are listed. If this is interrupted, or answers 503, send it
    again: it goes on. Refused while anything is queued or running.
    """
    tag, withdrawals = canonicalize(tag), context.registry.withdrawals
    if body.dry_run:
        release, plan = await run_in_threadpool(withdrawals.plan, tag, expected=body.expected)
        return schemas.LanguageWithdrawal(
            **{**asdict(plan), "language": tag, "release": release}, dry_run=True, certificate=None
        )
    begin = partial(withdrawals.begin, actor=caller.id, reason=body.reason, expected=body.expected)
    begun, done = await run_in_threadpool(begin, tag), None
    while done is None or done.number != begun.number:  # what came after one that was not finished is another's
        await catch_up(context, begun.release)
        done = await run_in_threadpool(finish_withdrawal, context.live.sets, begun)
        begun = await run_in_threadpool(begin, tag)
    _log.info("withdrew %s for good", tag, extra={"key": caller.id})
    return schemas.LanguageWithdrawal(
        **{**asdict(done.plan), "language": tag, "release": done.release}, dry_run=False, certificate=done.certificate
    )


@router.get("/languages/{tag}/withdrawal")
@require_scope("admin")
def get_withdrawal(tag: str, context: AppContext) -> Report:
    """Return the certificate of the newest withdrawal of a language."""
    return dict(context.registry.withdrawals.get_newest(canonicalize(tag)).certificate or {})


@router.delete("/languages/{tag}/contributions", status_code=204, response_class=Response)
@require_scope("admin")
def delete_contributions(tag: str, actor: values.QueryExact, context: AppContext) -> None:
    """Delete for good what a key or person gave to a language: answers, rows that wait, proposed captions.

    `actor` is as in the audit log. What was taught of it is in datasets, and captions that were accepted belong to the
    pictures: both stay.
    """
    context.registry.withdrawals.delete_contributions(canonicalize(tag), actor)


@router.get("/releases")
@require_scope("admin")
def list_releases(
    context: AppContext, limit: values.QueryLimit = 20, cursor: values.QueryCursor = None
) -> schemas.ReleasePage:
    """Releases, newest first: who made them, when and why, and what changed."""
    fetch, paginate = context.registry.releases.list, context.cursors.paginate
    page, following = paginate("releases", limit, cursor, fetch, lambda release: release.number)
    pruned, gone = context.registry.versions.find_pruned(), context.registry.versions.find_unneeded()
    return schemas.ReleasePage(items=[_make_item(release, pruned, gone) for release in page], next_cursor=following)


@router.get("/audit")
@require_scope("admin")
def list_acts(
    context: AppContext,
    limit: values.QueryLimit = 20,
    cursor: values.QueryCursor = None,
    actor: values.QueryExact | None = None,
    act: values.QueryExact | None = None,
    target: values.QueryExact | None = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
) -> schemas.AuditPage:
    """List who changed what, newest first: of one key, one act (`PUT /v1/pictures/{id}`), one target, or a time.

    An entry is written in the transaction of the change; what was refused has none.
    """
    wanted: dict[str, Any] = {"actor": actor, "act": act, "target": target, "since": since, "until": until}
    fetch = partial(context.registry.audit.list, **wanted)
    page, following = context.cursors.paginate(
        ["audit", *map(str, wanted.values())], limit, cursor, fetch, lambda entry: entry.number
    )
    return schemas.AuditPage(
        items=[schemas.AuditItem.model_validate(entry, from_attributes=True) for entry in page], next_cursor=following
    )


@router.post("/releases/{number}/restore")
@require_scope("admin")
async def restore(
    number: values.PathNumber, body: schemas.RestoreRequest, context: AppContext, caller: Caller
) -> schemas.ReleaseItem:
    """Serve again what an earlier release served, if `expected` is the release that serves now."""
    if not 1 <= number <= values.MAX_INTEGER:
        raise ReleaseNotFound("there is no such release")

    def publish() -> Release:
        return context.registry.releases.restore(number, expected=body.expected, actor=caller.id, reason=body.reason)

    release = await run_in_threadpool(publish)
    await catch_up(context, release.number)
    return _make_item(release)


@router.post("/prune")
@require_scope("admin")
def prune(body: schemas.PruneRequest, context: AppContext, caller: Caller) -> schemas.PruneResult:
    """Remove the files and vectors of versions that no release in reach names; versions and releases stay listed.

    In reach are the `keep` newest releases, the version that one language would go back to from any of them, everything
    that a running expansion may use, and whatever is younger than the oldest of these releases. What was pruned cannot
    be restored. If this is interrupted, or answers 503, send it again: it goes on.
    """
    pruner = Pruner(context.live.sets)
    pruning, items = (pruner.plan if body.dry_run else pruner.prune)(body.keep, expected=body.expected)
    if not body.dry_run:
        versions = [item.name for item in items if item.what == "version"]
        names = ", ".join(versions) or "no version"
        _log.info("pruned up to release %d: %s", pruning.oldest, names, extra={"key": caller.id})
    return schemas.PruneResult(
        release=pruning.release,
        oldest=pruning.oldest,
        items=[schemas.PrunedItem.model_validate(item) for item in items],
        bytes=sum(item.bytes for item in items),
        dry_run=body.dry_run,
    )


@router.post("/keys", status_code=201)
@require_scope("admin")
def create_key(body: schemas.KeyRequest, context: AppContext) -> schemas.NewKey:
    """Create a key; its text is shown only in this response."""
    bound = body.collections and [*dict.fromkeys(map(context.selection.find_spelling, body.collections))]
    key, plain = context.keys.create(body.scope, body.label, body.expires_at, bound)
    return schemas.NewKey(**schemas.KeyItem.model_validate(key).model_dump(), key=plain)


@router.get("/keys")
@require_scope("admin")
def list_keys(context: AppContext) -> schemas.Keys:
    """All keys without their secrets, newest first."""
    return schemas.Keys(items=[schemas.KeyItem.model_validate(key) for key in context.keys.list()])


@router.get("/sessions")
@require_scope("admin")
def list_sessions(context: AppContext) -> schemas.Sessions:
    """List the open sessions of browsers, newest first; `DELETE /v1/admin/keys/{id}` ends one."""
    sessions, now = context.registry.sessions.list(), datetime.now(UTC)
    return schemas.Sessions(items=[schemas.SessionItem.model_validate(s) for s in sessions if s.expires_at > now])


@router.delete("/keys/{id}", status_code=204, response_class=Response)
@require_scope("admin")
def revoke_key(id: str, context: AppContext) -> None:
    """Revoke a key, or end a session: in this process at once, in other processes within five seconds."""
    if not values.is_id(id):
        raise KeyNotFound("there is no key with this id")
    if not context.registry.sessions.end(id):
        context.keys.revoke(id)
    context.people.keyring.revoke(id)


@router.post("/index/verify")
@require_scope("admin")
def verify_index(context: AppContext) -> schemas.VerifyResult:
    """Hash every file of the served release again, and measure how many of the nearest pictures searches find.

    Files of pictures, datasets and versions that the registry names are looked for, not hashed.
    """
    problems, recall = context.live.verify(), IndexRecall.describe(context.live.measure_recall())
    return schemas.VerifyResult(
        ok=not problems, release=context.live.current.release.number, problems=problems, recall=recall
    )


def _make_item(release: Release, pruned: Set[int] = frozenset(), gone: Set[int] = frozenset()) -> schemas.ReleaseItem:
    missing = (pruned & {*release.languages.values()}) | (gone & {release.shared})
    return schemas.ReleaseItem(**asdict(release), pruned=sorted(missing))


def _roll_back(
    tag: str, body: schemas.RollbackRequest, actor: str, key: IdempotencyKey | None, context: Context
) -> RollbackPlan:
    releases = context.registry.releases
    if body.dry_run:
        return releases.plan_rollback(tag, expected=body.expected)
    return releases.roll_back(
        tag, actor=actor, reason=body.reason, expected=body.expected, rebuild=body.rebuild, key=key
    )


@router.get("/base")
@require_scope("admin")
def get_base(context: AppContext) -> schemas.BaseStatus:
    """Which base serves, the newest move to another one with its comparison, and what the way back would do."""
    registry, names = context.registry, _name_bases(context)
    serving, newest = registry.releases.get_serving(), registry.expansions.find_newest("base")
    try:
        undo = _describe_undo(registry.bases.plan_undo(), context, dry_run=True)
    except Conflict:  # nothing before, pruned, or a move in progress
        undo = None
    snapshot, version = context.live.served, context.encoder.base_view.version
    return schemas.BaseStatus(
        base=names[serving.base],
        encoding=str(registry.encodings.find_current() or context.encoder.encoding),
        version=serving.base,
        release=serving.number,
        open=schemas.OpenBase(
            base=context.base,
            encoding=str(context.encoder.encoding),
            version=version,
            release=snapshot and snapshot.release.number,
        ),
        move=None if newest is None else ExpansionItem.model_validate(newest),
        undo=undo,
    )


@router.post(
    "/base",
    status_code=202,
    responses={200: {"model": schemas.SubmittedMove, "description": "With `dry_run`."}},
)
@require_scope("admin")
async def move_base(
    body: schemas.BaseMove,
    response: Response,
    context: AppContext,
    caller: Caller,
    idempotency_key: values.IdempotencyHeader = None,
) -> schemas.SubmittedMove:
    """Make everything anew for another base or encoding, beside what serves, and then serve that by one release.

    202 with the expansion; with `dry_run` only what it takes. It ends with `gate_failed` when a language would lose
    more than the forgetting budget, unless it is forced. Refused while anything else is queued or running.
    """
    key = IdempotencyKey.build(caller.id, idempotency_key, ["base", body.model_dump()])
    submitted = await run_in_threadpool(_submit_move, body, key, caller.id, context)
    if submitted.expansion is None:
        response.status_code = 200
    else:
        response.headers["Location"] = f"/v1/expansions/{submitted.expansion.id}"
    return submitted


@router.post("/base/undo")
@require_scope("admin")
async def undo_base(body: schemas.BaseUndo, context: AppContext, caller: Caller) -> schemas.BaseUndoResult:
    """Serve the base or encoding before this one again, as its last release did; each process opens it beside.

    Languages that were learned on this base alone are no longer served. Done twice, it leads back.
    """
    bases = context.registry.bases
    if body.dry_run:
        planned = await run_in_threadpool(bases.plan_undo, expected=body.expected)
    else:
        planned = await run_in_threadpool(bases.undo, actor=caller.id, reason=body.reason, expected=body.expected)
        await catch_up(context, planned.release)
    return await run_in_threadpool(_describe_undo, planned, context, dry_run=body.dry_run)


def _submit_move(
    body: schemas.BaseMove, key: IdempotencyKey | None, actor: str, context: Context
) -> schemas.SubmittedMove:
    from model.base import measure_base  # imported late: torch takes seconds, and test encoders do not need it

    registry, settings = context.registry, context.settings
    if not body.dry_run and (earlier := registry.expansions.find_submitted(key)) is not None:
        asked = str(earlier.settings["base"]).partition("@")[0]  # it may serve by now, or be gone
        return schemas.SubmittedMove(base=asked, expansion=ExpansionItem.model_validate(earlier), dry_run=False)
    serving, served = registry.releases.get_serving(), registry.bases.find_serving()
    made_by, base = registry.encodings.find_current(), body.base or (served.name if served else settings.base)
    try:
        encoding = choose_target_encoding(settings, registry, body.backend, body.precision)
        if served is not None and served.name == base and made_by in (None, encoding):
            raise BaseServes(f"Base {served.public_name} serves already, with vectors made by {encoding}.")
        dimension, towers = measure_base(base)
    except (BaseNotFound, BaseNotSupported, BackendNotAvailable, EncodingMismatch) as error:
        raise BaseUnusable(f"{error.detail}.".replace("..", ".")) from error
    needed = estimate_move_bytes(registry, dimension, towers, teaches=served is None or served.name != base)
    free = shutil.disk_usage(settings.home).free
    files.require_room(settings.home, needed, settings.free_bytes)
    expansion: Expansion | None = None
    if not body.dry_run:
        expansion, _ = registry.expansions.submit(
            kind="base",
            language=MANY,
            settings={"base": base, **encoding.get_settings(), "force": body.force},
            actor=actor,
            key=key,
        )
    return schemas.SubmittedMove(
        base=base.partition("@")[0],
        languages=[] if served is not None and served.name == base else sorted(serving.languages.keys() - {"en"}),
        needed=needed,
        free=free,
        expansion=None if expansion is None else ExpansionItem.model_validate(expansion),
        dry_run=body.dry_run,
    )


def _describe_undo(planned: UndoPlan, context: Context, *, dry_run: bool) -> schemas.BaseUndoResult:
    names, fields = _name_bases(context), asdict(planned)
    bases = {name: names[fields.pop(name)] for name in ("from_base", "to_base")}
    return schemas.BaseUndoResult(**fields, **bases, dry_run=dry_run)


def _name_bases(context: Context) -> dict[int, str]:
    """Return the name of each base as clients see it, by number."""
    return {base.number: base.public_name for base in context.registry.bases.list()}
