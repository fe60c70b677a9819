"""Recall as an operator reads it: what searches find against an exact scan."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index import ivf, ranking
from index.engine import FoundRows
from index.gallery import NewPicture
from index.live import LiveIndex
from index.vectors import Candidates
from service.commands.doctor import Checkup
from service.settings import Settings
from tests.doubles import DIMENSION
from tests.index.conftest import numbered, unit
from tests.index.world import World, digest, put


def test_what_an_exact_search_finds_is_all(world: World) -> None:
    live = put(world.serve(), *range(20))
    world.seal(live)
    put(live, *range(40, 50))
    found = live.measure_recall()
    assert found is not None and (found.share, found.captions) == (1.0, True)
    assert (found.depth, found.unit) == (None, None)  # so few are compared one by one


def test_how_deep_searches_go_is_told_beside_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ivf, "SCAN_LIMIT", 15)
    live = put(world.serve(), *range(60))
    world.seal(live)
    found = live.measure_recall()
    assert found is not None and found.unit == "lists" and found.depth is not None and found.depth >= 1
    line = Checkup(Settings(home=world.home)).check("recall")
    assert line is not None and line.detail.endswith(f", {found.depth} lists deep")


def test_an_empty_set_has_none(world: World) -> None:
    assert world.serve().measure_recall() is None


PICTURES = 400


@pytest.fixture
def in_engine(remote: World) -> World:
    """Four hundred pictures, sealed in an engine, and five captions."""
    pictures = [
        NewPicture(f"n{number}", digest(number + 100), 9, 9, None, vector)
        for number, vector in enumerate(unit(PICTURES, 1, DIMENSION))
    ]
    remote.gallery.put(pictures, remote.encoder.image_fingerprint)
    put(remote.serve(), *range(5))
    remote.seal()
    return remote


def get_engine(world: World) -> Any:
    assert world.engine is not None
    return world.engine


def share(live: LiveIndex) -> float:
    found = live.measure_recall()
    assert found is not None and found.captions and found.queries == 10
    return found.share


def test_what_an_engine_misses_is_measured_also_by_a_sample(in_engine: World, monkeypatch: pytest.MonkeyPatch) -> None:
    live, real = in_engine.serve(), type(get_engine(in_engine)).find_nearest
    assert share(live) == 1.0
    in_engine.put("late", 7)  # in the tail
    live.refresh()
    assert share(live) == 1.0

    def find_every_other(*given: Any) -> Candidates:
        near = real(*given)
        kept = np.arange(0, len(near.scores), 2)
        return Candidates(near.scores[kept], near.vectors[kept], lambda number: near.entry(2 * number), exact=False)

    monkeypatch.setattr(type(in_engine.engine), "find_nearest", find_every_other)
    measured = share(live)
    assert 0.45 < measured < 0.6  # ten hits, and about as many that are as near and are missed
    monkeypatch.setattr(ranking, "SAMPLE", 200)
    assert abs(share(live) - measured) < 0.1

    nothing = FoundRows(numbered(), [], np.empty((0, DIMENSION), dtype=np.float32), numbered())
    empty = nothing.make_candidates(np.empty(0, dtype=np.float32), exact=False)
    monkeypatch.setattr(type(in_engine.engine), "find_nearest", lambda *_: empty)
    in_engine.seal()
    live.refresh()
    assert share(live) == 0.0, "rows that are not there count as missed"


def test_the_doctor_says_that_an_engine_has_lost_what_was_sealed(tmp_path: Path, postgresql_url: str) -> None:
    world = World(tmp_path, postgresql_url, index="pgvector")
    settings = Settings(home=tmp_path, index="pgvector", database_url=postgresql_url)
    put(world.serve(), 1, 2, 3)
    world.seal()
    get_engine(world).drop(world.pictures())
    line = Checkup(settings).check("recall")
    assert line is not None and line.outcome == "bad"
    assert world.pictures().name in line.detail and "not in pgvector" in line.detail
    world.close()
