"""Writes to the gallery: in order, those that wait at the same time together. Encodes no picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from index.gallery import GalleryPicture, NewPicture, Put
from index.live import LiveIndex
from index.records import Patch, Seen, Within
from service.batching import BatchQueue
from service.settings import Settings
from store.errors import PictoglotError, Unavailable

_FAILURES = (PictoglotError, SQLAlchemyError, OSError, ValueError)
_AT_ONCE = 16  # pictures in one transaction, as many as `pictoglot import` sends at a time
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _Removal:
    """A picture to delete, if it is in one of the collections `within` and as it was `seen`."""

    id: str
    within: Within
    seen: Seen | None


_Write = NewPicture | Patch | _Removal
_Done = Put | GalleryPicture | None


class WriteQueue(BatchQueue[_Write, _Done]):
    """Writes to the gallery, in order, on one thread, as the registry requires: pictures to put, to change, to delete.

    Pictures that wait at the same time are put in one transaction: it costs the disk hardly more than one of them.
    """

    def __init__(self, live: LiveIndex, settings: Settings) -> None:
        self._live = live
        limit, seconds = settings.queue_limit, settings.upload_seconds
        super().__init__(self._written, size=_AT_ONCE, limit=limit, seconds=seconds)

    async def put(self, picture: NewPicture) -> Put:
        """The result of `LiveIndex.put_pictures`; raises as that does, and as a call of the queue does."""
        (put,) = await self([picture])
        assert isinstance(put, Put)
        return put

    async def patch(self, patch: Patch) -> GalleryPicture:
        """As `LiveIndex.patch_picture`; raises as that does, and as a call of the queue does."""
        (picture,) = await self([patch])
        assert isinstance(picture, GalleryPicture)
        return picture

    async def delete(self, id: str, within: Within = None, seen: Seen | None = None) -> None:
        """As `LiveIndex.delete_picture`; raises as that does, and as a call of the queue does."""
        await self([_Removal(id, within, seen)])

    def _written(self, writes: Sequence[_Write]) -> list[_Done | Exception]:
        outcomes: list[_Done | Exception] = []
        for _, group in groupby(writes, type):
            alike = list(group)
            outcomes += self._put([write for write in alike if isinstance(write, NewPicture)])
            outcomes += [_outcome(self._live.patch_picture, write) for write in alike if isinstance(write, Patch)]
            outcomes += [_outcome(self._delete, write) for write in alike if isinstance(write, _Removal)]
        return outcomes

    def _delete(self, removal: _Removal) -> None:
        self._live.delete_picture(removal.id, removal.within, removal.seen)

    def _put(self, pictures: list[NewPicture]) -> list[_Done | Exception]:
        """All together; if that fails, one by one, because one of them may be the reason."""
        if not pictures:
            return []
        together = _outcome(self._live.put_pictures, pictures)
        if not isinstance(together, Exception):
            return list(together)
        if len(pictures) == 1 or isinstance(together, Unavailable):
            return [together] * len(pictures)
        return [outcome for picture in pictures for outcome in self._put([picture])]


def _outcome(write: Callable[[T], R], what: T) -> R | Exception:
    try:
        return write(what)
    except _FAILURES as error:  # it is raised to the one who waits for this write; any other one, to all
        return error
