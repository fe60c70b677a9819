"""Tests for submitting, listing and cancelling expansions."""

import re
from datetime import UTC
from functools import partial

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError

from store.clock import now
from store.errors import ExpansionFinished, ExpansionInProgress, ExpansionNotFound, IdempotencyKeyReused
from store.expansions import KEPT_SECONDS, Expansion, Once, new_expansion_id
from store.registry import Registry
from store.tables import IdempotencyRow
from tests.store.steps import begin, promote, race, submit, teach, write


def test_a_submitted_expansion_is_queued_and_can_be_read(registry: Registry) -> None:
    made = submit(registry, "cy")
    assert (made.state, made.attempt, made.progress, made.error) == ("queued", 0, 0.0, None)
    assert made.created_at.tzinfo is UTC
    assert registry.expansions.get(made.id) == made


def test_ids_sort_by_time_and_are_drawn_at_random() -> None:
    ids = [new_expansion_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(re.fullmatch("exp_[0-9a-hjkmnp-tv-z]{20}", id) for id in ids)
    stamps = [id[:14] for id in ids]
    assert stamps == sorted(stamps)


def test_an_id_that_the_caller_chose_is_kept(registry: Registry) -> None:
    id = new_expansion_id()
    made, _ = registry.expansions.submit(id=id, kind="rebuild", language="cy", settings={}, actor="a")
    assert made.id == id


def test_a_language_has_one_active_expansion(registry: Registry) -> None:
    first = submit(registry, "cy")
    with pytest.raises(ExpansionInProgress) as refusal:
        submit(registry, "cy")
    assert refusal.value.extra == {"expansion": first.id}
    submit(registry, "de")  # another language may be queued too


def test_the_database_itself_refuses_a_second_active_expansion(registry: Registry) -> None:
    submit(registry, "cy")
    copy = text(
        "INSERT INTO expansions (id, kind, language, state, settings, actor, created_at, progress, step, steps,"
        " cancel_requested, attempt, stalled, vanished, fence) SELECT 'other', kind, language, 'running', settings,"
        " actor, created_at, progress, step, steps, cancel_requested, attempt, stalled, vanished, fence FROM expansions"
    )
    with pytest.raises(IntegrityError), registry.begin() as session:
        session.execute(copy)


def test_a_finished_language_can_be_taught_again(registry: Registry) -> None:
    teach(registry, "cy")
    assert registry.expansions.ids("queued", "running") == set()
    assert registry.expansions.counts() == {"succeeded": 1}
    assert submit(registry, "cy").state == "queued"


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


def test_a_key_answers_with_its_expansion_even_when_that_is_finished(registry: Registry) -> None:
    first = submit(registry, "cy", key="k")
    registry.expansions.cancel(first.id)
    assert submit(registry, "cy", key="k").id == first.id


def test_a_key_with_another_body_is_refused_and_changes_nothing(registry: Registry) -> None:
    submit(registry, "cy", key="k", body="one")
    with pytest.raises(IdempotencyKeyReused):
        submit(registry, "de", key="k", body="two")
    assert [expansion.language for expansion in registry.expansions.list()] == ["cy"]


def test_pages_are_newest_first_and_leave_nothing_out(registry: Registry) -> None:
    made = [submit(registry, f"x-{number}").id for number in range(7)]
    pages, before = [], None
    while page := registry.expansions.list(limit=3, before=before):
        pages += [expansion.id for expansion in page]
        before = pages[-1]
    assert sorted(pages) == sorted(made)
    with pytest.raises(ExpansionNotFound):
        registry.expansions.list(before="exp_unknown")


def test_an_unknown_expansion_is_not_found(registry: Registry) -> None:
    for call in (registry.expansions.get, registry.expansions.cancel, partial(registry.expansions.lease, owner="w")):
        with pytest.raises(ExpansionNotFound):
            call("exp_unknown")


def test_a_queued_expansion_is_cancelled_at_once(registry: Registry) -> None:
    cancelled = registry.expansions.cancel(submit(registry, "cy").id)
    assert cancelled.state == "cancelled" and cancelled.finished_at is not None
    assert registry.expansions.lease(cancelled.id, "w") is None


def test_a_running_expansion_is_asked_to_stop(registry: Registry) -> None:
    lease = begin(registry, "cy")
    assert registry.expansions.heartbeat(lease) is False
    cancelled = registry.expansions.cancel(lease.expansion)
    assert (cancelled.state, cancelled.cancel_requested) == ("running", True)
    assert registry.expansions.heartbeat(lease) is True
    registry.expansions.cancelled(lease)
    assert registry.expansions.get(lease.expansion).state == "cancelled"


def test_a_running_expansion_whose_lease_expired_is_cancelled_at_once(registry: Registry) -> None:
    lease = registry.expansions.lease(submit(registry, "cy").id, "w", seconds=-1)
    assert lease is not None
    assert registry.expansions.cancel(lease.expansion).state == "cancelled"


def test_a_worker_that_dies_after_the_cancellation_leaves_a_cancelled_expansion(registry: Registry) -> None:
    lease = begin(registry, "cy")
    registry.expansions.cancel(lease.expansion)
    registry.expansions.heartbeat(lease, seconds=-1)
    assert registry.expansions.runnable() == [lease.expansion]
    assert registry.expansions.lease(lease.expansion, "other") is None
    assert registry.expansions.get(lease.expansion).state == "cancelled"


def test_a_finished_expansion_cannot_be_cancelled(registry: Registry) -> None:
    teach(registry, "cy")
    with pytest.raises(ExpansionFinished):
        registry.expansions.cancel(registry.expansions.list()[0].id)


def test_a_released_expansion_is_not_cancelled_but_finished(registry: Registry) -> None:
    lease = begin(registry, "cy")
    version = write(registry, lease, "cy", 0)
    promote(registry, lease, version)
    with pytest.raises(ExpansionFinished):
        registry.expansions.cancel(lease.expansion)


def test_a_key_belongs_to_its_actor(registry: Registry) -> None:
    first, second = (
        submit_once(registry, Once.of(actor, "k", "body"), tag) for actor, tag in (("a", "cy"), ("b", "br"))
    )
    assert first != second


def test_a_key_is_forgotten_after_a_week(registry: Registry) -> None:
    first = submit_once(registry, Once.of("a", "k", "body"), "cy")
    with registry.begin() as session:
        session.execute(update(IdempotencyRow).values(created_at=now() - KEPT_SECONDS - 1))
    submit_once(registry, Once.of("a", "other", "body"), "br")  # whoever uses a key sweeps the old ones
    registry.expansions.cancel(first)
    assert submit_once(registry, Once.of("a", "k", "body"), "cy") != first


def submit_once(registry: Registry, once: Once | None, language: str) -> str:
    expansion, _ = registry.expansions.submit(
        kind="learn",
        language=language,
        settings={},
        dataset_path="d",
        dataset_sha256="d",
        dataset_bytes=1,
        actor="t",
        once=once,
    )
    return expansion.id
