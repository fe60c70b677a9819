"""The explorer finds races that are planted, and leaves out no order that makes a difference."""

from collections.abc import Sequence

import pytest
from sqlalchemy import select, update

from store.tables import ExpansionRow
from tests.index.world import World
from tests.interleavings.actors import Call
from tests.interleavings.explorer import explore
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
