"""What an import did, counted and in lines; and what it has sent before, which any later import can do without.

One SQLite file for each source and service saves reading files again, and knows what vanished. What is in the gallery,
the service is asked.
"""

import fcntl
import hashlib
import json
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..terminal import format_count, warn
from . import SkippedPart, SkipReason, Stamp, StateError

_EXAMPLES, _KINDS, _LINES = 3, 5, 100  # names, kinds of what was skipped, and lines of faults
_TABLES = """
CREATE TABLE IF NOT EXISTS known (
    place TEXT PRIMARY KEY, id TEXT NOT NULL, size INTEGER, changed INTEGER, sha256 TEXT NOT NULL, record TEXT NOT NULL,
    reader TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS known_ids ON known (id);
CREATE TEMP TABLE seen (place TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE taken (id TEXT PRIMARY KEY, place TEXT NOT NULL) WITHOUT ROWID;
CREATE TEMP TABLE unlisted (place TEXT PRIMARY KEY) WITHOUT ROWID;
"""


@dataclass
class Report:
    """What one run did, or a watch since its last line. It lists the ids of what was added only with `list_added`."""

    list_added: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    added: list[dict[str, str]] = field(default_factory=list)
    same: list[dict[str, str]] = field(default_factory=list)  # of the bytes of another picture
    refused: list[dict[str, str]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # files that are no pictures, by their kinds
    vanished: list[str] = field(default_factory=list)
    deleted_in_gallery: list[str] = field(default_factory=list)  # and not sent again
    unseen: list[str] = field(default_factory=list)  # places below which something may still be there

    def count_outcome(self, place: str, id: str, kind: str, reason: str, same_as: str = "") -> None:
        """Count an item that was looked at; `same_as` is another picture with its bytes."""
        self.counts[kind] += 1
        if same_as:
            self.same.append({"file": place, "id": id, "already_there_as": same_as})
        if kind == "refused":
            self.refused.append({"file": place, "reason": reason})
        elif kind == "gone":
            self.deleted_in_gallery.append(place)
        elif kind != "there" and self.list_added:
            self.added.append({"id": id, "file": place, "outcome": kind})

    def count_skipped(self, part: SkippedPart) -> None:
        """Count something that is no item."""
        if part.hides is not None and part.place not in self.unseen:
            self.unseen.append(part.place)
        if part.reason is SkipReason.UNUSABLE:
            self.count_outcome(part.place, "", "refused", part.sentence)
        elif part.reason is not SkipReason.EMPTY:
            is_hidden = part.reason is SkipReason.HIDDEN
            self.skipped["hidden" if is_hidden else PurePosixPath(part.place).suffix.lower() or "without suffix"] += 1

    def sum(self, *outcomes: str) -> int:
        """Return how many pictures had one of these outcomes."""
        return sum(self.counts[kind] for kind in outcomes)

    @property
    def usable(self) -> int:
        """How many pictures could be used."""
        return self.sum("added", "replaced", "changed", "there", "gone")

    @property
    def sent(self) -> int:
        """How many pictures the gallery has now otherwise than before."""
        return self.sum("added", "replaced", "changed")

    def print_faults(self, dry_run: bool, delete: bool) -> None:
        """Print what is for people to look at: a line for each fault, and for each kind of what was skipped."""
        for line in self._list_faults(dry_run, delete):
            warn(line)

    def _list_faults(self, dry_run: bool, delete: bool) -> Iterator[str]:
        for each in self.refused[:_LINES]:
            yield f"{each['file']}: {each['reason']}"
        if len(self.refused) > _LINES:
            yield f"… and {len(self.refused) - _LINES:,} more; --json lists all."
        for each in self.same[:_LINES]:
            yield f"{each['file']}: already there as {each['already_there_as']}; it is in the gallery twice now."
        if len(self.same) > _LINES:
            yield f"… and {len(self.same) - _LINES:,} more that are there twice; --json lists all."
        if count := self.skipped.total():
            kinds = ", ".join(f"{number:,} {kind}" for kind, number in self.skipped.most_common(_KINDS))
            more = ", …" if len(self.skipped) > _KINDS else ""
            yield f"{format_count(count, 'other file was', 'other files were')} skipped: {kinds}{more}"
        if count := len(self.deleted_in_gallery):
            gone = f"{format_count(count, 'picture was', 'pictures were')} deleted in the gallery"
            yield f"{gone}; --again sends {'it' if count == 1 else 'them'}: {list_some(self.deleted_in_gallery)}"
        if self.unseen:
            yield f"Not everything could be seen: {list_some(self.unseen)}. What was there before is not deleted."
        if count := len(self.vanished):
            were, stay, them = ("was", "stays", "it") if count == 1 else ("were", "stay", "them")
            stays = f"vanished, and {stay} in the gallery; --delete removes {them}"
            what = f"{'would be' if dry_run else were} deleted" if delete else stays
            yield f"{format_count(count, 'picture')} {what}: {list_some(self.vanished)}"

    def summarize(self, dry_run: bool) -> str:
        """Return the last line, for standard output."""
        there, usable = self.counts["there"], self.usable
        pictures = format_count(usable + self.counts["refused"], "picture")
        parts = [f"{format_count(there, 'was', 'were')} there before"] if there else []
        parts += [f"{self.counts['replaced']:,} replaced"] if self.counts["replaced"] else []
        parts += [f"{self.counts['changed']:,} with a changed record"] if self.counts["changed"] else []
        more = "".join(f"; {part}" for part in parts)
        if dry_run:
            refused = f"; {self.counts['refused']:,} would be refused" if self.counts["refused"] else ""
            return f"{self.sent:,} of {pictures} would be sent or changed{more}{refused}. Nothing was."
        kept = usable - len(self.deleted_in_gallery)
        return f"{kept:,} of {pictures} {'is' if kept == 1 else 'are'} in the gallery{more}."

    def as_json(self) -> dict[str, Any]:
        return {
            "added": self.added,
            "there": self.counts["there"],
            "same": self.same,
            "refused": self.refused,
            "skipped": self.skipped,
            "gone": self.deleted_in_gallery,
            "vanished": self.vanished,
            "deleted": self.counts["deleted"],
        }


def list_some(places: list[str]) -> str:
    """Return the first ones, in one text."""
    return ", ".join(places[:_EXAMPLES]) + (", …" if len(places) > _EXAMPLES else "")


class SentRecord(NamedTuple):
    """What was sent last of a place: hashes of content and record, and the version that read the file's metadata."""

    place: str
    id: str
    stamp: Stamp | None
    sha256: str
    record: str
    reader: str


class State:
    """The record of what one source sent, safe for threads; `open_state` opens it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def find_sent(self, places: Sequence[str]) -> dict[str, SentRecord]:
        """Return what was sent before of these places."""
        query = "SELECT * FROM known WHERE place IN (SELECT value FROM json_each(?))"
        return {row[0]: _read_row(row) for row in self._run(query, json.dumps(list(places)))}

    def save(self, records: Iterable[SentRecord]) -> None:
        """Remember what was sent: when this returns, a kill loses nothing of it."""
        rows = [(k.place, k.id, *(k.stamp or (None, None)), k.sha256, k.record, k.reader) for k in records]
        with self._lock, self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def remove(self, place: str) -> None:
        """Remove a place that has nothing in the gallery any more."""
        self._run("DELETE FROM known WHERE place = ?", place)

    def begin(self) -> None:
        """Begin a run, in which nothing was seen yet."""
        for table in ("seen", "taken", "unlisted"):
            self._run(f"DELETE FROM {table}")  # noqa: S608 - of these three

    def see(self, place: str) -> None:
        """Note that this run has seen a place."""
        self._run("INSERT OR IGNORE INTO seen VALUES (?)", place)

    def take(self, place: str, id: str, twin: str) -> str | None:
        """Return the id of a place in this run: that of before, `id`, or `twin`; None when other places have them."""
        self.see(place)
        before: list[str] = [id for (id,) in self._run("SELECT id FROM known WHERE place = ?", place)]
        if before and before[0] in (id, twin):
            choice = before
        else:  # a file that was moved has the id of where it was
            others = self._run("SELECT 1 FROM known WHERE id = ? AND place <> ?", id, place)
            choice = [twin or id] if others else [id, twin]
        for each in filter(None, choice):
            self._run("INSERT OR IGNORE INTO taken VALUES (?, ?)", each, place)
            if self._run("SELECT place FROM taken WHERE id = ?", each) == [(place,)]:
                return each
        return None

    def hide_below(self, place: str) -> None:
        """Note that what is below this place may still be there."""
        self._run("INSERT OR IGNORE INTO unlisted VALUES (?)", place)

    def has_below(self, place: str) -> bool:
        """Whether anything below this place was sent before."""
        return bool(self._run("SELECT 1 FROM known WHERE substr(place, 1, length(?1) + 1) = ?1 || '/' LIMIT 1", place))

    def list_vanished(self, below: Sequence[str] | None = None) -> Iterator[SentRecord]:
        """Yield what was sent before and not seen in this run: of the whole source, or at these places and below."""
        query = (
            "SELECT * FROM known WHERE place NOT IN (SELECT place FROM seen) AND id NOT IN (SELECT id FROM taken) AND "
            "NOT EXISTS (SELECT 1 FROM unlisted u WHERE u.place = '' OR substr(known.place, 1, length(u.place) + 1) = "
            "u.place || '/') ORDER BY place"
        )
        for row in self._run(query):
            if below is None or any(row[0] == place or row[0].startswith(f"{place}/") for place in below):
                yield _read_row(row)

    def _run(self, statement: str, *values: str) -> list[Any]:
        with self._lock, self._connection:
            return self._connection.execute(statement, values).fetchall()


@contextmanager
def open_state(folder: Path | None, service: str, source: str) -> Iterator[State]:
    """Open the state of a source and a service, below `folder` (default: the user's state folder).

    Raises `StateError`, also while another process imports the same source.
    """
    home = Path(os.environ.get("XDG_STATE_HOME", ""))  # as the XDG base directory specification has it
    home = home if home.is_absolute() else Path.home() / ".local" / "state"
    folder = folder or home / "pictoglot" / "imports"
    stem = Path(source.rstrip("/")).name or "source"
    digest = hashlib.sha256(f"{service}\n{source}".encode()).hexdigest()[:16]
    file = folder / f"{stem[:60]}-{digest}.db"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StateError(f"{folder} cannot be written ({error.strerror}); name another folder with --state.") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateError(f"Another import of {source} into this service runs: wait for it, or stop it.") from None
        connection = sqlite3.connect(file, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_TABLES)
            yield State(connection)
        except sqlite3.DatabaseError as error:
            raise StateError(
                f"{file} is damaged ({error}). Remove it and import again: what is in the gallery is found there."
            ) from error
        finally:
            with suppress(sqlite3.Error):
                connection.close()
    finally:
        os.close(lock)


def _read_row(row: tuple[str, str, int | None, int | None, str, str, str]) -> SentRecord:
    place, id, size, changed, *hashes = row
    return SentRecord(place, id, None if size is None or changed is None else Stamp(size, changed), *hashes)
