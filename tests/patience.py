"""How tests wait: measured in time that the machine gave them, and again where the product promises a refusal.

A machine that stands still for some seconds, or that others keep busy, fails no test.
"""

import fcntl
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic
from typing import TypeVar

from store.errors import RegistryUnavailable

T = TypeVar("T")
PATIENCE = 180.0  # seconds: a loaded machine may be many times slower, and only a failure waits for it
_TICK = 0.01  # seconds


@contextmanager
def bound_time(seconds: float) -> Iterator[None]:
    """Assert that the block ends within so many seconds of those in which this process could run.

    A thread sleeps a hundredth of a second again and again and counts: while the machine stands still nobody counts.
    What keeps the interpreter to itself is not measured: use `time.process_time` there.
    """
    ended, ticks = Event(), 0

    def count() -> None:
        nonlocal ticks
        while not ended.wait(_TICK):
            ticks += 1

    counting = Thread(target=count, daemon=True)
    counting.start()
    try:
        yield
    finally:
        ended.set()
        counting.join()
    assert ticks * _TICK < seconds, f"took {ticks * _TICK:.2f} s, not {seconds}"


def insist(act: Callable[[], T]) -> T:
    """Return what `act` returns; ask again while the registry refuses a writer that others hold up for 1.5 s."""
    until = monotonic() + PATIENCE
    while True:
        try:
            return act()
        except RegistryUnavailable:
            if monotonic() > until:
                raise


def count_unread(pid: int) -> int:
    """Return the number of unread bytes in the pipe to a process."""
    with open(f"/proc/{pid}/fd/0", "rb") as pipe:
        return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
