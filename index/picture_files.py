"""The stored files of the gallery's pictures, two or three for each content, here and in the object store.

The third is the original: the bytes as they were sent, where these are kept. Knows no rows. No damaged file is served:
the name of an original is its hash, the other two end with their checksum.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from model.pictures import Picture, encode_thumbnail, read_rgb
from store import files
from store.data_root import ORIGINAL, PICTURE, DataRoot, is_whole
from store.errors import CorruptFolder, PictureDamaged

FOLDER = "pictures"  # under the data root
THUMBNAIL = f".thumb{PICTURE}"
_DAMAGED = "the stored file of this picture is damaged, and there is no other copy of it: put the picture again"
_RETRY = 3_600  # seconds: somebody has to put the picture again
_ENOUGH_FILES = 20_000  # to estimate the size of all
_THREADS = 8  # contents written at a time: a disk makes the files of several durable as fast as those of one


class PictureFiles:
    """The files under one data root, by content hash. Safe for threads and processes."""

    def __init__(self, root: DataRoot) -> None:
        self._root = root

    def locate(self, content_sha256: str, *, thumbnail: bool = False) -> Path:
        """Return the path of the stored picture (at most 1,024 pixels a side) or its thumbnail (256)."""
        return self._root.locate(_name_file(content_sha256, THUMBNAIL if thumbnail else PICTURE))

    def list_contents(self, prefix: str) -> set[str]:
        """Return the names, without suffix, of files here or in the store whose content begins with two digits.

        Raise `StoreUnavailable`.
        """
        folder = self._root.locate(f"{FOLDER}/{prefix}")
        here = os.listdir(folder) if folder.is_dir() else ()
        there = (name.rpartition("/")[2] for name in self._root.list_stored(f"{FOLDER}/{prefix}"))
        return {name.removesuffix(PICTURE) for name in (*here, *there)}

    def read(self, content_sha256: str, *, thumbnail: bool = False) -> bytes:
        """Read the stored picture or its thumbnail; from the store if this machine lacks it, or has it damaged.

        Raise `FileNotFoundError` or `PictureDamaged`.
        """
        name = _name_file(content_sha256, THUMBNAIL if thumbnail else PICTURE)
        try:
            return _strip_checksum(self._root.open(name).read_bytes())
        except PictureDamaged:
            if not self._root.renew(name):
                raise
            return _strip_checksum(self._root.locate(name).read_bytes())

    def open_original(self, content_sha256: str) -> BinaryIO:
        """Open the original; raise `FileNotFoundError` when it was not kept, or `PictureDamaged`."""
        name = _name_file(content_sha256, ORIGINAL)
        path = self._root.open(name)
        if files.hash_file(path) != content_sha256 and not self._root.renew(name):
            raise PictureDamaged(_DAMAGED, retry_after_seconds=_RETRY)
        return path.open("rb")

    def list_local(self, content_sha256: str) -> Iterator[str]:
        """List the names of its files that are on this machine."""
        return (name for name in name_files(content_sha256) if self._root.locate(name).exists())

    def list_missing(self, content_sha256: str, original: bool) -> Iterator[str]:
        """List the names of its files that are not on this machine; the third one if the `original` was kept."""
        return (name for name in name_files(content_sha256, original) if not self._root.locate(name).exists())

    def is_whole(self, name: str, on_read: files.OnRead | None = None) -> bool:
        """Whether a local file is as it was written; one that was deleted meanwhile counts as whole.

        `on_read` is as in `files.hash_file`.
        """
        with suppress(FileNotFoundError):
            return is_whole(name, self._root.locate(name), on_read)
        return True

    def mend(self, name: str) -> str:
        """Replace a damaged local file from the store, or a thumbnail from its picture; return the source, or ""."""
        if self._root.renew(name):
            return "from the store"
        content, _, kind = Path(name).name.partition(".")
        if kind == "thumb.jpg":
            with suppress(FileNotFoundError, PictureDamaged):
                thumbnail = encode_thumbnail(read_rgb(self.read(content)))
                files.write_bytes(self._root.locate(name), files.append_checksum(thumbnail))
                return "from the stored picture"
        return ""

    def write(self, pictures: Iterable[tuple[str, Picture]]) -> None:
        """Write files that do not exist, locally and to the store, if any; durable when this returns.

        Raise the first error, when all others are written.
        """
        new = list(pictures)
        if len(new) == 1:
            self._write(*new[0])
        elif new:
            with ThreadPoolExecutor(min(len(new), _THREADS)) as threads:
                list(threads.map(self._write, *zip(*new, strict=True)))

    def write_locally(self, content: str, picture: Picture) -> None:
        """Write the files of one content on this machine alone; replace damaged ones."""
        self._write_except(content, picture, filter(self.is_whole, self.list_local(content)))

    def write_missing(self, content: str, picture: Picture) -> None:
        """Write the files of one content that are missing here; read nothing, and leave every existing file."""
        self._write_except(content, picture, self.list_local(content))

    def remove_from_store(self, content: str) -> None:
        """Remove the files from the store, if any; local copies are fetched first, so that `restore` can undo it."""
        for name in name_files(content) if self._root.has_store else ():
            with suppress(CorruptFolder):  # then there is nothing that could be uploaded again
                self._root.open(name)
            self._root.remove_from_store(name)

    def restore(self, content: str) -> None:
        """Put the local copies that are whole into the store again."""
        for name in filter(self.is_whole, self.list_local(content)):
            self._root.commit(name)

    def remove_locally(self, content: str) -> None:
        for name in name_files(content):
            self._root.locate(name).unlink(missing_ok=True)

    def _write_except(self, content: str, picture: Picture, names: Iterable[str]) -> None:
        """Write the files of a content on this machine, except these."""
        kept = {self._root.locate(name) for name in names}
        written = [(self.locate(content, thumbnail=True), picture.thumbnail), (self.locate(content), picture.stored)]
        if picture.original is not None:
            written.append((self._root.locate(_name_file(content, ORIGINAL)), picture.original))
        for path, data in written:
            if path not in kept:
                files.require_free(self._root.home, 2 * len(data))
                files.write_bytes(path, data if path.suffix == ORIGINAL else files.append_checksum(data))

    def _write(self, content: str, picture: Picture) -> None:
        """Write one content; once more if another process removed it meanwhile."""
        self.write_locally(content, picture)
        with suppress(FileNotFoundError):
            return self._commit(content)
        self.write_locally(content, picture)
        self._commit(content)

    def _commit(self, content: str) -> None:
        if self._root.has_store:
            for name in (_name_file(content, THUMBNAIL), _name_file(content, PICTURE)):
                self._root.commit(name)
            if self._root.locate(name := _name_file(content, ORIGINAL)).exists():
                self._root.commit(name)


def estimate_original_bytes(home: Path) -> int:
    """Estimate how many bytes the originals under a data root take; of many files, from some folders."""
    counted = found = 0
    folders = sorted((home / FOLDER).glob("*"))
    for looked_at, folder in enumerate(folders, 1):
        for path in folder.iterdir():
            counted += 1
            with suppress(FileNotFoundError):  # deleted meanwhile
                found += path.stat().st_size if path.suffix == ORIGINAL else 0
        if counted > _ENOUGH_FILES:
            return found * len(folders) // looked_at  # contents are spread evenly, by their hash
    return found


def _strip_checksum(data: bytes) -> bytes:
    """Return the picture in the data of a file; raise `PictureDamaged`."""
    try:
        return files.strip_checksum(data)
    except CorruptFolder as error:
        raise PictureDamaged(_DAMAGED, retry_after_seconds=_RETRY) from error


def name_files(content: str, original: bool = True) -> list[str]:
    """Return the names of a content's files in the data root; the third one if the `original` was kept."""
    return [_name_file(content, suffix) for suffix in (PICTURE, THUMBNAIL, ORIGINAL)[: 3 if original else 2]]


def _name_file(content: str, suffix: str) -> str:
    return f"{FOLDER}/{content[:2]}/{content}{suffix}"
