"""One run of two actors, each in a thread of its own, of which exactly one goes on at a time: who does, is chosen.

A step ends where another process could see or change something: before a transaction begins, before a writing one
commits, before a file is renamed or removed, or a folder listed. SQLAlchemy and Python's audit events tell of these, so
nothing of the product knows about this. What a step read and changed (tables and folders) is noted.
"""

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event

from store.errors import PictoglotError
from tests.patience import PATIENCE

CLOCK = "clock"
_TABLE = re.compile(r"\b(FROM|JOIN|INTO|UPDATE)\s+\"?(\w+)", re.IGNORECASE)
_CHANGES = re.compile(r"\s*(INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
_TIME = re.compile(r"julianday|clock_timestamp", re.IGNORECASE)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_here = threading.local()  # the actor whose thread this is
Act = Callable[[], object]


@dataclass
class Step:
    """What one actor did between two points: which tables and folders it read, and which it changed."""

    actor: int
    name: str
    free: bool  # whether the other one could have gone on instead
    writing: bool = False  # whether it has the turn to write
    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        reads, writes = (", ".join(sorted(names)) or "nothing" for names in (self.reads, self.writes))
        return f"actor {self.actor}, {self.name}: reads {reads}; changes {writes}"

    def is_dependent_on(self, other: "Step") -> bool:
        """Whether it makes a difference which of the two comes first."""
        return bool(self.writes & (other.reads | other.writes) or other.writes & self.reads)


class _Actor:
    """A thread that stands at a point until it is let go on."""

    def __init__(self, run: "Run", number: int, act: Act) -> None:
        self._run, self.number, self._act = run, number, act
        self.go, self.thread = threading.Semaphore(0), threading.Thread(target=self._work, daemon=True)
        self.point, self.waits, self.ended = "start", False, False  # waits: for the turn to write
        self.releases, self.listing = False, False
        self.changes = set[str]()  # of the transaction that is not committed yet
        self.result: object = None

    def _work(self) -> None:
        _here.actor = self
        self.go.acquire()
        try:
            self.result = self._act()
        except PictoglotError as refusal:
            self.result = refusal
        except BaseException as error:  # noqa: BLE001 - it ends a thread; whoever started the run raises it
            self._run.error = error
        self.ended = True
        self._run.turn.release()

    def stop(self, point: str, *, waits: bool = False) -> None:
        """End the step here, and go on when it is this one's turn."""
        if self._run.abandoned:
            raise SystemExit
        self.point, self.waits, self.listing = point, waits, point == "list"
        self._run.turn.release()
        self.go.acquire()
        if self._run.abandoned:
            raise SystemExit

    @property
    def step(self) -> Step:
        return self._run.steps[-1]


class Run:
    """One schedule: the `choices` first, then whoever goes on goes on."""

    def __init__(self, home: Path, engines: Sequence[Engine], acts: Sequence[Act], choices: Sequence[int]) -> None:
        self.home, self.readers = f"{home}{os.sep}", tuple(engines)
        self.turn, self.steps = threading.Semaphore(0), list[Step]()
        self.error: BaseException | None = None
        self.abandoned = False
        self._choices, self._actors = choices, [_Actor(self, number, act) for number, act in enumerate(acts)]
        self._holder: _Actor | None = None

    def play(self, on_step: Callable[[], object]) -> list[object]:
        """Run to the end; what each act returned, or the error of ours that it raised. Other errors are raised."""
        for actor in self._actors:
            actor.thread.start()
        try:
            current: _Actor | None = None
            while able := [actor for actor in self._actors if self._is_able(actor)]:
                current = self._choose(able, current)
                writing = current.waits or self._holder is current
                self.steps.append(Step(current.number, current.point, len(able) > 1, writing))
                on_step()
                self._let_go_on(current)
            assert all(actor.ended for actor in self._actors), "both wait for the turn to write"
        finally:
            self.abandoned = True
            for actor in self._actors:
                actor.go.release()
                actor.thread.join(PATIENCE)
        return [actor.result for actor in self._actors]

    def _is_able(self, actor: _Actor) -> bool:
        return not actor.ended and not (actor.waits and self._holder not in (None, actor))

    def _choose(self, able: Sequence[_Actor], current: _Actor | None) -> _Actor:
        place = len(self.steps)
        if place < len(self._choices):
            (chosen,) = [actor for actor in able if actor.number == self._choices[place]]
            return chosen
        return current if current in able and current is not None else able[0]

    def _let_go_on(self, actor: _Actor) -> None:
        if actor.waits:
            self._holder, actor.waits = actor, False
        actor.go.release()
        assert self.turn.acquire(timeout=PATIENCE), f"actor {actor.number} does not come back from {actor.point}"
        if self.error is not None:
            raise self.error
        if self._holder is actor and (actor.releases or actor.ended):
            self._holder, actor.releases = None, False


def _find_actor() -> _Actor | None:
    actor: _Actor | None = getattr(_here, "actor", None)
    return actor


def get_step(point: str) -> Step:
    """The next step of the actor that calls this, which begins when it is its turn; outside of a run, one for itself.

    For what neither a database nor a file tells of.
    """
    if (actor := _find_actor()) is None:
        return Step(0, point, free=False)
    actor.stop(point)
    return actor.step


# --- the database -----------------------------------------------------------------------------------------------------


def _begin(connection: Connection) -> None:
    if (actor := _find_actor()) is not None:
        writes = connection.engine not in actor._run.readers
        actor.stop("write" if writes else "read", waits=writes)


def _commit(connection: Connection) -> None:
    if (actor := _find_actor()) is not None and connection.engine not in actor._run.readers:
        actor.stop("commit")
        actor.step.writes |= actor.changes
        actor.changes, actor.releases = set(), True


def _note_rollback(connection: Connection) -> None:
    if (actor := _find_actor()) is not None and connection.engine not in actor._run.readers:
        actor.changes, actor.releases = set(), True


def _execute(_: Connection, __: object, statement: str, *___: object) -> None:
    if (actor := _find_actor()) is not None:
        tables = [name.lower() for _, name in _TABLE.findall(statement)]
        actor.step.reads |= {*tables, *([CLOCK] if _TIME.search(statement) else [])}
        if _CHANGES.match(statement):
            actor.changes.add(tables[0])


# --- files ------------------------------------------------------------------------------------------------------------

_POINTS = {"os.rename": "rename", "os.link": "rename", "os.remove": "remove", "shutil.rmtree": "remove"}
_LISTS = {"os.listdir", "os.scandir"}
_OTHERS = {"open", "os.mkdir", "os.rmdir", "os.utime"}


def _observe_call(name: str, given: tuple[Any, ...]) -> None:
    if name not in _POINTS and name not in _LISTS and name not in _OTHERS:
        return
    if (actor := _find_actor()) is None or not (folders := _find_folders(actor, given)):
        return
    if name in _POINTS:
        actor.stop(_POINTS[name])
    elif name in _LISTS and not actor.listing:  # a walk through many folders is one step
        actor.stop("list")
    reads = name in _LISTS or (name == "open" and not given[2] & _WRITES)
    (actor.step.reads if reads else actor.step.writes).update(folders)


def _find_folders(actor: _Actor, given: Sequence[Any]) -> set[str]:
    """The folders at the top of the data root that a call is about; not those inside of a tree that goes."""
    paths = [os.fsdecode(path) for path in given[:2] if isinstance(path, str | bytes | os.PathLike)]
    below = [path.removeprefix(actor._run.home) for path in paths if path.startswith(actor._run.home)]
    return {f"{path.split(os.sep)[0]}/" for path in below if not path.startswith("registry.db")}


_stat = os.stat


def _look_at(path: Any, *given: Any, **named: Any) -> os.stat_result:
    """Stat a path as `os.stat`, of which there is no audit event."""
    if (actor := _find_actor()) is not None and actor._run.steps:
        actor.step.reads |= _find_folders(actor, (path,))
    return _stat(path, *given, **named)


sys.addaudithook(_observe_call)  # for ever: outside of a run it finds no actor


@contextmanager
def watch() -> Iterator[None]:
    """Let every actor in the block stop at its points."""
    heard: list[tuple[str, Callable[..., None]]] = [
        ("begin", _begin), ("commit", _commit), ("rollback", _note_rollback), ("before_cursor_execute", _execute),
    ]  # fmt: skip
    for name, hears in heard:
        event.listen(Engine, name, hears)
    os.stat = _look_at
    try:
        yield
    finally:
        os.stat = _stat
        for name, hears in heard:
            event.remove(Engine, name, hears)
