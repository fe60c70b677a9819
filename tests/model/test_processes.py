"""A process that serves pauses no thread for long: what it has open is not searched for garbage."""

import gc
import sys
import weakref
from collections.abc import Iterator

import pytest

from model.processes import forget_closed, give_way


class Ring:
    """Only a search for garbage frees it."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    gc.unfreeze()


def test_what_is_open_is_left_out_until_it_is_closed() -> None:
    gc.unfreeze()
    forget_closed()
    assert gc.get_freeze_count() == 0, "only where it was asked for"
    opened = Ring()
    closed = weakref.ref(opened)
    give_way()
    assert gc.get_freeze_count() > 100_000 > len(gc.get_objects()) and sys.getswitchinterval() < 0.001
    del opened
    gc.collect()
    assert closed() is not None
    forget_closed()
    assert closed() is None and gc.get_freeze_count() > 100_000
