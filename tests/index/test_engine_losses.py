"""What an engine lost is found in the tables, reported, and sealed again: nothing vanishes without a word."""

import shutil
import socket
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sql
from milvus_lite.server_manager import server_manager_instance

from index.engine import EngineView, milvus
from index.engine.milvus import Milvus
from index.engine.pgvector import PgVector
from index.indexer import Indexer
from index.janitor import sweep
from index.live import LiveIndex
from index.sealing import EngineSealer
from index.sources import PictureSource, apply_changes
from index.vectors import Identity, VectorRows
from store.errors import IndexLost, IndexUnavailable, StorageFull
from tests.index.conftest import PICTURES
from tests.index.world import Clock, World, ask, fail_with, find_pictures, put, score_pictures, wait_until
from tests.patience import bound_time


@pytest.fixture
def world(remote: World) -> World:
    """A gallery of four pictures, sealed in an engine."""
    put(remote.serve(), 1, 2, 3, 4)
    remote.seal()
    return remote


def open_another_client(world: World) -> PgVector | Milvus:
    """Open somebody else's client: what the world's own engine remembers stays."""
    if isinstance(world.engine, Milvus):
        return Milvus(world.engine._uri)
    return PgVector(world.registry)


def drop_table(world: World) -> None:
    engine = open_another_client(world)
    engine.drop(world.pictures())
    engine.close()


def empty_table(world: World) -> None:
    """Remove all rows; the table or collection stays."""
    engine = open_another_client(world)
    if isinstance(engine, PgVector):
        with world.registry.begin() as session:
            session.execute(sql.text(f'TRUNCATE "{engine._get_table(world.pictures()).name}"'))
    else:
        engine.remove(world.pictures(), [int(each.id.partition("-")[2]) for each in world.state().segments])
    engine.close()


def halve_table(world: World) -> None:
    (first, *_) = world.state().segments
    engine = open_another_client(world)
    engine.remove(world.pictures(), (), [int(first.id.partition("-")[2]) << 20])
    engine.close()


def wait_until_whole(live: LiveIndex) -> LiveIndex:
    """Refresh all the time, as a service, until nothing is degraded."""
    wait_until(lambda: (live.refresh(), not live.current.degraded)[1])
    return live


def is_whole(world: World) -> bool:
    """Whether the engine has what the newest state of the pictures names."""
    (part,) = world.sets.make_engine_parts(world.pictures(), world.state())
    view = part.sealed_view
    assert world.engine is not None
    return view.count == world.engine.count(view) == len(world.gallery.list_ids())


@pytest.mark.parametrize("lose", [drop_table, halve_table])
def test_what_an_engine_lost_is_told_found_in_the_tables_and_sealed_again(
    world: World, monkeypatch: pytest.MonkeyPatch, lose: Callable[[World], None]
) -> None:
    before, clock = ask(world.serve()), Clock()
    lose(world)

    with monkeypatch.context() as patch:
        patch.setattr(Indexer, "seal", fail_with(StorageFull()))  # so that it cannot be sealed again yet
        live = world.serve(clock=clock)
        assert ask(live) == before
        (problem,) = live.current.degraded
        assert world.pictures().name in problem and f"not in {world.engine and world.engine.name}" in problem
    clock.now += 61
    wait_until_whole(live)  # the repair that fails may still be under way
    assert is_whole(world) and live.current.picture_set.tail.count == 0 and live.verify() == []
    assert ask(live) == before == ask(world.serve()) and world.serve().current.degraded == ()


def test_a_running_service_finds_what_its_engine_lost_when_it_is_missed_or_verified(world: World) -> None:
    live = world.serve(clock=(clock := Clock()))
    before = ask(live)
    assert live.verify() == []
    drop_table(world)
    with pytest.raises(IndexLost, match="any more; it is made again"):
        ask(live)
    live.refresh()
    assert ask(live) == before
    wait_until_whole(live)
    assert is_whole(world) and ask(live) == before and live.verify() == []
    empty_table(world)
    clock.now += 61  # otherwise it waits a minute after the first repair
    (problem,) = live.verify()
    assert world.pictures().name in problem
    live.refresh()
    assert ask(live) == before
    wait_until_whole(live)
    assert is_whole(world) and ask(live) == before and live.verify() == []


def test_what_is_lost_while_the_engine_is_away_is_found_when_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ask(world.serve())
    empty_table(world)

    with monkeypatch.context() as patch:
        patch.setattr(type(world.engine), "count", fail_with(IndexUnavailable()))
        live = world.serve()
        live.refresh()
        assert live.current.degraded == () and live.current.picture_set.state == world.state().number
    live.refresh()
    assert ask(live) == before


def test_an_engine_that_is_ahead_of_a_restored_registry_is_sealed_again(tmp_path: Path) -> None:
    file = str(tmp_path / "milvus.db")
    index = f"milvus+{server_manager_instance.start_and_get_uri(file)}"
    world = World(tmp_path, index=index)
    live = put(world.serve(), *range(6))
    world.seal()
    files = (tmp_path / "registry.db", tmp_path / "backup.db")
    with closing(sqlite3.connect(files[0])) as source, closing(sqlite3.connect(files[1])) as backup:
        source.backup(backup)
    live.delete_picture("p1")
    for seed in (7, 8, 9):
        put(live, seed)
        world.seal()
        world.sets.retire_states(world.pictures(), seconds=0)
    put(live, 10)
    world.seal()
    world.close()
    for name in ("registry.db-wal", "registry.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup.db", tmp_path / "registry.db")
    world = World(tmp_path, index=index)
    live = world.serve()
    assert {id for id, _ in score_pictures(live, 1)} == {f"p{seed}" for seed in range(6)}
    assert score_pictures(live, 1) == world.rank(1)
    wait_until(lambda: not live.current.degraded)
    assert score_pictures(live, 1) == world.rank(1) and is_whole(world)
    world.close()
    server_manager_instance.release_server(file)


# --- what engines say -------------------------------------------------------------------------------------------------


def test_a_refusal_is_no_absence_and_its_reason_is_logged(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine, view = world.engine, world.sets.make_engine_parts(world.pictures(), world.state())[0].sealed_view
    if isinstance(engine, PgVector):
        with (
            pytest.raises(IndexUnavailable, match=r"refused a request \(57014\)"),
            engine._read(view.identity) as read,
        ):
            read.execute(sql.text("SET LOCAL statement_timeout = 1"))
            read.execute(sql.text("SELECT pg_sleep(1)"))
        assert "PostgreSQL refused a request: canceling statement" in caplog.text
    else:
        assert engine is not None
        with pytest.raises(IndexUnavailable, match="Milvus refused a request"):
            engine.find_nearest(view, np.ones(7, dtype=np.float32), 3, 3, None)  # of another dimension
        assert "Milvus refused a request: " in caplog.text
    assert not engine.lost and len(engine.find_rows(view, "key", range(9)).ids) == 4


def test_rows_of_an_indexer_that_died_while_it_added_them_are_swept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, source = world.engine, PictureSource.create(world.encoder, world.gallery)
    assert engine is not None
    world.put("p5", 5)
    opened = world.open_set(source)
    changed = apply_changes({source.identity: opened}, {source.identity: source}, world.gallery)[source.identity]
    real, views = type(engine).add, list[EngineView]()

    def add_and_die(self: Any, identity: Identity, run: int, rows: VectorRows) -> None:
        real(self, identity, run, rows)
        views.append(EngineView(identity, (run,), (), len(rows)))
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(type(engine), "add", add_and_die)
        EngineSealer(engine, world.root, most_rows=1_000).seal_tail(changed)
    assert engine.count(views[0]) == 1
    world.age()
    assert sweep(world.sets) == 1
    assert engine.count(views[0]) == 0


def test_a_service_starts_without_milvus_counts_captions_and_searches_when_it_is_back(tmp_path: Path) -> None:
    file = str(tmp_path / "milvus.db")
    address = str(server_manager_instance.start_and_get_uri(file))
    world = World(tmp_path, index=f"milvus+{address}")
    put(world.serve(), 1, 2)
    world.seal()
    world.close()
    server_manager_instance.release_server(file)
    world = World(tmp_path, index=f"milvus+{address}")
    live = put(world.serve(), 3)
    with pytest.raises(IndexUnavailable):
        find_pictures(live, 3)
    live.refresh()
    assert live.current.ngram_sources["en"] == (0, 6)  # from the tables
    assert isinstance(world.engine, Milvus)
    world.engine.close()
    world.engine._uri = str(server_manager_instance.start_and_get_uri(file))
    world.engine._outage.end()
    assert set(find_pictures(live, 3)) == {"p1", "p2", "p3"}
    before = live.current
    live.refresh()
    assert live.current.detector is before.detector  # counted once
    world.close()
    server_manager_instance.release_server(file)


def test_searches_do_not_wait_in_line_for_a_milvus_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus, "_SECONDS", 1.0)
    with closing(socket.create_server(("127.0.0.1", 0))) as hanging:  # accepts, and never answers
        engine = Milvus(f"http://127.0.0.1:{hanging.getsockname()[1]}")

        def ask(_: int) -> None:
            with pytest.raises(IndexUnavailable, match="does not answer"):
                engine.find_rows(EngineView(PICTURES, (1,), (), 1), "key", [1])

        with bound_time(3), ThreadPoolExecutor(6) as pool:  # as long as one waits, not six
            list(pool.map(ask, range(6)))
        with bound_time(0.5):
            ask(0)
