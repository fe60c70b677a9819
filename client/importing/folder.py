"""Pictures in a folder: walks it in order, and reads a file only when it stays as it is meanwhile. Sends nothing."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from .items import (
    MOST_BYTES,
    SUFFIXES,
    Item,
    Record,
    SkippedPart,
    SkipReason,
    Stamp,
    UnreadableError,
    derive_ids,
    describe_file,
)


class Folder:
    """The pictures below a folder, or `only` some files in it, with one `record` for all.

    The path of a file below the folder, without its suffix, becomes the id.
    """

    def __init__(self, root: Path, record: Record, only: Collection[str] | None = None) -> None:
        self.root = root.resolve()
        self.name = str(self.root)
        self.is_partial = only is not None
        self._record, self._only = record, only

    def list_parts(self) -> Iterator[Item | SkippedPart]:
        """Yield all parts; a link that leads in a circle, or to a folder that was read, is skipped."""
        return self.walk([""] if self._only is None else sorted(self._only))

    def count(self) -> int:
        """Return how many pictures there are."""
        return sum(isinstance(part, Item) for part in self.list_parts())

    def walk(self, places: Collection[str]) -> Iterator[Item | SkippedPart]:
        """Yield what is at these places: a file, or all that is below a folder; nothing of what is gone."""
        for place in places:
            path = self.root / place
            if any(part.startswith(".") for part in Path(place).parts):
                yield SkippedPart(place, "It is hidden.", SkipReason.HIDDEN)
            elif path.is_dir():
                yield from self._walk_below(place)
            elif os.path.lexists(path):
                yield self._inspect(place)

    def _walk_below(self, top: str) -> Iterator[Item | SkippedPart]:
        read = set[tuple[int, int]]()  # folders by device and inode
        waiting = [top]  # the last one comes next
        while waiting:
            place = waiting.pop()
            if (shown := _escape(place)) != place:
                yield SkippedPart(shown, "Its name is not UTF-8.")
                continue
            path = self.root / place
            try:
                if not path.is_dir():
                    yield self._inspect(place)
                    continue
                status = path.stat()
                if (status.st_dev, status.st_ino) in read:
                    yield SkippedPart(place, "The link leads to a folder that was read already.")
                    continue
                read.add((status.st_dev, status.st_ino))
                names = os.listdir(path)
            except OSError as error:
                yield SkippedPart(place, f"It cannot be read: {error.strerror}.", hides=place)
                continue
            if not names and place:
                yield SkippedPart(place, "It is empty.", SkipReason.EMPTY, hides=place)  # as an unmounted disk is
            for name in sorted(names, reverse=True):
                below = f"{place}/{name}" if place else name
                if name.startswith("."):
                    yield SkippedPart(_escape(below), "It is hidden.", SkipReason.HIDDEN)
                else:
                    waiting.append(below)

    def _inspect(self, place: str) -> Item | SkippedPart:
        path = self.root / place
        if path.is_symlink() and not os.path.exists(path):
            return SkippedPart(place, "The link leads nowhere.", hides=place)  # perhaps to a disk that is away
        if path.suffix.lower() not in SUFFIXES:
            return SkippedPart(place, "Its name has no suffix of a picture.", SkipReason.OTHER)
        try:
            stamp = Stamp.read(path.stat())
        except OSError as error:
            return SkippedPart(place, f"It cannot be read: {error.strerror}.")
        if not path.is_file():
            return SkippedPart(place, "It is not a file.")
        id, twin = derive_ids(place)
        file = describe_file(PurePosixPath(place), self.root.name)
        return Item(place, id, lambda: read_file(path, stamp), stamp, twin, self._record, file=file)


def read_file(path: Path, stamp: Stamp) -> bytes:
    """Return the bytes of a file that is as `stamp` says before and after. Raises `UnreadableError`."""
    try:
        with path.open("rb") as file:
            before = Stamp.read(os.fstat(file.fileno()))
            if before.size > MOST_BYTES:
                raise UnreadableError(f"It has more than {MOST_BYTES >> 20} MiB.")
            content = file.read(MOST_BYTES + 1)
            if before != Stamp.read(os.fstat(file.fileno())) or len(content) != before.size or before != stamp:
                raise UnreadableError("It was changed while it was read.")
    except OSError as error:
        raise UnreadableError(f"It cannot be read: {error.strerror}.") from error
    return content


def _escape(place: str) -> str:
    """Return a name as it can be shown: what is not UTF-8 in it, as escapes."""
    return place.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
