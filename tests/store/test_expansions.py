"""Tests for submitting, listing and cancelling expansions."""

from datetime import UTC
from functools import partial

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError

from store.clock import now
from store.errors import ExpansionFinished, ExpansionInProgress, ExpansionNotFound, IdempotencyKeyReused
from store.expansions import Expansion, make_expansion_id
from store.registry import Registry
from store.tables import IdempotencyRow
from tests.store.steps import begin, promote, race, submit, teach, write


def test_a_submitted_expansion_is_queued_once_a_language_and_again_when_it_has_ended(registry: Registry) -> None:
    id = make_expansion_id()
    made, _ = registry.expansions.submit(id=id, kind="rebuild", language="cy", settings={}, actor="a")
    assert (made.id, made.state, made.attempt, made.progress, made.error) == (id, "queued", 0, 0.0, None)
    assert made.created_at.tzinfo is UTC and registry.expansions.get(id) == made
    with pytest.raises(ExpansionInProgress) as refusal:
        submit(registry, "cy")
    assert refusal.value.extra == {"expansion": id}
    submit(registry, "de")  # another language may be queued too
    registry.expansions.cancel(id)
    teach(registry, "cy")
    assert registry.expansions.count_by_state() == {"succeeded": 1, "queued": 1, "cancelled": 1}
    assert submit(registry, "cy").state == "queued"


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
