"""The files of a data root in a backup: linked or copied, each with its sha256, whoever removes files meanwhile.

A file that cannot change any more is linked, where data root and backup are on one file system. Others, and all of them
elsewhere, are copied once, and linked to the backup before while they stay the same. Each day some of these links are
read and compared.
"""

import os
import shutil
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from index.picture_files import FOLDER as PICTURES
from store import files
from store.data_root import DataRoot
from store.errors import CorruptFolder
from store.files import TEMPORARY
from store.settings import CommonSettings

HOME = "home"  # the files of the data root, in a backup
LEFT_OUT = ("verified", "compiled", "teacher", "uploads")  # folders of the data root that are made again
_UNCHANGED = (PICTURES, "segments", "versions")  # folders whose files are never written to again
_DAYS = 14  # as many as backups are kept
_SQLITE = ("", "-wal", "-shm", "-journal")


@dataclass
class Copier:
    """Fills the folder `staged`; `earlier` is the backup before, whose files are linked while they stay the same."""

    settings: CommonSettings
    staged: Path
    earlier: Path | None
    known: Mapping[str, Mapping[str, Any]]  # files of the backup before, as in its manifest
    files: dict[str, dict[str, Any]] = field(default_factory=dict)  # as in the manifest
    new_bytes: int = 0  # that the backup before has not
    damaged: list[str] = field(
        default_factory=list
    )  # files of the data root that nobody has changed, and are otherwise

    def copy_all(self) -> None:
        """Copy what is there, but temporary files and what is left out; called again, add what came meanwhile."""
        home, gone = self.settings.home, set[Path]()
        database = Path(str(make_url(self.settings.database).database)).absolute()
        registry = {database.with_name(f"{database.name}{suffix}") for suffix in _SQLITE}

        def pass_over(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise error
            gone.add(Path(error.filename))

        for parent, folders, names in os.walk(home, onerror=pass_over, followlinks=True):
            here = Path(parent)
            left_out = LEFT_OUT if here == home else ()
            folders[:] = [name for name in folders if not name.startswith(TEMPORARY) and name not in left_out]
            for name in names:
                if name.startswith(TEMPORARY) or here / name in registry:
                    continue
                try:
                    self._copy(here / name, (here / name).relative_to(home).as_posix())
                except FileNotFoundError:
                    gone.add(here)
        for folder in gone:
            if not folder.exists():  # removed as a whole, and perhaps copied in part
                while not folder.parent.exists():
                    folder = folder.parent
                self._drop(folder.relative_to(home).as_posix())

    def ensure(self, name: str) -> bool:
        """Return whether a file or folder of the data root is in the backup; takes it from the store if it is there."""
        path, found = self.staged / HOME / name, self._find_before(name)
        if f"{HOME}/{name}" in self.files or path.is_dir():
            return True
        if not self.settings.store:
            return False
        if found is not None:
            for file in _list_files(found):
                self._copy(file, f"{name}{file.as_posix().removeprefix(found.as_posix())}")
            return True
        with suppress(CorruptFolder):
            DataRoot(self.staged / HOME, self.settings.store).open(name)
            for file in _list_files(path) if path.exists() else ():
                self.note_file(file.relative_to(self.staged).as_posix())
        return path.exists()

    def note_file(self, key: str, sha256: str = "", modified: int | None = None) -> None:
        """Enter a file of the backup in the manifest; one without a known sha256 is new."""
        path = self.staged / key
        facts = path.stat()
        self.new_bytes += 0 if sha256 else facts.st_size
        self.files[key] = {
            "sha256": sha256 or _hash(path),
            "size": facts.st_size,
            "modified": facts.st_mtime_ns if modified is None else modified,  # nanoseconds
        }

    def _copy(self, source: Path, name: str) -> None:
        key, facts = f"{HOME}/{name}", source.stat()
        if _is_same(self.files.get(key), facts):
            return
        target, before, sha256 = self.staged / key, self._find_before(name), ""
        known = None if before is None else self.known.get(key)
        if known is not None and (
            _is_same(known, facts)
            or (known["size"] == facts.st_size and files.hash_file(source) == known["sha256"])  # written again
        ):
            sha256 = known["sha256"]
        target.unlink(missing_ok=True)
        is_link = place_file(name, source, target, before if sha256 else None)
        if is_link and sha256 and self._is_due(key) and _hash(target) != sha256:
            target.unlink()  # linked from one backup to the next, it would be damaged in all of them
            shutil.copy2(source, target)
            is_link = False
        self.note_file(key, sha256 if is_link else "", facts.st_mtime_ns)
        if sha256 and self.files[key]["sha256"] != sha256:
            self.damaged.append(name)
            self.files[key]["sha256"] = sha256  # `verify` then says it, too

    @staticmethod
    def _is_due(key: str) -> bool:
        """Tell whether a file that nobody has changed is read today: each is, once in so many days."""
        return zlib.crc32(key.encode()) % _DAYS == int(time.time() // 86_400) % _DAYS

    def _find_before(self, name: str) -> Path | None:
        """Return the path of a file or folder in the backup before, if it is there."""
        path = None if self.earlier is None else self.earlier / HOME / name
        return path if path is not None and path.exists() else None

    def _drop(self, name: str) -> None:
        prefix = f"{HOME}/{name}"
        shutil.rmtree(self.staged / prefix, ignore_errors=True)
        for key in [key for key in self.files if key.startswith(f"{prefix}/")]:
            del self.files[key]


def _hash(path: Path) -> str:
    return files.hash_file(path, lambda _: None)  # searches need the page cache


def _is_same(known: Mapping[str, Any] | None, facts: os.stat_result) -> bool:
    return known is not None and (known["size"], known["modified"]) == (facts.st_size, facts.st_mtime_ns)


def _list_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def place_file(name: str, source: Path, target: Path, before: Path | None = None) -> bool:
    """Put a file of the data root at `target`, as a link where possible; returns whether it is one.

    A file that may be written to again is linked to `before` alone.
    """
    files.make_folder(target.parent)
    for way in (source if name.partition("/")[0] in _UNCHANGED else None, before):
        with suppress(OSError):  # another file system, or one without links
            if way is not None:
                os.link(way, target)
                return True
    shutil.copy2(source, target)
    return False
