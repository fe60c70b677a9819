"""What a scrub found damaged, as it is kept in the data root. Reads nothing else; imports no NumPy."""

import json
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Literal

from model import storage
from model.data_root import DataRoot

Kind = Literal["segment", "version", "picture", "dataset", "vector", "caption", "calibration", "registry"]
KINDS: tuple[Kind, ...] = ("segment", "version", "picture", "dataset", "vector", "caption", "calibration", "registry")
_REPORT, _ID = "scrub.json", "scrub.id"  # in the data root; not shared with other machines


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was written; `mended` says from what it was made again, and is empty if it was not.

    `name` is for an operator: it names files and ids, never what a caption says.
    """

    kind: Kind
    name: str
    mended: str = ""


@dataclass(frozen=True)
class Report:
    """What the last scrub of a data root found; times are seconds since 1970."""

    began: float
    finished: float
    files: int
    bytes: int
    damaged: tuple[Damage, ...]

    @property
    def left(self) -> list[Damage]:
        """What could not be mended."""
        return [each for each in self.damaged if not each.mended]


def last(root: DataRoot) -> Report | None:
    """The report of the last scrub that finished; None before the first."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        told = json.loads(root.path(_REPORT).read_bytes())
        return Report(**{**told, "damaged": tuple(Damage(**each) for each in told["damaged"])})
    return None


def left(root: DataRoot) -> list[Damage]:
    """What the last scrub could not mend."""
    report = last(root)
    return [] if report is None else report.left


def duty_of(root: DataRoot) -> str:
    """The name of the duty to scrub this data root, whichever process of whichever machine does it."""
    path = root.path(_ID)
    storage.write_once(path, secrets.token_hex(8).encode())
    return f"scrub {path.read_text()}"


def keep(root: DataRoot, report: Report) -> None:
    """Keep a report in place of the one before."""
    storage.write_json(root.path(_REPORT), asdict(report))
