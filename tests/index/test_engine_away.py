"""While an engine does not answer: a service starts, takes pictures, and does not let its searches wait in line."""

import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import cast

import pytest
from milvus_lite.server_manager import server_manager_instance

from index import snapshot as snapshot_module
from index.engine import View, milvus
from index.engine.milvus import Milvus, Outage
from index.errors import IndexUnavailable
from index.tail import MemoryTail
from index.vectors import Entry, Identity, Tail, VectorSet
from tests.doubles import WeightlessView
from tests.index.conftest import PICTURES, stored, tail
from tests.index.test_detecting import snapshot
from tests.index.world import Clock, World, nearest_pictures, put


def test_a_service_starts_without_milvus_and_counts_captions_when_it_is_back(tmp_path: Path) -> None:
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
    assert live.current.counted["en"][1] == 0
    assert isinstance(world.engine, Milvus)
    world.engine.close()
    world.engine._uri, world.engine._outage = str(server_manager_instance.start_and_get_uri(file)), Outage(5)
    live.refresh()
    assert live.current.counted["en"] == (0, 6)
    assert set(nearest_pictures(live, 3)) == {"p1", "p2", "p3"}
    before = live.current
    live.refresh()
    assert live.current.detector is before.detector  # counted once
    world.close()
    server_manager_instance.release_server(file)


class AwayTail(MemoryTail):
    """Captions that cannot be read now."""

    def texts(self) -> Iterator[str]:
        raise IndexUnavailable


def test_counts_of_before_are_kept_while_captions_cannot_be_read() -> None:
    views = {"en": WeightlessView(0)}
    known = snapshot(views, en=["the red apple", "a small dog"])
    (identity,) = known.sets
    away = AwayTail(tail(stored(9, dimension=8), [Entry(f"p{row}", "x") for row in range(9)])._log)
    later = type(known)(
        known.release, views, known.shared_view, {identity: VectorSet(identity, 1, 0, (), cast(Tail, away))}
    ).with_detector(known)
    assert later.detector is known.detector and later.counted == known.counted == {"en": (0, 2)}


class ManyTexts(MemoryTail):
    """A hundred thousand captions, each made when it is read."""

    count = 100_000

    def texts(self) -> Iterator[str]:
        return (f"caption {number % 7} " + "of a picture " * 20 for number in range(self.count))


def test_captions_are_counted_without_having_all_of_them_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = Identity("captions", "f", 8, "en", 0)
    many = VectorSet(identity, 1, 0, (), cast(Tail, ManyTexts(MemoryTail.empty(8)._log)))
    few = snapshot({"en": WeightlessView(0)})
    large = type(few)(few.release, few.views, few.shared_view, {identity: many})
    read = list[int]()

    def counted(texts: Sequence[str]) -> Counter[str]:
        read.append(len(texts))
        return Counter()

    monkeypatch.setattr(snapshot_module, "count", counted)
    assert large.with_detector(None).counted == {"en": (0, 100_000)}
    assert read == [2_000] and not isinstance(many.texts(), list)


def test_searches_do_not_wait_in_line_for_a_milvus_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus, "_SECONDS", 1.0)
    with closing(socket.create_server(("127.0.0.1", 0))) as hanging:  # accepts, and never answers
        engine = Milvus(f"http://127.0.0.1:{hanging.getsockname()[1]}")

        def ask(_: int) -> None:
            with pytest.raises(IndexUnavailable, match="does not answer"):
                engine.having(View(PICTURES, (1,), (), 1), "key", [1])

        began = monotonic()
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(ask, range(6)))
        assert monotonic() - began < 3.0  # as long as one waits, not six
        began = monotonic()
        ask(0)
        assert monotonic() - began < 0.5


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
