"""Tests for leases: one holder, late writers refused, attempts capped, the database's clock."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from store.clock import now
from store.errors import LeaseLost
from store.leases import MAX_VANISHED, Lease
from store.registry import Registry
from store.tables import ExpansionRow
from tests.store.steps import begin, promote, race, submit, write

Write = Callable[[Registry, Lease], object]
WRITES: dict[str, Write] = {
    "heartbeat": lambda registry, lease: registry.expansions.heartbeat(lease),
    "progress": lambda registry, lease: registry.expansions.progress(lease, phase="train", progress=0.5),
    "succeed": lambda registry, lease: registry.expansions.succeed(lease, 1, 2, {}),
    "fail": lambda registry, lease: registry.expansions.fail(lease, "gate_failed", "Too low."),
    "cancelled": lambda registry, lease: registry.expansions.cancelled(lease),
    "release_lease": lambda registry, lease: registry.expansions.release_lease(lease),
    "add": lambda registry, lease: write(registry, lease, "cy", 0),
    "promote": lambda registry, lease: promote(registry, lease, registry.versions.get(0)),
}


def expire(registry: Registry, lease: Lease) -> None:
    """As if the holder had sent no heartbeat for a whole lease."""
    registry.expansions.heartbeat(lease, seconds=-1)


def clock(registry: Registry) -> float:
    """The database's clock."""
    with registry.read() as session:
        return session.execute(select(now())).scalar_one().timestamp()


def expires(registry: Registry, lease: Lease) -> float:
    """When a lease runs out, by the database's clock."""
    with registry.read() as session:
        until = session.scalar(select(ExpansionRow.lease_expires).where(ExpansionRow.id == lease.expansion))
    assert until is not None
    return until.timestamp()


def again(registry: Registry, lease: Lease) -> Lease:
    """The next attempt, by another worker."""
    expire(registry, lease)
    later = registry.expansions.lease(lease.expansion, "other")
    assert later is not None
    return later


def test_a_lease_makes_the_expansion_run(registry: Registry) -> None:
    lease = begin(registry, "cy")
    running = registry.expansions.get(lease.expansion)
    assert (running.state, running.attempt, lease.fence, lease.owner) == ("running", 1, 1, "worker")
    assert running.started_at is not None
    assert registry.expansions.runnable() == []


def test_of_twenty_racing_workers_one_gets_the_lease(registry: Registry) -> None:
    id = submit(registry, "cy").id
    answers = race(*[partial(registry.expansions.lease, id, f"w{n}") for n in range(20)])
    assert sum(answer is not None for answer in answers) == 1
    assert registry.expansions.get(id).attempt == 1


def test_a_held_expansion_is_not_leased_again_until_its_lease_ran_out(registry: Registry) -> None:
    before = clock(registry)
    lease = registry.expansions.lease(submit(registry, "cy").id, "w", seconds=600)
    assert lease is not None
    assert before + 600 <= expires(registry, lease) <= clock(registry) + 600  # however slow this machine is
    assert registry.expansions.lease(lease.expansion, "other") is None
    registry.expansions.heartbeat(lease, seconds=0.5)
    ends = expires(registry, lease)
    until = time.monotonic() + 60
    while (later := registry.expansions.lease(lease.expansion, "other")) is None:  # no test turns the database's clock
        assert time.monotonic() < until
        time.sleep(0.05)
    assert later.fence == 2 and clock(registry) > ends


def test_a_lease_that_runs_out_while_it_is_asked_for_ends_no_expansion(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, get = begin(registry, "cy"), Session.get

    def late(session: Session, *given: Any) -> Any:
        session.execute(text("UPDATE expansions SET lease_expires = 1"))
        return get(session, *given)

    with monkeypatch.context() as patched:
        patched.setattr(Session, "get", late)  # between the two statements of the method
        assert registry.expansions.lease(lease.expansion, "other") is None
    assert registry.expansions.get(lease.expansion).state == "running"
    assert registry.expansions.lease(lease.expansion, "other") is not None


def test_a_wrong_clock_of_this_machine_moves_no_lease(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = begin(registry, "cy")
    real = time.time
    for hours in (-1, 1):
        monkeypatch.setattr(time, "time", lambda offset=hours * 3600: real() + offset)
        assert registry.expansions.lease(lease.expansion, "other") is None
        assert registry.expansions.runnable() == []


@pytest.mark.row("K4")
@pytest.mark.parametrize("name", WRITES)
def test_a_holder_that_was_overtaken_can_write_nothing(registry: Registry, name: str) -> None:
    late = begin(registry, "cy")
    again(registry, late)
    before = registry.expansions.get(late.expansion), registry.versions.list(), registry.releases.list()
    with pytest.raises(LeaseLost):
        WRITES[name](registry, late)
    assert (registry.expansions.get(late.expansion), registry.versions.list(), registry.releases.list()) == before


def test_without_the_fence_the_late_write_would_pass(registry: Registry) -> None:
    """The precondition of the test above: everything but the fence still fits the holder that was overtaken."""
    late = begin(registry, "cy")
    again(registry, late)
    unfenced = update(ExpansionRow).where(ExpansionRow.id == late.expansion, ExpansionRow.state == "running")
    with registry.begin() as session:
        assert session.scalar(unfenced.values(phase="late").returning(ExpansionRow.phase)) == "late"


@pytest.mark.parametrize("name", WRITES)
def test_nothing_is_written_about_a_finished_expansion(registry: Registry, name: str) -> None:
    lease = begin(registry, "cy")
    registry.expansions.fail(lease, "gate_failed", "Too low.")
    with pytest.raises(LeaseLost):
        WRITES[name](registry, lease)


@pytest.mark.parametrize("end", ["fail", "too many attempts"])
def test_what_is_released_has_succeeded_whatever_comes_after(registry: Registry, end: str) -> None:
    lease = begin(registry, "cy")
    version = write(registry, lease, "cy", 0)
    release = promote(registry, lease, version)
    if end == "fail":
        registry.expansions.fail(lease, "gate_failed", "Too low.")
    else:
        attempt: Lease | None = lease
        while attempt is not None:
            registry.expansions.release_lease(attempt, cause="killed")
            attempt = registry.expansions.lease(lease.expansion, "w")
    ended = registry.expansions.get(lease.expansion)
    assert (ended.state, ended.error) == ("succeeded", None)
    assert (ended.version, ended.release) == (version.number, release.number)


def test_attempts_that_were_stopped_after_progress_allow_no_further_ones(registry: Registry) -> None:
    id = submit(registry, "cy").id
    for _ in range(4):
        lease = registry.expansions.lease(id, "w")
        assert lease is not None
        registry.expansions.progress(lease, phase="train", progress=0.1, made_progress=True)
        registry.expansions.release_lease(lease, stopped=True)
    died = 0
    while (lease := registry.expansions.lease(id, "w")) is not None:
        registry.expansions.release_lease(lease, cause="killed")
        died += 1
    assert died == 3


@pytest.mark.row("K2")
def test_the_fourth_attempt_without_progress_fails_the_expansion_with_the_last_cause(registry: Registry) -> None:
    id = submit(registry, "cy").id
    for _ in range(3):
        lease = registry.expansions.lease(id, "w")
        assert lease is not None
        registry.expansions.release_lease(lease, cause="killed for its memory")
    assert registry.expansions.lease(id, "w") is None
    failed = registry.expansions.get(id)
    assert failed.state == "failed" and failed.error is not None
    assert failed.error.code == "too_many_attempts" and "killed for its memory" in failed.error.detail
    assert not registry.expansions.runnable()


@pytest.mark.row("F14")
def test_attempts_ended_for_what_another_process_may_have_done_count_as_those_that_vanish(registry: Registry) -> None:
    lease: Lease | None = begin(registry, "cy")
    died = 0
    while lease is not None:
        registry.expansions.release_lease(lease, cause="the registry was locked", suspect=True)
        died, lease = died + 1, registry.expansions.lease(lease.expansion, "w")
    assert died == MAX_VANISHED


@pytest.mark.row("F14")
def test_attempts_that_vanish_with_their_worker_count_only_when_there_are_twenty(registry: Registry) -> None:
    lease = begin(registry, "cy")
    for _ in range(MAX_VANISHED - 1):
        lease = again(registry, lease)
    assert MAX_VANISHED == 20 and registry.expansions.get(lease.expansion).state == "running"
    expire(registry, lease)
    assert registry.expansions.lease(lease.expansion, "w") is None
    failed = registry.expansions.get(lease.expansion)
    assert failed.state == "failed" and failed.error is not None
    assert failed.error.code == "too_many_attempts" and "with their worker" in failed.error.detail


@pytest.mark.row("F14")
def test_of_attempts_only_those_that_die_by_themselves_are_counted_with_each_other(registry: Registry) -> None:
    lease = begin(registry, "cy")
    for _ in range(2):
        for _ in range(4):
            lease = again(registry, lease)
        registry.expansions.release_lease(lease, cause="killed for its memory")
        taken = registry.expansions.lease(lease.expansion, "w")
        assert taken is not None
        lease = taken
    registry.expansions.release_lease(lease, cause="killed for its memory")
    assert registry.expansions.lease(lease.expansion, "w") is None
    assert registry.expansions.get(lease.expansion).state == "failed"


def die(registry: Registry, lease: Lease, times: int) -> Lease:
    """Attempts whose process dies; returns the lease of the next one."""
    for _ in range(times):
        registry.expansions.release_lease(lease, cause="killed")
        later = registry.expansions.lease(lease.expansion, "w")
        assert later is not None
        lease = later
    return lease


def test_progress_gives_new_attempts(registry: Registry) -> None:
    lease = die(registry, begin(registry, "cy"), 2)
    registry.expansions.progress(lease, phase="train", progress=0.4, step=4, steps=10, made_progress=True)
    lease = die(registry, lease, 2)
    assert registry.expansions.get(lease.expansion).attempt == 5


def test_progress_that_reached_nothing_durable_gives_none(registry: Registry) -> None:
    lease = die(registry, begin(registry, "cy"), 2)
    registry.expansions.progress(lease, phase="train", progress=0.4)
    registry.expansions.release_lease(lease, cause="killed")
    assert registry.expansions.lease(lease.expansion, "w") is None


def test_stopping_on_request_does_not_count_as_an_attempt_without_progress(registry: Registry) -> None:
    id = submit(registry, "cy").id
    for _ in range(5):
        lease = registry.expansions.lease(id, "w")
        assert lease is not None
        registry.expansions.release_lease(lease, stopped=True)
        assert registry.expansions.get(id).state == "queued"


def test_progress_can_be_read(registry: Registry) -> None:
    lease = begin(registry, "cy")
    registry.expansions.progress(lease, phase="train", step=4, steps=10, progress=0.4, eta_seconds=6.0)
    seen = registry.expansions.get(lease.expansion)
    assert (seen.phase, seen.step, seen.steps, seen.progress, seen.eta_seconds) == ("train", 4, 10, 0.4, 6.0)


def test_success_and_failure_are_recorded(registry: Registry) -> None:
    lease = begin(registry, "cy")
    registry.expansions.succeed(lease, 1, 2, {"t2i": {"R@1": 0.5}})
    done = registry.expansions.get(lease.expansion)
    assert (done.state, done.version, done.release, done.report, done.progress) == (
        "succeeded", 1, 2, {"t2i": {"R@1": 0.5}}, 1.0
    )  # fmt: skip
    assert done.finished_at is not None

    lease = begin(registry, "de")
    registry.expansions.fail(lease, "gate_failed", "Too low.", {"loss": float("nan")})
    failed = registry.expansions.get(lease.expansion)
    assert failed.error is not None and (failed.state, failed.error.code) == ("failed", "gate_failed")
    assert failed.report == {"loss": None}  # no database and no answer holds a NaN


def test_an_attempt_that_fails_after_the_cancellation_is_cancelled(registry: Registry) -> None:
    lease = begin(registry, "cy")
    registry.expansions.cancel(lease.expansion)
    registry.expansions.fail(lease, "internal_error", "Terminated.")
    ended = registry.expansions.get(lease.expansion)
    assert (ended.state, ended.error) == ("cancelled", None)


def test_what_is_released_is_finished_by_the_next_attempt_even_when_its_worker_reports_cancelled(
    registry: Registry,
) -> None:
    lease = begin(registry, "cy")
    release = promote(registry, lease, write(registry, lease, "cy", 0))
    registry.expansions.cancelled(lease)
    later = registry.expansions.lease(lease.expansion, "other")
    assert later is not None
    assert promote(registry, later, registry.versions.get(1)) == release
    registry.expansions.succeed(later, 1, release.number, {})


def test_runnable_are_the_queued_and_the_abandoned_oldest_first(registry: Registry) -> None:
    abandoned = begin(registry, "a")
    expire(registry, abandoned)
    begin(registry, "b")
    queued = submit(registry, "c").id
    registry.expansions.cancel(submit(registry, "d").id)
    assert registry.expansions.runnable() == [abandoned.expansion, queued]
    assert registry.expansions.abandoned() == [abandoned.expansion]


def test_the_longest_wait_is_that_of_the_oldest_runnable_one(registry: Registry) -> None:
    assert registry.expansions.longest_wait() == 0.0
    id = submit(registry, "cy").id
    with registry.begin() as session:
        session.execute(text("UPDATE expansions SET created_at = created_at - 60"))
    assert 60 <= registry.expansions.longest_wait() < 70
    lease = registry.expansions.lease(id, "w")
    assert lease is not None and registry.expansions.longest_wait() == 0.0
    registry.expansions.release_lease(lease)
    assert registry.expansions.longest_wait() < 10
