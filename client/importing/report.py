"""What an import did, counted and in lines. Sends nothing."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..output import are, counted, note, them, were
from .intake import Outcome
from .items import Left, Why

_EXAMPLES, _LINES = 3, 100  # names of what was left out, and lines of each kind of fault


@dataclass
class Report:
    """Of one run, or of all that a watch did. Only with `whole` are the ids of what was added kept."""

    whole: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    added: list[dict[str, str]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    left: dict[Why, list[str]] = field(default_factory=dict)  # the first of each kind
    vanished: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)  # deleted in the gallery, and not sent again
    unseen: list[str] = field(default_factory=list)  # places below which something may still be there

    def take(self, outcome: Outcome) -> None:
        """An item that was looked at."""
        self.counts[outcome.what] += 1
        if outcome.what == "refused":
            self.refused.append({"file": outcome.place, "reason": outcome.reason})
        elif outcome.what == "gone":
            self.gone.append(outcome.place)
        elif outcome.what != "there" and self.whole:
            self.added.append({"id": outcome.id, "file": outcome.place, "outcome": outcome.what})

    def leave(self, left: Left) -> None:
        """Something that is no item."""
        if left.hides is not None and left.place not in self.unseen:
            self.unseen.append(left.place)
        if left.why in (Why.HIDDEN, Why.FORMAT, Why.OTHER):
            self.counts[left.why.value] += 1
            if len(first := self.left.setdefault(left.why, [])) < _EXAMPLES:
                first.append(left.place)
        elif left.is_fault:
            self.counts["refused"] += 1
            self.refused.append({"file": left.place, "reason": left.reason})

    @property
    def items(self) -> int:
        """How many pictures there were."""
        return sum(self.counts[what] for what in ("added", "replaced", "changed", "there", "gone", "refused"))

    @property
    def usable(self) -> int:
        """How many of them could be used."""
        return self.items - self.counts["refused"]

    @property
    def sent(self) -> int:
        """How many of them the gallery has now otherwise than before."""
        return sum(self.counts[what] for what in ("added", "replaced", "changed"))

    def lines(self, dry_run: bool, deleted: bool) -> Iterator[str]:
        """What is told on standard error: a line for each fault, and for each kind of what was left out."""
        for each in self.refused[:_LINES]:
            yield f"{each['file']}: {each['reason']}"
        if len(self.refused) > _LINES:
            yield f"… and {len(self.refused) - _LINES:,} more; --json has all."
        for why, examples in self.left.items():
            more = "" if self.counts[why.value] <= len(examples) else ", …"
            count = self.counts[why.value]
            yield f"{why.of(count)} {were(count)} left out: {', '.join(examples)}{more}"
        if count := len(self.gone):
            gone = f"{counted(count, 'picture')} {were(count)} deleted in the gallery"
            yield f"{gone}; --again sends {them(count)}: {few(self.gone)}"
        if self.unseen:
            kept = "What was there before is neither told as vanished nor deleted."
            yield f"Not all was seen: {few(self.unseen)}. {kept}"
        if count := len(self.vanished):
            stays = f"vanished, and {'stays' if count == 1 else 'stay'} in the gallery; --delete removes {them(count)}"
            what = f"{'would be' if dry_run else were(count)} deleted" if deleted else stays
            yield f"{counted(count, 'picture')} {what}: {few(self.vanished)}"

    def sentence(self, dry_run: bool) -> str:
        """The last line, on standard output."""
        there, of = self.counts["there"], self.items
        parts = [f"{there:,} {were(there)} there before"] if there else []
        parts += [f"{self.counts['replaced']:,} replaced"] if self.counts["replaced"] else []
        parts += [f"{self.counts['changed']:,} with a changed record"] if self.counts["changed"] else []
        more = "".join(f"; {part}" for part in parts)
        if dry_run:
            return f"{self.sent:,} of {counted(of, 'picture')} would be sent or changed{more}. Nothing was."
        usable = self.usable - len(self.gone)
        return f"{usable:,} of {counted(of, 'picture')} {are(usable)} in the gallery{more}."

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "added": self.added,
            "there": self.counts["there"],
            "refused": self.refused,
            "left_out": {why.value: self.counts[why.value] for why in self.left},
            "gone": self.gone,
            "vanished": self.vanished,
            "deleted": self.counts["deleted"],
        }


def few(places: list[str]) -> str:
    """The first ones, in one text."""
    return ", ".join(places[:_EXAMPLES]) + (", …" if len(places) > _EXAMPLES else "")


def told(report: Report, dry_run: bool, deleted: bool) -> None:
    """Print the lines."""
    for line in report.lines(dry_run, deleted):
        note(line)
