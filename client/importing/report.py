"""What an import did, counted and in lines. Sends nothing."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ..output import format_count, note
from .items import SkippedPart, SkipReason

_EXAMPLES, _KINDS, _LINES = 3, 5, 100  # names, kinds of what was skipped, and lines of faults


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
            note(line)

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
        """Return the report for programs."""
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
