"""Pictures in a folder: walks it in order, and reads a file only when it stays as it is meanwhile. Sends nothing."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from .items import MOST_BYTES, SUFFIXES, Item, Left, Said, Stamp, Unreadable, Why, ids_of, not_read

Captions = Mapping[str, Mapping[str, Sequence[str]]]  # by file name or id, then by language
_CHANGING = "It was changed while it was read"


class Folder:
    """The pictures below a folder, or some of them; `said` of each, and `captions` by file name or id.

    The path of a file below the folder, without its suffix, becomes the id.
    """

    def __init__(
        self, root: Path, said: Said, captions: Captions | None = None, only: Collection[str] | None = None
    ) -> None:
        self.root = root.resolve()
        self.name = str(self.root)
        self._said, self._captions, self._only = said, captions or {}, only
        self.captioned = set[str]()  # names and ids in `captions` that a picture was found for

    @property
    def is_partial(self) -> bool:
        """Whether there may be more below the folder."""
        return self._only is not None

    def parts(self) -> Iterator[Item | Left]:
        """As `Source.parts`. Of links that lead in a circle, or to a folder that was read, each is told."""
        if self._only is None:
            yield from self._below("")
        else:
            yield from self.some(sorted(self._only))

    def count(self) -> int:
        """How many pictures there are."""
        return sum(isinstance(part, Item) for part in self.parts())

    def some(self, places: Collection[str]) -> Iterator[Item | Left]:
        """Of these places what there is: a file, or all that is below a folder; nothing of what is gone."""
        for place in places:
            path = self.root / place
            if any(part.startswith(".") for part in Path(place).parts):
                yield Left(place, "It is hidden.", Why.HIDDEN)
            elif path.is_dir():
                yield from self._below(place)
            elif os.path.lexists(path):
                yield self._file(place)

    def _below(self, top: str) -> Iterator[Item | Left]:
        read = set[tuple[int, int]]()  # folders by device and inode
        waiting = [top]  # the last one comes next
        while waiting:
            place = waiting.pop()
            if (shown := _shown(place)) != place:
                yield Left(shown, "Its name is not UTF-8.")
                continue
            path = self.root / place
            try:
                if path.is_dir():
                    status = path.stat()
                    if (status.st_dev, status.st_ino) in read:
                        yield Left(place, "It leads to a folder that was read already.")
                        continue
                    read.add((status.st_dev, status.st_ino))
                    names = os.listdir(path)
                else:
                    yield self._file(place)
                    continue
            except OSError as error:
                yield Left(place, f"It cannot be read: {error.strerror}.", hides=place)
                continue
            if not names and place:
                yield Left(place, "It is empty.", Why.EMPTY, hides=place)  # as a disk that is not mounted is
            for name in sorted(names, reverse=True):
                below = f"{place}/{name}" if place else name
                if name.startswith("."):
                    yield Left(_shown(below), "It is hidden.", Why.HIDDEN)
                else:
                    waiting.append(below)

    def _file(self, place: str) -> Item | Left:
        path = self.root / place
        if path.is_symlink() and not os.path.exists(path):
            return Left(place, "It leads to what is not there.", hides=place)  # perhaps a disk that is away
        if path.suffix.lower() not in SUFFIXES:
            return not_read(place)
        try:
            status = path.stat()
        except OSError as error:
            return Left(place, f"It cannot be read: {error.strerror}.")
        if not path.is_file():
            return Left(place, "It is no file.")
        stamp = Stamp(status.st_size, status.st_mtime_ns)
        id, twin = ids_of(place)
        said = self._captioned(id, path.name)
        return Item(place, id, lambda: read_file(path, stamp), stamp, twin, said)

    def _captioned(self, id: str, name: str) -> Said:
        key = name if self._captions.get(name) else id
        if key not in self._captions:
            return self._said
        self.captioned.add(key)
        return replace(self._said, captions=self._captions[key])


def read_file(path: Path, stamp: Stamp | None = None) -> bytes:
    """The bytes of a file that is as `stamp` says before and after. Raises `Unreadable`."""
    try:
        with path.open("rb") as file:
            before = _stamp(file)
            if before.size > MOST_BYTES:
                raise Unreadable(f"It has more than {MOST_BYTES >> 20} MiB.")
            content = file.read(MOST_BYTES + 1)
            if before != _stamp(file) or len(content) != before.size or (stamp is not None and before != stamp):
                raise Unreadable(f"{_CHANGING}.", Why.UNSETTLED)
    except OSError as error:
        raise Unreadable(f"It cannot be read: {error.strerror}.") from error
    return content


def _stamp(file: IO[bytes]) -> Stamp:
    status = os.fstat(file.fileno())
    return Stamp(status.st_size, status.st_mtime_ns)


def _shown(place: str) -> str:
    """A name as it can be shown: what is not UTF-8 in it, as escapes."""
    return place.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
