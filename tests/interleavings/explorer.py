"""All orders of the steps of two actors that make a difference, those with the fewest changes of turn first.

From each run come others: wherever a step of one actor depends on an earlier one of the other, the other goes first.
That is dynamic partial-order reduction (Flanagan and Godefroid, 2005), without its sleep sets: two runs that differ in
independent steps alone are recognised, and only the first one goes on.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.interleavings.schedule import Step


@dataclass(frozen=True)
class Explored:
    """How many runs there were, how many of them differ, and whether these are all."""

    runs: int
    different: int
    whole: bool

    def __str__(self) -> str:
        return f"{self.runs:5} runs, {self.different:5} different{'' if self.whole else ', not all'}"


Play = Callable[[Sequence[int]], tuple[Sequence[Step], Any]]
Check = Callable[[Sequence[Step], Any], object]


def explore(play: Play, check: Check, most: int) -> Explored:
    """Run every order that makes a difference, unless there are more than `most`."""
    waiting: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    planned, seen, runs = set[tuple[int, ...]](), set[object](), 0
    while waiting and runs < most:
        steps, result = play(heapq.heappop(waiting)[1])
        runs += 1
        if (order := find_order(steps)) in seen:
            continue
        seen.add(order)
        try:
            check(steps, result)
        except AssertionError as error:
            error.add_note("\n".join(map(str, steps)))
            raise
        for choices in _list_reversals(steps):
            if choices not in planned:
                planned.add(choices)
                heapq.heappush(waiting, (_list_turns(choices), choices))
    return Explored(runs, len(seen), not waiting)


def _list_reversals(steps: Sequence[Step]) -> Iterator[tuple[int, ...]]:
    """Choices after which the other actor goes on before a step that a later one of it depends on."""
    actors = tuple(step.actor for step in steps)
    for place, step in enumerate(steps):
        later = [other for other in steps[place + 1 :] if other.actor != step.actor and other.is_dependent_on(step)]
        for writing in {other.writing for other in later}:
            at = place
            while at >= 0 and not _may_turn(steps[at], step.actor, writing):
                at -= 1
            if at >= 0:
                yield (*actors[:at], 1 - step.actor)


def _may_turn(step: Step, actor: int, writing: bool) -> bool:
    """Whether the other one can go on before this step of `actor`: to write, only if that is not writing already."""
    began = step.writing and step.name != "write"
    return step.actor == actor and step.free and not (writing and began)


def find_order(steps: Sequence[Step]) -> object:
    """Return what two runs have in common that differ in the order of independent steps alone."""
    counts, order = [0, 0], list[tuple[int, int, int]]()
    for place, step in enumerate(steps):
        before = [at for at in range(place) if steps[at].actor != step.actor and steps[at].is_dependent_on(step)]
        after = sum(other.actor != step.actor for other in steps[: before[-1] + 1]) if before else 0
        order.append((step.actor, counts[step.actor], after))
        counts[step.actor] += 1
    return tuple(sorted(order))


def _list_turns(choices: Sequence[int]) -> int:
    return sum(one != other for one, other in pairwise(choices))
