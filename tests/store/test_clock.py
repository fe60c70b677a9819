"""A database whose clock is wrong by 400 days for a moment: nothing waits for it, and nothing is deleted too early."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text, update

from index.gallery import Gallery
from index.janitor import sweep
from index.sets import VectorSets
from store import files
from store.clock import LONGEST_LEASE, SteadyClock, now
from store.data_root import DataRoot
from store.errors import ExpansionInProgress
from store.registry import Registry
from store.tables import ReleaseRow
from tests.index.world import make_picture
from tests.store.steps import begin, learn, promote, submit, teach, write

pytestmark = pytest.mark.row("F5")
YEAR = 400 * 86_400.0
Wrong = Callable[[float], AbstractContextManager[None]]


@pytest.fixture
def wrong(registry: Registry) -> Wrong:
    """Set the database's own clock so many seconds wrong in the block, for every connection."""
    engines, ahead = (registry.engine, registry._writer), [0.0]

    def replace_clock(connection: Any, *_: object) -> None:
        if registry.is_local:
            right, real = 2440587.5 * 86_400.0, time.time
            connection.create_function("julianday", 1, lambda _: (right + real() + ahead[0]) / 86_400.0)
        else:  # what stands before pg_catalog in the search path is found first
            schema = str(registry.engine.url.query["options"]).partition("search_path=")[2]
            connection.execute(f"SET search_path TO {schema}, pg_catalog")
            connection.commit()

    def turn(seconds: float) -> None:
        ahead[0] = seconds
        if not registry.is_local:
            with registry.begin() as session:
                session.execute(text("UPDATE wrong SET seconds = :seconds"), {"seconds": seconds})

    @contextmanager
    def set_wrong(seconds: float) -> Iterator[None]:
        turn(seconds)
        yield
        turn(0.0)

    if not registry.is_local:
        with registry.begin() as session:
            session.execute(text("CREATE TABLE wrong (seconds double precision)"))
            session.execute(text("INSERT INTO wrong VALUES (0)"))
            session.execute(
                text(
                    "CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
                    "'SELECT pg_catalog.clock_timestamp() + seconds * interval ''1 second'' FROM wrong'"
                )
            )
    for engine in engines:
        engine.dispose()
        event.listen(engine, "connect", replace_clock)
    return set_wrong


BOTH = pytest.mark.parametrize("seconds", [YEAR, -YEAR], ids=["ahead", "behind"])


@pytest.mark.row("K10")
@BOTH
def test_a_lease_and_a_duty_that_a_wrong_clock_gave_end(registry: Registry, wrong: Wrong, seconds: float) -> None:
    with wrong(seconds):
        lease = begin(registry, "cy")
        assert registry.duties.take("indexer", "dead", LONGEST_LEASE)
        assert not registry.duties.take("indexer", "other", LONGEST_LEASE), "as long as the clock stays as it is"
    assert registry.expansions.list_runnable() == registry.expansions.list_runnable("running") == [lease.expansion]
    assert registry.expansions.measure_longest_wait() >= LONGEST_LEASE
    assert registry.duties.take("indexer", "other", LONGEST_LEASE)
    later = registry.expansions.take_lease(lease.expansion, "other")
    assert later is not None and later.fence == lease.fence + 1


def test_what_waits_since_a_wrong_clock_said_so_is_told_and_can_be_cancelled(registry: Registry, wrong: Wrong) -> None:
    with wrong(YEAR):
        queued, held = submit(registry, "cy").id, begin(registry, "de")
    assert registry.expansions.measure_longest_wait() >= LONGEST_LEASE
    for id in (queued, held.expansion):
        assert registry.expansions.cancel(id).state == "cancelled"
    submit(registry, "cy")
    with pytest.raises(ExpansionInProgress):
        submit(registry, "cy")


@BOTH
def test_while_the_clock_is_wrong_a_holder_keeps_what_it_renews(
    registry: Registry, wrong: Wrong, seconds: float
) -> None:
    lease = begin(registry, "cy")
    with wrong(seconds):
        registry.expansions.renew_lease(lease)
        assert registry.expansions.take_lease(lease.expansion, "other") is None
    registry.expansions.renew_lease(lease)
    assert registry.expansions.take_lease(lease.expansion, "other") is None


def test_a_purge_that_was_noted_in_the_future_is_done_again(registry: Registry, wrong: Wrong) -> None:
    with wrong(YEAR):
        registry.duties.note_done("purge")
        assert registry.duties.is_done_within("purge", 86_400)
    assert not registry.duties.is_done_within("purge", 86_400)
    registry.duties.note_done("purge")
    assert registry.duties.is_done_within("purge", 86_400)


def test_what_can_be_brought_back_and_who_has_signed_in_stays_while_the_clock_is_ahead(
    registry: Registry, wrong: Wrong, tmp_path: Path
) -> None:
    gallery, session = Gallery(registry, DataRoot(tmp_path)), registry.sessions.begin("key:a", "a", (), 3_600.0)
    gallery.put([make_picture("p", 0)], "tower")
    gallery.delete("p")
    for seconds in (YEAR, 0.0):
        with wrong(seconds):
            sweep(VectorSets(gallery))
            registry.sessions.begin("key:b", "b", (), 3_600.0)
    kept = gallery.list_needed_contents()
    assert len(kept) == 1 and session.split("_")[1] in {each.id for each in registry.sessions.list()}
    sweep(VectorSets(gallery), kept_seconds=0)
    assert gallery.list_needed_contents() == set(), "who says so need not wait"


@BOTH
def test_a_request_that_is_repeated_acts_once_although_the_clock_was_wrong(
    registry: Registry, wrong: Wrong, seconds: float
) -> None:
    before = submit(registry, "cy", key="before")
    with wrong(seconds):
        meanwhile = submit(registry, "de", key="meanwhile")
    submit(registry, "fr", key="after")
    assert submit(registry, "cy", key="before").id == before.id
    assert submit(registry, "de", key="meanwhile").id == meanwhile.id


@BOTH
def test_nothing_younger_than_what_is_in_reach_is_pruned_although_a_release_has_a_wrong_time(
    registry: Registry, wrong: Wrong, seconds: float
) -> None:
    with wrong(seconds):
        teach(registry, "a")
    refused = begin(registry, "b")
    write(registry, refused, "b", 0)
    registry.expansions.fail(refused, "gate_failed", "Too low.")
    for tag in "cd":
        teach(registry, tag)
    assert registry.retention.plan(3).versions == ()


def test_what_an_expansion_has_made_so_far_stays_although_every_release_has_a_wrong_time(
    registry: Registry, wrong: Wrong
) -> None:
    with wrong(YEAR):
        with registry.begin() as session:
            session.execute(update(ReleaseRow).values(created_at=now()))
        teach(registry, "a")
    lease = begin(registry, "b")
    version = write(registry, lease, "b", 0)
    assert registry.retention.plan(2).versions == ()
    assert promote(registry, lease, version).languages["b"] == version.number


@BOTH
def test_what_serves_while_an_expansion_with_a_wrong_time_runs_stays_in_reach(
    registry: Registry, wrong: Wrong, seconds: float
) -> None:
    teach(registry, "a")
    with wrong(seconds):
        begin(registry, "b")
    for tag in "aaaa":
        learn(registry, tag, shared=False)
    assert registry.retention.plan(2).versions == ()


def test_no_file_seems_old_for_an_hour_after_the_clock_jumped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, running = time.time(), [0.0]
    clock = SteadyClock(lambda: running[0])
    assert clock.is_steady(started)
    monkeypatch.setattr(files, "_clock", clock)
    set_clock = partial(monkeypatch.setattr, time, "time")
    file = tmp_path / f"{files.TEMPORARY}{1:032x}"
    file.touch()
    for running[0], told, removed in (
        (10.0, started + YEAR, 0),  # wrong
        (20.0, started + 20.0, 0),  # right again
        (3_000.0, started + YEAR, 0),
        (6_000.0, started + 6_000.0, 0),
        (9_700.0, started + 9_700.0, 1),
    ):
        set_clock(lambda told=told: told)
        os.utime(file, (started, started))
        assert files.sweep(tmp_path, 3_600.0) == removed


def test_a_clock_that_is_set_right_by_minutes_is_believed() -> None:
    running = [100.0]
    clock = SteadyClock(lambda: running[0])
    assert clock.is_steady(1_000.0) and clock.is_steady(1_300.0)
    assert not clock.is_steady(1_000_000.0)
    running[0] += 3_599
    assert not clock.is_steady(1_003_599.0)
    running[0] += 2
    assert clock.is_steady(1_003_601.0)
