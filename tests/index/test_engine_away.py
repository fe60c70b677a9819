"""While an engine does not answer: a service starts, takes pictures, and does not let its searches wait in line."""

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from milvus_lite.server_manager import server_manager_instance

from index.engine import View, milvus
from index.engine.milvus import Milvus, Outage
from store.errors import IndexUnavailable
from tests.index.conftest import PICTURES
from tests.index.world import Clock, World, nearest_pictures, put
from tests.patience import within


def test_a_service_starts_without_milvus_counts_captions_and_searches_when_it_is_back(tmp_path: Path) -> None:
    file = str(tmp_path / "milvus.db")
    address = str(server_manager_instance.start_and_get_uri(file))
    world = World(tmp_path, index=f"milvus+{address}")
    put(world.started(), 1, 2)
    world.seal()
    world.close()
    server_manager_instance.release_server(file)
    world = World(tmp_path, index=f"milvus+{address}")
    live = world.started()
    put(live, 3)
    with pytest.raises(IndexUnavailable):
        nearest_pictures(live, 3)
    live.refresh()
    assert live.current.counted["en"] == (0, 6)  # from the tables
    assert isinstance(world.engine, Milvus)
    world.engine.close()
    world.engine._uri, world.engine._outage = str(server_manager_instance.start_and_get_uri(file)), Outage(5)
    assert set(nearest_pictures(live, 3)) == {"p1", "p2", "p3"}
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
                engine.having(View(PICTURES, (1,), (), 1), "key", [1])

        with within(3), ThreadPoolExecutor(6) as pool:  # as long as one waits, not six
            list(pool.map(ask, range(6)))
        with within(0.5):
            ask(0)


def test_during_an_outage_one_request_at_a_time_looks_whether_it_is_over() -> None:
    clock = Clock()
    outage = Outage(5, clock)
    assert outage.may_ask() and outage.may_ask() and not outage.lasts
    outage.begin()
    assert outage.lasts and not outage.may_ask()
    clock.now = 5
    assert not outage.lasts and outage.may_ask()
    assert outage.lasts and not outage.may_ask()  # the first one has not come back yet
    clock.now = 7
    outage.begin()
    clock.now = 11
    assert not outage.may_ask()
    clock.now = 12
    assert outage.may_ask()
    outage.end()
    assert outage.may_ask() and outage.may_ask() and not outage.lasts
