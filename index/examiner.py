"""How a scrub looks at one thing after another: gently, patiently, and to the end, whatever is wrong with one of them.

Knows nothing that is stored.
"""

import errno
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import literal, tuple_

from index.captions import BATCH
from index.damage import Damage, Kind
from store.errors import LeaseLost, PictoglotError, RegistryUnavailable
from store.registry import Registry

GENTLE = 0.1  # share of the time in which a scrub beside searches reads; the rest it waits
_TURN, _LONGEST = 0.02, 1.0  # seconds of reading between two waits, and of which a wait depends
_KEEP = 15.0  # seconds between two signs of life
_PATIENCE, _LOOK = 600.0, 1.0  # seconds to wait for the registry, or whoever seals, and between two looks
_DAMAGED = (errno.EIO, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO))  # what a disk or file system says of itself
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Busy(Exception):
    """Another process is at it just now."""


class Pace:
    """Waits after each piece that was read, so that reading takes this share of the time; counts bytes.

    `keep` is called a few times a minute, while it waits for others, too; it may raise `LeaseLost` to end the scrub.
    """

    def __init__(
        self,
        share: float = 1.0,
        keep: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._waits, self._keep, self._wait, self.clock = 1 / share - 1, keep, wait, clock
        self._since = self._kept = clock()
        self.bytes = 0

    def __call__(self, read: int) -> None:
        self.bytes += read
        busy = self.clock() - self._since
        if busy >= _TURN:  # capped: what took long may have been anything, and nobody waits nine times as long for it
            self.rest(min(busy, _LONGEST) * self._waits)

    def rest(self, seconds: float = 0.0) -> None:
        """Wait, and count from now on: the time before this was not spent with reading."""
        if seconds:
            self._wait(seconds)
        if self.clock() - self._kept >= _KEEP:
            self._kept = self.clock()
            try:
                self._keep()
            except LeaseLost:
                raise
            except PictoglotError as error:  # the registry is away or full: whoever needs it waits for it
                _log.info("a duty could not be renewed (%s)", error.code)
        self._since = self.clock()


class Examiner:
    """Looks at things, and has them mended with `mend`. What one of them raises ends nothing but the look at it.

    Only a registry that stays away ends a scrub, and another process that does it.
    """

    def __init__(self, pace: Pace, *, mend: bool) -> None:
        self.pace, self._mend = pace, mend

    def examined(
        self,
        kind: Kind,
        name: str,
        is_whole: Callable[[], bool],
        is_there: Callable[[], bool],
        mend: Callable[[], str] = lambda: "",
    ) -> Iterator[Damage]:
        """The damage of one thing, if it has any; see `told`."""
        try:
            if is_whole():
                return
        except Exception as error:  # noqa: BLE001 - whatever is wrong with this one, others are to be read
            _raise_if_over(error)
            if getattr(error, "errno", None) not in _DAMAGED:
                yield from self.told(kind, f"{name} cannot be read ({type(error).__name__})", is_there)
                return
        yield from self.told(kind, name, is_there, mend)

    def told(
        self, kind: Kind, name: str, is_there: Callable[[], bool], mend: Callable[[], str] = lambda: ""
    ) -> Iterator[Damage]:
        """A thing that is damaged, if it is still there: others delete and replace meanwhile. `mend` says by what."""
        if self.attempt(is_there, True):
            yield Damage(kind, name, self.attempt(mend, "") if self._mend else "")

    def guarded(self, kind: Kind, what: str, part: Iterable[Damage]) -> Iterator[Damage]:
        """A part of a scrub to its end; if it cannot go on, that is told, and other parts can."""
        try:
            yield from part
        except Exception as error:  # noqa: BLE001 - as in `examined`
            _raise_if_over(error)
            why = error.told if isinstance(error, PictoglotError) else type(error).__name__
            yield Damage(
                "registry" if isinstance(error, RegistryUnavailable) else kind, f"{what} cannot be read ({why})"
            )

    def attempt(self, act: Callable[[], T], otherwise: T) -> T:
        """What `act` returns, as `patiently`; `otherwise` when that cannot be done now."""
        try:
            return self.patiently(act)
        except Exception as error:  # noqa: BLE001 - as in `examined`
            _raise_if_over(error)
            _log.warning("something damaged cannot be mended now (%s)", type(error).__name__)
            return otherwise
        finally:
            self.pace.rest()

    def patiently(self, act: Callable[[], T]) -> T:
        """What `act` returns; called again, for some minutes, while the registry is away, or another process busy."""
        until = self.pace.clock() + _PATIENCE
        while True:
            try:
                return act()
            except (RegistryUnavailable, Busy) as error:
                if getattr(error, "damaged", False) or self.pace.clock() >= until:
                    raise
                _log.info("the scrub waits (%s)", type(error).__name__)
            self.pace.rest(_LOOK)

    def pages(self, registry: Registry, query: Any, keys: int) -> Iterator[Sequence[Any]]:
        """All rows of a `select`, some at a time, in the order of their primary key: the first so many columns."""
        columns = [*query.selected_columns][:keys]
        page = first = query.order_by(*columns).limit(BATCH)
        while rows := self.patiently(partial(_rows, registry, page)):
            self.pace(sum(len(value) for row in rows for value in row if isinstance(value, bytes | str)))
            yield rows
            page = first.where(tuple_(*columns) > tuple_(*map(literal, rows[-1][:keys])))


def _rows(registry: Registry, query: Any) -> Sequence[Any]:
    with registry.read() as session:
        return session.execute(query).all()


def _raise_if_over(error: Exception) -> None:
    """Raise what ends a scrub: another process does it, or the registry has been away for long."""
    if isinstance(error, LeaseLost) or (isinstance(error, RegistryUnavailable) and not error.damaged):
        raise error
