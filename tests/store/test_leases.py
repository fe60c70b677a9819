"""Expansions, and their leases: one holder, late writers refused, attempts capped, the database's clock."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from store.clock import now
from store.errors import ExpansionFinished, ExpansionInProgress, ExpansionNotFound, IdempotencyKeyReused, LeaseLost
from store.expansions import Expansion
from store.leases import Lease
from store.registry import Registry
from store.tables import ExpansionRow, IdempotencyRow
from tests.store.steps import begin, promote, race, submit, write

Write = Callable[[Registry, Lease], object]
WRITES: dict[str, Write] = {
    "heartbeat": lambda registry, lease: registry.expansions.renew_lease(lease),
    "progress": lambda registry, lease: registry.expansions.record_progress(lease, phase="train", progress=0.5),
    "succeed": lambda registry, lease: registry.expansions.succeed(lease, 1, 2, {}),
    "fail": lambda registry, lease: registry.expansions.fail(lease, "gate_failed", "Too low."),
    "cancelled": lambda registry, lease: registry.expansions.end_as_cancelled(lease),
    "release_lease": lambda registry, lease: registry.expansions.give_back_lease(lease),
    "add": lambda registry, lease: write(registry, lease, "cy", 0),
    "promote": lambda registry, lease: promote(registry, lease, registry.versions.get(0)),
}
ENDS: dict[str, Write] = {
    "died": lambda registry, lease: registry.expansions.give_back_lease(lease, cause="killed for its memory"),
    "suspect": lambda registry, lease: registry.expansions.give_back_lease(lease, cause="locked", suspect=True),
    "stopped": lambda registry, lease: registry.expansions.give_back_lease(lease, stopped=True),
    "vanished": lambda registry, lease: registry.expansions.renew_lease(lease, seconds=-1),
}


def retry(registry: Registry, lease: Lease, end: str = "vanished") -> Lease | None:
    """End an attempt in this way, and begin the next one if there may be one."""
    ENDS[end](registry, lease)
    return registry.expansions.take_lease(lease.expansion, "other")


def read_expiry(registry: Registry, lease: Lease) -> tuple[float, float]:
    """Return when a lease runs out, and what time it is, both by the database's clock."""
    row = select(ExpansionRow.lease_expires, now()).where(ExpansionRow.id == lease.expansion)
    with registry.read() as session:
        until, moment = session.execute(row).one()
    assert until is not None
    return until.timestamp(), moment.timestamp()


def test_of_twenty_racing_workers_one_gets_the_lease_and_the_expansion_runs(registry: Registry) -> None:
    id = submit(registry, "cy").id
    answers = race(*[partial(registry.expansions.take_lease, id, f"w{n}") for n in range(20)])
    (lease,) = (answer for answer in answers if isinstance(answer, Lease))
    running = registry.expansions.get(id)
    assert (running.state, running.attempt, lease.fence) == ("running", 1, 1)
    assert running.started_at is not None and registry.expansions.list_runnable() == []


def test_a_held_expansion_is_not_leased_again_until_its_lease_ran_out(registry: Registry) -> None:
    lease = registry.expansions.take_lease(submit(registry, "cy").id, "w", seconds=600)
    assert lease is not None
    until, moment = read_expiry(registry, lease)
    assert 0 < until - moment <= 600
    assert registry.expansions.take_lease(lease.expansion, "other") is None
    registry.expansions.renew_lease(lease, seconds=0.5)
    until, _ = read_expiry(registry, lease)
    patience = time.monotonic() + 60
    while (
        later := registry.expansions.take_lease(lease.expansion, "other")
    ) is None:  # no test turns the database's clock
        assert time.monotonic() < patience
        time.sleep(0.05)
    assert later.fence == 2 and read_expiry(registry, later)[1] > until


def test_a_lease_that_runs_out_while_it_is_asked_for_ends_no_expansion(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, get = begin(registry, "cy"), Session.get

    def expire_and_get(session: Session, *given: Any) -> Any:
        session.execute(text("UPDATE expansions SET lease_expires = 1"))
        return get(session, *given)

    with monkeypatch.context() as patched:
        patched.setattr(Session, "get", expire_and_get)  # between the two statements of the method
        assert registry.expansions.take_lease(lease.expansion, "other") is None
    assert registry.expansions.get(lease.expansion).state == "running"
    assert registry.expansions.take_lease(lease.expansion, "other") is not None


def test_a_wrong_clock_of_this_machine_moves_no_lease(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    lease, real = begin(registry, "cy"), time.time
    for hours in (-1, 1):
        monkeypatch.setattr(time, "time", lambda offset=hours * 3600: real() + offset)
        registry.expansions.renew_lease(lease)
        until, moment = read_expiry(registry, lease)
        assert 0 < until - moment <= 30
        assert registry.expansions.take_lease(lease.expansion, "other") is None
        assert registry.expansions.list_runnable() == []


@pytest.mark.row("K4")
def test_a_holder_that_was_overtaken_can_write_nothing(registry: Registry) -> None:
    late = begin(registry, "cy")
    assert retry(registry, late) is not None
    before = registry.expansions.get(late.expansion), registry.versions.list(), registry.releases.list()
    for act in WRITES.values():
        with pytest.raises(LeaseLost):
            act(registry, late)
    assert (registry.expansions.get(late.expansion), registry.versions.list(), registry.releases.list()) == before
    # the precondition: everything but the fence still fits this holder
    unfenced = update(ExpansionRow).where(ExpansionRow.id == late.expansion, ExpansionRow.state == "running")
    with registry.begin() as session:
        assert session.scalar(unfenced.values(phase="late").returning(ExpansionRow.phase)) == "late"


@pytest.mark.row("K5")
@pytest.mark.parametrize("end", ["succeed", "fail"])
def test_a_finished_expansion_is_not_begun_again_and_nothing_is_written_about_it(registry: Registry, end: str) -> None:
    lease = begin(registry, "cy")
    WRITES[end](registry, lease)
    assert registry.expansions.take_lease(lease.expansion, "other") is None
    for act in WRITES.values():
        with pytest.raises(LeaseLost):
            act(registry, lease)


@pytest.mark.parametrize("end", ["fail", "too many attempts"])
def test_what_is_released_has_succeeded_whatever_comes_after(registry: Registry, end: str) -> None:
    lease: Lease | None = begin(registry, "cy")
    assert lease is not None
    expansion, version = lease.expansion, write(registry, lease, "cy", 0)
    release = promote(registry, lease, version)
    if end == "fail":
        registry.expansions.fail(lease, "gate_failed", "Too low.")
    while lease is not None and end != "fail":
        lease = retry(registry, lease, "died")
    ended = registry.expansions.get(expansion)
    assert (ended.state, ended.error) == ("succeeded", None)
    assert (ended.version, ended.release) == (version.number, release.number)


CAPPED = [
    pytest.param(["died"] * 3, "killed for its memory", id="died", marks=pytest.mark.row("K2")),
    pytest.param(["vanished"] * 20, "with their worker", id="vanished", marks=pytest.mark.row("F14")),
    pytest.param(["suspect"] * 20, "locked", id="suspect", marks=pytest.mark.row("F14")),
    pytest.param([*["vanished"] * 4, "died", *["vanished"] * 4, "died", "died"], "killed", id="those that die count"),
    pytest.param([*["stopped"] * 5, *["died"] * 3], "killed", id="stopped on request"),
    pytest.param(["died", "died", "telling", "died"], "killed", id="telling writes nothing"),
    pytest.param(["died", "died", "progress", *["died"] * 3], "killed", id="progress begins anew"),
]


@pytest.mark.parametrize(("history", "said"), CAPPED)
def test_attempts_without_progress_are_capped(registry: Registry, history: list[str], said: str) -> None:
    lease: Lease | None = begin(registry, "cy")
    assert lease is not None
    expansion = lease.expansion
    for step in history:
        assert lease is not None and registry.expansions.get(expansion).state == "running"
        if step in ENDS:
            lease = retry(registry, lease, step)
        else:
            registry.expansions.record_progress(lease, phase="train", progress=0.4, made_progress=step == "progress")
    assert lease is None and not registry.expansions.list_runnable()
    failed = registry.expansions.get(expansion)
    assert failed.state == "failed" and failed.error is not None
    assert failed.error.code == "too_many_attempts" and said in failed.error.detail


def test_progress_success_and_failure_are_recorded(registry: Registry) -> None:
    lease = begin(registry, "cy")
    registry.expansions.record_progress(lease, phase="train", step=4, steps=10, progress=0.4, eta_seconds=6.0)
    seen = registry.expansions.get(lease.expansion)
    assert (seen.phase, seen.step, seen.steps, seen.progress, seen.eta_seconds) == ("train", 4, 10, 0.4, 6.0)
    registry.expansions.succeed(lease, 1, 2, {"t2i": {"R@1": 0.5}})
    done = registry.expansions.get(lease.expansion)
    assert (done.state, done.version, done.release, done.progress) == ("succeeded", 1, 2, 1.0)
    assert done.report == {"t2i": {"R@1": 0.5}} and done.finished_at is not None

    lease = begin(registry, "de")
    registry.expansions.fail(lease, "gate_failed", "Too low.", {"loss": float("nan")})
    failed = registry.expansions.get(lease.expansion)
    assert failed.error is not None and (failed.state, failed.error.code) == ("failed", "gate_failed")
    assert failed.report == {"loss": None}  # no database and no answer holds a NaN


def test_what_is_released_is_finished_by_the_next_attempt_even_when_its_worker_reports_cancelled(
    registry: Registry,
) -> None:
    lease = begin(registry, "cy")
    release = promote(registry, lease, write(registry, lease, "cy", 0))
    registry.expansions.end_as_cancelled(lease)
    later = registry.expansions.take_lease(lease.expansion, "other")
    assert later is not None
    assert promote(registry, later, registry.versions.get(1)) == release
    registry.expansions.succeed(later, 1, release.number, {})


def test_runnable_are_the_queued_and_the_abandoned_and_the_oldest_has_waited_longest(registry: Registry) -> None:
    assert registry.expansions.measure_longest_wait() == 0.0
    abandoned = begin(registry, "a")
    begin(registry, "b")
    assert registry.expansions.measure_longest_wait() == 0.0
    queued = submit(registry, "c").id
    ENDS["vanished"](registry, abandoned)
    registry.expansions.cancel(submit(registry, "d").id)
    assert registry.expansions.list_runnable() == [abandoned.expansion, queued]
    assert registry.expansions.list_runnable("running") == [abandoned.expansion]
    with registry.begin() as session:
        session.execute(text("UPDATE expansions SET created_at = created_at - 60 WHERE state = 'queued'"))
    assert 60 <= registry.expansions.measure_longest_wait() < 70
    lease = registry.expansions.take_lease(queued, "w")
    assert lease is not None
    registry.expansions.give_back_lease(lease)
    assert registry.expansions.measure_longest_wait() < 10


def test_the_database_itself_refuses_a_second_active_expansion(registry: Registry) -> None:
    submit(registry, "cy")
    copy = text(
        "INSERT INTO expansions (id, kind, language, state, settings, actor, created_at, progress, step, steps,"
        " cancel_requested, attempt, stalled, vanished, fence) SELECT 'other', kind, language, 'running', settings,"
        " actor, created_at, progress, step, steps, cancel_requested, attempt, stalled, vanished, fence FROM expansions"
    )
    with pytest.raises(IntegrityError), registry.begin() as session:
        session.execute(copy)


@pytest.mark.row("E6")
def test_of_two_racing_submissions_one_is_taken_200_times(registry: Registry) -> None:
    for number in range(200):
        taken = race(*[partial(submit, registry, f"x-{number}")] * 2)
        assert {type(answer) for answer in taken} == {Expansion, ExpansionInProgress}
    assert len(registry.expansions.list()) == 200


@pytest.mark.row("E7")
def test_the_same_key_50_times_at_once_is_one_expansion(registry: Registry) -> None:
    made = race(*[partial(submit, registry, "cy", key="k")] * 50)
    assert made == [registry.expansions.list()[0]] * 50


def test_a_key_belongs_to_its_actor_and_body_and_is_remembered_for_a_week(registry: Registry) -> None:
    first = submit(registry, "cy", key="k")
    registry.expansions.cancel(first.id)
    assert submit(registry, "cy", key="k").id == first.id, "even when that has ended"
    assert submit(registry, "br", key="k", actor="other").id != first.id
    with pytest.raises(IdempotencyKeyReused):
        submit(registry, "de", key="k", body="two")
    assert [expansion.language for expansion in registry.expansions.list()] == ["br", "cy"]
    with registry.begin() as session:
        session.execute(update(IdempotencyRow).values(created_at=now() - 7 * 86_400 - 1))
    submit(registry, "de", key="new")  # whoever uses a key sweeps the old ones
    assert submit(registry, "cy", key="k").id != first.id


def test_pages_are_newest_first_and_leave_nothing_out(registry: Registry) -> None:
    made = [submit(registry, f"x-{number}").id for number in range(7)]
    pages, before = [], None
    while page := registry.expansions.list(limit=3, before=before):
        pages += [expansion.id for expansion in page]
        before = pages[-1]
    assert sorted(pages) == sorted(made)
    with pytest.raises(ExpansionNotFound):
        registry.expansions.list(before="exp_unknown")


def test_an_expansion_that_no_worker_holds_is_cancelled_at_once(registry: Registry) -> None:
    silent = registry.expansions.take_lease(submit(registry, "de").id, "w", seconds=-1)
    assert silent is not None
    for id in (submit(registry, "cy").id, silent.expansion):
        cancelled = registry.expansions.cancel(id)
        assert cancelled.state == "cancelled" and cancelled.finished_at is not None
        assert registry.expansions.take_lease(id, "w") is None
        with pytest.raises(ExpansionFinished):
            registry.expansions.cancel(id)


@pytest.mark.parametrize("end", ["stops", "fails", "dies"])
def test_a_running_expansion_is_asked_to_stop_and_is_cancelled_however_it_ends(registry: Registry, end: str) -> None:
    lease = begin(registry, "cy")
    assert registry.expansions.renew_lease(lease) is False
    cancelled = registry.expansions.cancel(lease.expansion)
    assert (cancelled.state, cancelled.cancel_requested) == ("running", True)
    assert registry.expansions.renew_lease(lease) is True
    if end == "stops":
        registry.expansions.end_as_cancelled(lease)
    elif end == "fails":
        registry.expansions.fail(lease, "internal_error", "Terminated.")
    else:
        registry.expansions.renew_lease(lease, seconds=-1)
        assert registry.expansions.list_runnable() == [lease.expansion]
        assert registry.expansions.take_lease(lease.expansion, "other") is None
    ended = registry.expansions.get(lease.expansion)
    assert (ended.state, ended.error) == ("cancelled", None)


def test_a_released_expansion_is_not_cancelled_but_finished(registry: Registry) -> None:
    lease = begin(registry, "cy")
    promote(registry, lease, write(registry, lease, "cy", 0))
    with pytest.raises(ExpansionFinished):
        registry.expansions.cancel(lease.expansion)
