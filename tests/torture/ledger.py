"""The service in plain Python: which states each picture may be in, after what was answered and what was not.

Without faults each picture has one possible state. A request whose answer got lost leaves two, until somebody looks:
either outcome is right, and it then stays that way. No clock and no network here.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from time import time
from typing import Any


@dataclass(frozen=True)
class Record:
    """A picture as the gallery has it; `content` is the number of the picture."""

    content: int
    collection: str = "default"
    tags: tuple[str, ...] = ()
    year: int | None = None
    caption: str | None = None


State = Record | None  # None: there is no such picture


@dataclass(frozen=True)
class Write:
    """What is asked of one picture: `put` (with what is left out kept), `patch` or `delete`."""

    kind: str
    id: str
    changes: Mapping[str, Any]

    def apply(self, state: State) -> tuple[int, State]:
        """Return the status of the answer and the state afterwards, if that was the state before."""
        if self.kind == "delete":
            return (404, None) if state is None else (204, None)
        if self.kind == "patch":
            return (404, None) if state is None else (200, replace(state, **self.changes))
        if state is None:
            return 201, Record(**self.changes)
        return 200, replace(state, **self.changes)


class Violation(AssertionError):
    """The service broke a promise; the message begins with its kind, such as `lost` or `mixed`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class Ledger:
    """Possible states of all pictures; every entry is also a line of JSON in a file, if there is one."""

    def __init__(self, file: Path | None = None) -> None:
        self._states: dict[str, frozenset[State]] = {}
        self._writer: dict[str, str] = {}
        self._unsettled: dict[str, float] = {}
        self._file = file
        self._watched: dict[str, set[State]] | None = None
        self._lock = RLock()

    def note(self, **entry: Any) -> None:
        if self._file is None:
            return
        line = json.dumps({"at": round(time(), 3), **entry}, ensure_ascii=False)
        with self._lock, self._file.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def list_possible(self, id: str) -> frozenset[State]:
        """Return the states that this picture may be in."""
        with self._lock:
            return self._states.get(id, frozenset({None}))

    def list_ids(self) -> list[str]:
        """Return every id that was ever written."""
        with self._lock:
            return sorted(self._states)

    def is_certain(self) -> bool:
        """Whether no picture has more than one possible state."""
        with self._lock:
            return all(len(states) == 1 for states in self._states.values())

    def snapshot(self) -> tuple[dict[str, frozenset[State]], dict[str, str]]:
        """Return the possible states of all pictures, and the processes that acknowledged their newest writes."""
        with self._lock:
            return dict(self._states), dict(self._writer)

    @contextmanager
    def watch(self) -> Iterator[dict[str, set[State]]]:
        """Collect every state that each picture may have during the block."""
        with self._lock:
            self._watched = watched = {id: set(states) for id, states in self._states.items()}
        yield watched
        with self._lock:
            self._watched = None

    def begin(self, write: Write) -> frozenset[State]:
        """Note a request that is under way: from now on it may have been done. Returns the states before."""
        with self._lock:
            before = self.list_possible(write.id)
            self._states[write.id] = before | {write.apply(state)[1] for state in before}
            if self._watched is not None:
                self._watched.setdefault(write.id, {None}).update(self._states[write.id])
            self._writer.pop(write.id, None)
            return before

    def acknowledge(self, write: Write, before: frozenset[State], status: int, process: str) -> None:
        """Note an answer of success or 404; raises Violation if no possible state is answered so."""
        after = {write.apply(state)[1] for state in before if write.apply(state)[0] == status}
        if not after:
            kind = "lost" if status in (404, 201) else "back"
            raise Violation(kind, f"{write} was answered {status}, and it was {describe(before)} before")
        with self._lock:
            self._states[write.id] = frozenset(after)
            self._writer[write.id] = process

    def refuse(self, write: Write, before: frozenset[State]) -> None:
        """Note that it never reached the service, or was refused for good: nothing has changed."""
        with self._lock:
            self._states[write.id] = before

    def note_lost_answer(self, write: Write, until: float) -> None:
        """Note that the answer got lost; until that moment it may still be done."""
        with self._lock:
            self._unsettled[write.id] = max(until, self._unsettled.get(write.id, 0))

    def observe(self, id: str, seen: State, at: float) -> None:
        """Note a look at a picture that nobody wrote meanwhile; raises Violation if that may not be."""
        with self._lock:
            states = self.list_possible(id)
            if seen not in states:
                raise Violation(name_kind(states, seen), f"{id} is {seen}, and may be {describe(states)}")
            if at >= self._unsettled.get(id, 0):
                self._states[id] = frozenset({seen})


def name_kind(states: Iterable[State], seen: State) -> str:
    """Return what it is called when `seen` is none of the possible states."""
    if seen is None:
        return "lost"
    return "back" if set(states) == {None} else "mixed"


def describe(states: Iterable[State]) -> str:
    return " or ".join(sorted(str(state) if state else "absent" for state in states))


Matches = Callable[[Record], bool]


def judge_hits(
    hits: Mapping[str, float],
    states: Mapping[str, frozenset[State]],
    matches: Matches,
    score: Callable[[int], float] | None,
) -> list[tuple[str, str, str]]:
    """Return what is wrong with the hits of a search that had room for all: (kind, id, sentence).

    `score` tells the score of a picture by its content, where that can be computed.
    """
    wrong = [
        ("lost", id, f"{id} is not found and is {describe(possible)}")
        for id, possible in states.items()
        if id not in hits and all(state is not None and matches(state) for state in possible)
    ]
    for id, found in hits.items():
        possible = states.get(id, frozenset({None}))
        right = [state for state in possible if state is not None and matches(state)]
        if not right:
            wrong.append(("back", id, f"{id} is found and is {describe(possible)}"))
        elif score is not None and all(abs(found - score(state.content)) > TOLERANCE for state in right):
            scores = ", ".join(f"{score(state.content):.7f}" for state in right)
            wrong.append(("mixed", id, f"{id} has the score {found:.7f}, not {scores}"))
    return wrong


TOLERANCE = 2e-6  # vectors of pictures are halves in both; what differs is the order of a sum of 32 singles


def judge_counts(
    counts: Mapping[str, int], states: Mapping[str, frozenset[State]], keys: Callable[[Record], Iterable[str]]
) -> list[str]:
    """Return what is wrong with the numbers of pictures by a key, such as a facet."""
    least: dict[str, int] = {}
    most: dict[str, int] = {}
    for possible in states.values():
        each = [set(keys(state)) if state else set() for state in possible]
        for key in set.union(*each):
            most[key] = most.get(key, 0) + 1
            least[key] = least.get(key, 0) + all(key in one for one in each)
    return [
        f"{key} counts {counts.get(key, 0)}, not {least.get(key, 0)} to {most.get(key, 0)}"
        for key in sorted({*counts, *most})
        if not least.get(key, 0) <= counts.get(key, 0) <= most.get(key, 0)
    ]
