"""A file system in memory that loses with the power what was not made durable: `python -m … STORE MOUNTPOINT SEED`.

What is written to a file is durable after an fsync of the file, a name after an fsync of its folder; nothing else is,
as POSIX has it, though most file systems promise more. It begins with what is in the folder STORE, and when it is
unmounted it puts there what the disk would have after a power cut at that moment. With SEED 0 that is what is durable
and nothing more; with another one also some of the rest: writes to a file, each or its sectors, in any order, and the
changes of a folder up to one of them. `lasting()` is the only thing that decides this.
"""

import errno
import os
import random
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import mfusepy

_SECTORS = (512, 4096)
_BLOCK = 4096
_HIDDEN = ".fuse_hidden"  # how libfuse calls what was removed and is open
_numbers = count(1)


class Node:
    """A file or folder with its times."""

    kind = 0

    def __init__(self, mode: int) -> None:
        self.number, self.mode, self.links = next(_numbers), mode, 0
        self.changed = time.time_ns()

    size = 0

    def attributes(self) -> dict[str, int]:
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), self.changed)
        links = self.links if self.kind == stat.S_IFREG else 2
        facts = {"st_mode": self.kind | self.mode, "st_size": self.size, "st_nlink": links, "st_ino": self.number}
        return {**facts, **times, "st_uid": 0, "st_gid": 0, "st_blksize": _BLOCK, "st_blocks": -(-self.size // 512)}


class File(Node):
    """Its bytes, the durable ones, and what was written since: (offset, bytes), or (size, None) where it was cut."""

    kind = stat.S_IFREG

    def __init__(self, mode: int, data: bytes = b"") -> None:
        super().__init__(mode)
        self.data, self.durable = bytearray(data), bytearray(data)
        self.pending: list[tuple[int, bytes | None]] = []

    @property
    def size(self) -> int:  # type: ignore[override]
        return len(self.data)

    def change(self, offset: int, data: bytes | None) -> None:
        """Write, or cut; not durable yet."""
        _apply(self.data, offset, data)
        self.pending.append((offset, data))
        self.changed = time.time_ns()

    def sync(self) -> None:
        """Make what it holds durable."""
        for offset, data in self.pending:
            _apply(self.durable, offset, data)
        self.pending.clear()

    def lasting(self, draw: random.Random | None) -> bytes:
        """Return what the disk has of it when the power is cut."""
        kept = bytearray(self.durable)
        for offset, data in self.pending if draw else ():
            assert draw is not None
            if data is None:
                if draw.random() < 0.5:
                    _apply(kept, offset, None)
                continue
            for place, piece in _torn(offset, data, draw):
                _apply(kept, place, piece)
        return bytes(kept)


class Folder(Node):
    """Its entries, those that are durable, and the changes since, each of one name or of two together."""

    kind = stat.S_IFDIR

    def __init__(self, mode: int) -> None:
        super().__init__(mode)
        self.entries: dict[str, Node] = {}
        self.durable: dict[str, Node] = {}
        self.pending: list[dict[str, Node | None]] = []

    def change(self, **names: Node | None) -> None:
        """Give names to nodes, or take them away, at once; not durable yet."""
        _rename(self.entries, names)
        self.pending.append(names)
        self.changed = time.time_ns()

    def sync(self) -> None:
        """Its names are durable from now on."""
        self.durable = dict(self.entries)
        self.pending.clear()

    def lasting(self, draw: random.Random | None) -> dict[str, Node]:
        """Return the names that the disk has when the power is cut: changes become durable in order, or not at all."""
        kept = dict(self.durable)
        for names in self.pending[: draw.randint(0, len(self.pending))] if draw else ():
            _rename(kept, names)
        return {name: node for name, node in kept.items() if not name.startswith(_HIDDEN)}


class Forgetful(mfusepy.Operations):  # type: ignore[misc]
    """The file system; `mfusepy` calls it from one thread."""

    use_ns = True

    def __init__(self, root: Folder) -> None:
        self._root = root
        self._open: dict[int, Node] = {}

    def _find(self, path: str) -> Node:
        node: Node = self._root
        for name in path.split("/")[1:]:
            if name:
                entries = node.entries if isinstance(node, Folder) else {}
                if name not in entries:
                    raise mfusepy.FuseOSError(errno.ENOENT)
                node = entries[name]
        return node

    def _place(self, path: str) -> tuple[Folder, str]:
        parent, _, name = path.rpartition("/")
        folder = self._find(parent)
        if not isinstance(folder, Folder):
            raise mfusepy.FuseOSError(errno.ENOTDIR)
        return folder, name

    def _opened(self, node: Node) -> int:
        number = next(_numbers)
        self._open[number] = node
        return number

    def _file(self, fh: int | None, path: str) -> File:
        node = self._open[fh] if fh in self._open else self._find(path)
        if not isinstance(node, File):
            raise mfusepy.FuseOSError(errno.EISDIR)
        return node

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        return (self._open[fh] if fh in self._open else self._find(path)).attributes()

    def readdir(self, path: str, fh: int) -> list[str]:
        node = self._find(path)
        return [".", "..", *(node.entries if isinstance(node, Folder) else ())]

    def opendir(self, path: str) -> int:
        return self._opened(self._find(path))

    def open(self, path: str, flags: int) -> int:
        return self._opened(self._find(path))

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        file = File(stat.S_IMODE(mode))
        self._name(path, file)
        return self._opened(file)

    def mkdir(self, path: str, mode: int) -> int:
        self._name(path, Folder(stat.S_IMODE(mode)))
        return 0

    def link(self, target: str, source: str) -> int:
        if target.rpartition("/")[2] in self._place(target)[0].entries:
            raise mfusepy.FuseOSError(errno.EEXIST)
        self._name(target, self._find(source))
        return 0

    def _name(self, path: str, node: Node) -> None:
        folder, name = self._place(path)
        folder.change(**{name: node})
        node.links += 1

    def unlink(self, path: str) -> int:
        folder, name = self._place(path)
        self._find(path).links -= 1
        folder.change(**{name: None})
        return 0

    def rmdir(self, path: str) -> int:
        node = self._find(path)
        if isinstance(node, Folder) and node.entries:
            raise mfusepy.FuseOSError(errno.ENOTEMPTY)
        return self.unlink(path)

    def rename(self, old: str, new: str) -> int:
        node, (source, before), (target, after) = self._find(old), self._place(old), self._place(new)
        replaced = target.entries.get(after)
        if isinstance(replaced, Folder) and replaced.entries:
            raise mfusepy.FuseOSError(errno.ENOTEMPTY)
        if replaced is not None:
            replaced.links -= 1
        if source is target:
            source.change(**{before: None, after: node})
        else:
            target.change(**{after: node})
            source.change(**{before: None})
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return bytes(self._file(fh, path).data[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._file(fh, path).change(offset, bytes(data))
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        self._file(fh, path).change(length, None)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._file(fh, path).sync()
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        node = self._find(path)
        assert isinstance(node, Folder)
        node.sync()
        return 0

    def release(self, path: str, fh: int) -> int:
        self._open.pop(fh, None)
        return 0

    releasedir = release

    def chmod(self, path: str, mode: int) -> int:
        self._find(path).mode = stat.S_IMODE(mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        self._find(path).changed = times[1] if times else time.time_ns()
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        blocks = 1 << 22  # 16 GiB
        free = dict.fromkeys(("f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail"), blocks)
        return {**free, "f_bsize": _BLOCK, "f_frsize": _BLOCK, "f_namemax": 255}


def load(folder: Path) -> Folder:
    node = Folder(stat.S_IMODE(folder.stat().st_mode))
    for path in folder.iterdir():
        facts = path.stat()
        entry = load(path) if path.is_dir() else File(stat.S_IMODE(facts.st_mode), path.read_bytes())
        entry.links, entry.changed = 1, facts.st_mtime_ns
        node.entries[path.name] = entry
    node.sync()
    return node


def save(node: Folder, folder: Path, draw: random.Random | None) -> None:
    """Put there what the disk has of it when the power is cut."""
    folder.mkdir()
    for name, entry in node.lasting(draw).items():
        if isinstance(entry, Folder):
            save(entry, folder / name, draw)
        elif isinstance(entry, File):
            (folder / name).write_bytes(entry.lasting(draw))
            (folder / name).chmod(entry.mode)
            os.utime(folder / name, ns=(entry.changed, entry.changed))


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    size = offset if data is None else offset + len(data)
    if len(content) < size:
        content.extend(bytes(size - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset:size] = data


def _rename(entries: dict[str, Node], names: dict[str, Node | None]) -> None:
    for name, node in names.items():
        entries.pop(name, None)
        if node is not None:
            entries[name] = node


def _torn(offset: int, data: bytes, draw: random.Random) -> Iterator[tuple[int, bytes]]:
    """Yield of a write nothing, all, or some of its sectors, whose borders are those of the file."""
    if draw.random() < 0.5:
        if draw.random() < 0.5:
            yield offset, data
        return
    sector = draw.choice(_SECTORS)
    begin = offset
    while begin < offset + len(data):
        end = min((begin // sector + 1) * sector, offset + len(data))
        if draw.random() < 0.5:
            yield begin, data[begin - offset : end - offset]
        begin = end


def main(store: str, mountpoint: str, seed: str) -> int:
    """Serve the file system until it is unmounted."""
    folder, root = Path(store), load(Path(store))
    mfusepy.FUSE(Forgetful(root), mountpoint, foreground=True, nothreads=True, use_ino=True, kernel_cache=True)
    shutil.rmtree(folder)
    save(root, folder, random.Random(int(seed)) if int(seed) else None)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
