"""Writes to the gallery: in order, those that wait at the same time together. Encodes no picture."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, ParamSpec, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from index.gallery import NewPicture, Put
from index.live import LiveIndex
from service.batching import BatchQueue
from service.settings import Settings
from store.errors import PictoglotError, Unavailable

_FAILURES = (PictoglotError, SQLAlchemyError, OSError, ValueError)
_AT_ONCE = 16  # pictures in one transaction, as many as `pictoglot import` sends at a time
P = ParamSpec("P")
R = TypeVar("R")


_Write = NewPicture | Callable[[], Any]


class WriteQueue(BatchQueue[_Write, Any]):
    """Writes to the gallery, in order, on one thread, as the registry requires: pictures to put, and other changes.

    Pictures that wait at the same time are put in one transaction: it costs the disk hardly more than one of them.
    """

    def __init__(self, live: LiveIndex, settings: Settings) -> None:
        self._live = live
        limit, seconds = settings.queue_limit, settings.upload_seconds
        super().__init__(self._write, size=_AT_ONCE, limit=limit, seconds=seconds)

    async def put(self, picture: NewPicture) -> Put:
        """The result of `LiveIndex.put_pictures`; raises as that does, and as a call of the queue does."""
        (put,) = await self([picture])
        assert isinstance(put, Put)
        return put

    async def run(self, change: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of another change; raises as it does, and as a call of the queue does."""
        (result,) = await self([partial(change, *args, **kwargs)])
        return result  # type: ignore[no-any-return]

    def _write(self, writes: Sequence[_Write]) -> list[Any]:
        outcomes = list[Any]()
        for is_picture, group in groupby(writes, lambda write: isinstance(write, NewPicture)):
            alike: list[Any] = list(group)
            outcomes += self._put(alike) if is_picture else [_outcome(change) for change in alike]
        return outcomes

    def _put(self, pictures: list[NewPicture]) -> list[Put | Exception]:
        """All together; if that fails, one by one, because one of them may be the reason."""
        together = _outcome(partial(self._live.put_pictures, pictures))
        if not isinstance(together, Exception):
            return list(together)
        if len(pictures) == 1 or isinstance(together, Unavailable):
            return [together] * len(pictures)
        return [outcome for picture in pictures for outcome in self._put([picture])]


def _outcome(write: Callable[[], R]) -> R | Exception:
    try:
        return write()
    except _FAILURES as error:  # it is raised to the one who waits for this write; any other one, to all
        return error
