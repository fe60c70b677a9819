"""The explorer finds races that are planted, and leaves out no order that makes a difference."""

from collections.abc import Sequence

import pytest
from sqlalchemy import select, update

from store.tables import ExpansionRow
from tests.index.world import World
from tests.interleavings.actors import ACTORS, Call
from tests.interleavings.explorer import explore, find_order
from tests.interleavings.look import assert_whole
from tests.interleavings.schedule import Step
from tests.interleavings.stage import LEFT_OVER, Stage, put
from tests.interleavings.test_interleavings import play

pytestmark = pytest.mark.parametrize("stage", ["sqlite"], indirect=True)


def count_on(world: World) -> None:
    """Read in one transaction, write in another, without a condition."""
    with world.registry.read() as session:
        step = session.scalars(select(ExpansionRow.step)).first() or 0
    with world.registry.begin() as session:
        session.execute(update(ExpansionRow).values(step=step + 1))


def count_on_at_once(world: World) -> None:
    with world.registry.begin() as session:
        session.execute(update(ExpansionRow).values(step=ExpansionRow.step + 1))


@pytest.mark.parametrize(("call", "ends"), [(count_on, {1, 2}), (count_on_at_once, {2})])
def test_a_lost_update_is_found(stage: Stage, call: Call, ends: set[int]) -> None:
    found = set[int]()

    def check(*_: object) -> None:
        found.add(stage.world.registry.expansions.list()[0].step)

    explored = explore(lambda choices: play(stage, [[call], [call]], choices), check, 100)
    assert explored.whole and found == ends


def sweep_carelessly(world: World) -> None:
    """Ask which contents are in use before the files are listed; `index.janitor` does it the other way round."""
    used = world.gallery.list_needed_contents()
    for path in (world.home / "pictures").glob("*/*"):
        if path.name.partition(".")[0] not in used:
            path.unlink(missing_ok=True)


def test_a_sweep_that_takes_a_file_whose_row_is_on_its_way_is_found(stage: Stage) -> None:
    def check(steps: Sequence[Step], _: object) -> None:
        assert_whole(stage.world, [], steps)

    acts: list[Sequence[Call]] = [[lambda world: put(world, "new", LEFT_OVER)], [sweep_carelessly]]
    with pytest.raises(AssertionError, match="has a record and no files") as caught:
        explore(lambda choices: play(stage, acts, choices), check, 1_000)
    assert "actor 1, remove: reads nothing; changes pictures/" in caught.value.__notes__[0]


def test_no_order_is_left_out_that_all_schedules_have(stage: Stage) -> None:
    acts = [ACTORS[name](stage) for name in ("take over", "heartbeat")]
    every, found = set[object](), set[object]()
    waiting: list[tuple[int, ...]] = [()]
    while waiting:
        choices = waiting.pop()
        steps, _ = play(stage, acts, choices)
        every.add(find_order(steps))
        actors = tuple(step.actor for step in steps)
        free = (at for at in range(len(choices), len(steps)) if steps[at].free)
        waiting += [(*actors[:at], 1 - actors[at]) for at in free]
    explored = explore(
        lambda choices: play(stage, acts, choices), lambda steps, _: found.add(find_order(steps)), most=100
    )
    assert explored.whole and found == every and len(every) == 3


def test_two_actors_that_touch_nothing_of_each_other_have_one_order(stage: Stage) -> None:
    acts = [ACTORS[name](stage) for name in ("put", "heartbeat")]
    explored = explore(lambda choices: play(stage, acts, choices), lambda *_: None, most=100)
    assert (explored.runs, explored.different, explored.whole) == (1, 1, True)
