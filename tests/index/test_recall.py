"""Recall as an operator reads it: what searches find against an exact scan."""

import tracemalloc
from dataclasses import replace

import pytest

from index import ivf, recall, segment
from index.gallery import Gallery
from index.recall import measure
from index.tail import MemoryTail
from index.vectors import VectorSet
from service.commands.doctor import Checkup
from service.settings import Settings
from store.data_root import DataRoot
from tests.index.conftest import PICTURES, clustered, names, numbered_rows, sealed, stored, tail
from tests.index.world import World, put


def made(root: DataRoot, recall: float) -> VectorSet:
    """An approximate segment, a scanned one and a tail, with dead rows in each."""
    large, small, latest = clustered(9_000), stored(300, seed=5), stored(50, seed=6)
    parts = (
        sealed(root, large, names(9_000), recall=recall).without([entry.picture for entry in names(900)]),
        sealed(root, small, names(300, 9_000), first=9_000).without(["p09003"]),
    )
    return VectorSet(PICTURES, 1, 1, parts, tail(latest, names(50, 9_300), first=9_300))


def test_what_an_exact_search_finds_is_all(world: World) -> None:
    live = world.started()
    put(live, *range(20))
    world.seal()
    live.refresh()
    put(live, *range(40, 50))
    found = live.recall()
    assert found is not None and (found.share, found.captions) == (1.0, True)
    assert (found.depth, found.unit) == (None, None)  # so few are compared one by one


def test_what_is_known_is_measured_again_when_something_else_is_sealed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    real = recall.measure

    def counting(pictures: VectorSet, gallery: Gallery) -> recall.Recall | None:
        counted.append(pictures.count)
        return real(pictures, gallery)

    monkeypatch.setattr(recall, "measure", counting)
    live = world.started()
    assert live.recall(anew=False) is live.recall(anew=False) is None
    assert len(counted) == 2  # nothing is known while there are no pictures
    put(live, *range(20))
    first = live.recall(anew=False)
    put(live, *range(40, 50))
    assert live.recall(anew=False) is first is not None
    assert len(counted) == 3
    world.seal()
    live.refresh()
    assert live.recall(anew=False) != first and len(counted) == 4  # with captions of all thirty
    assert live.recall() is not None and len(counted) == 5


def test_how_deep_searches_go_is_told_beside_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ivf, "SCAN_LIMIT", 15)
    live = world.started()
    put(live, *range(60))
    world.seal()
    live.refresh()
    found = live.recall()
    assert found is not None and found.unit == "lists" and found.depth is not None and found.depth >= 1
    line = Checkup(Settings(home=world.home)).check("recall")
    assert line is not None and line.detail.endswith(f", {found.depth} lists deep")


def test_an_index_that_looks_into_few_lists_finds_less_than_one_that_looks_into_many(
    world: World, shared_root: DataRoot
) -> None:
    few, many = measure(made(shared_root, 0.5), world.gallery), measure(made(shared_root, 1.0), world.gallery)
    assert few is not None and many is not None
    assert few.share < 0.97 < 0.99 <= many.share <= 1.0
    assert not few.captions  # nobody has written any of this dimension
    assert few.unit == many.unit == "lists" and 0 < (few.depth or 0) < (many.depth or 0)


def test_an_empty_set_has_none(world: World) -> None:
    assert world.started().recall() is None
    assert measure(VectorSet(PICTURES, 0, 0, (), tail(stored(0), [])), world.gallery) is None


@pytest.mark.parametrize("dead", [0, 1, 4_000])
def test_to_measure_it_copies_no_segment(world: World, shared_root: DataRoot, dead: int) -> None:
    identity = replace(PICTURES, dimension=256)
    rows = numbered_rows(stored(30_000, dimension=256), names(30_000))
    written = segment.write(shared_root, identity, rows, scan=True)
    part = segment.read(shared_root, written, identity)
    part = part.without([entry.picture for entry in names(dead)])
    vector_set = VectorSet(identity, 1, 1, (part,), MemoryTail.empty(256))
    tracemalloc.start()
    found = measure(vector_set, world.gallery)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is not None and found.share == 1.0
    assert peak < 2.6 * ivf._CHUNK * 256 * 4  # some rows as float32 and their scores, not all as halves beside them
