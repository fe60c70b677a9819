"""What a scrub found damaged, as it is kept in the data root. Reads nothing else; imports no NumPy."""

import json
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

from store import files
from store.data_root import DataRoot

Kind = Literal["segment", "version", "picture", "dataset", "vector", "caption", "match", "registry"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NAMED = 100  # things that a report names: a disk that dies would make it as large as the gallery
_REPORT, _ID = "scrub.json", "scrub.id"  # in the data root; not shared with other machines


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was written; `mended` says from what or how, and is empty if it was not.

    `name` is for an operator: it names files and ids, never what a caption says.
    """

    kind: Kind
    name: str
    mended: str = ""


@dataclass
class Report:
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
        """Count one more thing, and name it if not many were before."""
        for counts in (self.found,) if each.mended else (self.found, self.unmended):
            counts[each.kind] = counts.get(each.kind, 0) + 1
        if (self.mended if each.mended else self.left) <= NAMED:
            self.damaged.append(each)

    @property
    def left(self) -> int:
        """How many things could not be mended."""
        return sum(self.unmended.values())

    @property
    def mended(self) -> int:
        """How many were."""
        return sum(self.found.values()) - self.left


def last(root: DataRoot) -> Report | None:
    """The report of the last scrub that finished; None before the first."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        told = json.loads(root.path(_REPORT).read_bytes())
        return Report(**{**told, "damaged": [Damage(**each) for each in told["damaged"]]})
    return None


def left(root: DataRoot) -> list[Damage]:
    """What the last scrub could not mend, as far as it is named."""
    report = last(root)
    return [] if report is None else [each for each in report.damaged if not each.mended]


def sentences(root: DataRoot) -> list[str]:
    """Describe in a sentence each what could not be mended, and how much more there is."""
    report, named = last(root), left(root)
    more = report.left - len(named) if report else 0
    return [*(f"Damaged: {each.name}." for each in named), *([f"Damaged: {more} more."] if more > 0 else [])]


def duty_of(root: DataRoot) -> str:
    """The name of the duty to scrub this data root, whichever process of whichever machine does it."""
    path = root.path(_ID)
    if not path.exists():
        files.write_once(path, secrets.token_hex(8).encode())
    return f"scrub {path.read_text('ascii', 'backslashreplace')}"


def keep(root: DataRoot, report: Report) -> None:
    """Keep a report in place of the one before."""
    files.write_json(root.path(_REPORT), asdict(report))
