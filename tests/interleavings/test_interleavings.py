"""Whatever two actors do at the same time ends as if one call had come after the other, and leaves everything whole."""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, combinations_with_replacement
from typing import Any

import pytest

from store.errors import PictoglotError
from store.leases import Lease
from tests.index.world import World
from tests.interleavings.actors import ACTORS, TEACHING, Call
from tests.interleavings.explorer import Explored, explore
from tests.interleavings.look import assert_whole, describe_end, hash_state
from tests.interleavings.schedule import Run, Step
from tests.interleavings.stage import Stage

pytestmark = pytest.mark.timeout(3_600)
PAIRS = tuple(combinations_with_replacement(ACTORS, 2))
RUNS = int(os.environ.get("RUNS", "50"))  # at most, of one pair, in the long form
FEW = 8  # and in the quick one, of pairs whose runs are short
QUICK = [
    *(pair for pair in PAIRS if {*pair} <= {*TEACHING} - {"expire", "fill"}),
    *(("put", "put"), ("put", "put a twin"), ("put", "delete"), ("put a twin", "delete"), ("delete", "delete")),
    *(("put", "sweep"), ("put back", "sweep"), ("prune", "restore"), ("prune", "promote"), ("prune", "submit")),
]


def run_program(calls: Sequence[Call], world: World) -> Callable[[], list[object]]:
    """Make all calls, up to the first that is refused; return what each returned, and the refusal."""

    def act() -> list[object]:
        results = list[object]()
        for call in calls:
            try:
                results.append(call(world))
            except PictoglotError as refusal:
                return [*results, refusal]
        return results

    return act


def play(stage: Stage, acts: Sequence[Sequence[Call]], choices: Sequence[int]) -> tuple[Sequence[Step], list[Any]]:
    stage.restore()
    programs = [run_program(calls, world) for calls, world in zip(acts, stage.worlds, strict=False)]
    run = Run(stage.home, [world.registry.engine for world in stage.worlds], programs, choices)
    return run.steps, run.play(stage.advance)


def run_in_turn(stage: Stage, acts: Sequence[Sequence[Call]]) -> set[Any]:
    """Find every end that there is when no two calls are at the same time."""
    counts = [len(calls) for calls in acts]
    ends = set[Any]()
    for places in combinations(range(sum(counts)), counts[0]):
        stage.restore()
        results: list[list[object]] = [[], []]
        left = [iter(calls) for calls in acts]
        over = [False, False]
        for place in range(sum(counts)):
            actor = 0 if place in places else 1
            call = next(left[actor])
            if not over[actor]:
                try:
                    results[actor].append(call(stage.worlds[actor]))
                except PictoglotError as refusal:
                    results[actor].append(refusal)
                    over[actor] = True
        ends.add(describe_end(stage.world, results))
    return ends


def leases(stage: Stage, results: Sequence[Sequence[object]]) -> Iterator[Lease]:
    yield stage.lease
    yield from (each for of_one in results for each in of_one if isinstance(each, Lease))


def assert_every_order_is_right(stage: Stage, pair: tuple[str, str], most: int) -> Explored:
    acts = [ACTORS[name](stage) for name in pair]
    expected, looked_at = run_in_turn(stage, acts), set[object]()

    def check(steps: Sequence[Step], results: Sequence[Sequence[object]]) -> None:
        state = hash_state(stage.world), repr([[type(each) for each in of_one] for of_one in results])
        if state in looked_at:
            return
        looked_at.add(state)
        assert describe_end(stage.world, results) in expected
        assert_whole(stage.world, [*leases(stage, results)], steps)

    return explore(lambda choices: play(stage, acts, choices), check, most)


@pytest.mark.parametrize("stage", ["sqlite"], indirect=True)
@pytest.mark.parametrize("pair", QUICK, ids=" and ".join)
def test_few_orders_of_two_actors(stage: Stage, pair: tuple[str, str], explored: dict[str, Explored]) -> None:
    explored[" and ".join(pair)] = assert_every_order_is_right(stage, pair, FEW)


@pytest.mark.nightly
@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_every_order_of_two_actors(
    stage: Stage, pair: tuple[str, str], explored: dict[str, Explored], request: pytest.FixtureRequest
) -> None:
    database = stage.world.registry.engine.dialect.name
    explored[f"{database}: {' and '.join(pair)}"] = assert_every_order_is_right(stage, pair, RUNS)
