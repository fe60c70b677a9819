"""Report of a scrub, as it is kept in the data root. Imports no NumPy."""

import json
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

from store import files
from store.data_root import DataRoot

Kind = Literal["segment", "version", "picture", "dataset", "vector", "caption", "registry"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NAMED = 100  # things that a report names: a disk that dies would make it as large as the gallery
_REPORT, _ID = "scrub.json", "scrub.id"  # in the data root; not shared with other machines


@dataclass(frozen=True)
class Damage:
    """Something that is not as it was written; `mended` says from what or how, and is empty if it was not.

    `name` is for an operator: it names files and ids, never what a caption says.
    """

    kind: Kind
    name: str
    mended: str = ""


@dataclass
class ScrubReport:
    """What the last scrub of a data root found; times are seconds since 1970.

    `found` and `unmended` count by kind; `damaged` are the first hundred that were mended, and that were not.
    """

    began: float
    finished: float
    files: int
    bytes: int
    damaged: list[Damage] = field(default_factory=list)
    found: dict[str, int] = field(default_factory=dict)
    unmended: dict[str, int] = field(default_factory=dict)

    def add(self, each: Damage) -> None:
        """Count one more damage, and name it if not many were before."""
        for counts in (self.found,) if each.mended else (self.found, self.unmended):
            counts[each.kind] = counts.get(each.kind, 0) + 1
        if (self.mended_count if each.mended else self.unmended_count) <= NAMED:
            self.damaged.append(each)

    @property
    def unmended_count(self) -> int:
        return sum(self.unmended.values())

    @property
    def mended_count(self) -> int:
        return sum(self.found.values()) - self.unmended_count


def load_report(root: DataRoot) -> ScrubReport | None:
    """Load the report of the last scrub that finished; None before the first."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        content = json.loads(root.locate(_REPORT).read_bytes())
        return ScrubReport(**{**content, "damaged": [Damage(**each) for each in content["damaged"]]})
    return None


def list_unmended(root: DataRoot) -> list[Damage]:
    """List what the last scrub could not mend, as far as it is named."""
    report = load_report(root)
    return [] if report is None else [each for each in report.damaged if not each.mended]


def describe_unmended(root: DataRoot) -> list[str]:
    """Describe in a sentence each what could not be mended, and how much more there is."""
    report, named = load_report(root), list_unmended(root)
    more = report.unmended_count - len(named) if report else 0
    return [*(f"Damaged: {each.name}." for each in named), *([f"Damaged: {more} more."] if more > 0 else [])]


def name_duty(root: DataRoot) -> str:
    """Name the duty to scrub this data root, whichever process of whichever machine does it."""
    path = root.locate(_ID)
    if not path.exists():
        files.write_once(path, secrets.token_hex(8).encode())
    return f"scrub {path.read_text('ascii', 'backslashreplace')}"


def save_report(root: DataRoot, report: ScrubReport) -> None:
    """Keep a report in place of the one before."""
    files.write_json(root.locate(_REPORT), asdict(report))
