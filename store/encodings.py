"""Which encodings made the vectors of this data root: the newest one serves. Knows only their names."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.database import Database
from store.leases import Lease, held
from store.tables import EncodingRow

TORCH, OPENVINO = "torch", "openvino"
FLOAT32, BFLOAT16 = "float32", "bfloat16"


@dataclass(frozen=True)
class Encoding:
    """What computes vectors, besides the weights: `torch` or `openvino`, in `float32` or `bfloat16`."""

    backend: str
    precision: str

    def fingerprint(self, weights: str) -> str:
        """The hex hash of vectors that a tower with the fingerprint `weights` gives."""
        return hashlib.sha256(f"{weights} {self.backend} {self.precision}".encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.backend} in {self.precision}"


FIRST = Encoding(TORCH, FLOAT32)


@dataclass(frozen=True)
class RecordedEncoding:
    """What computes the vectors from this record on; `reason` says why it is not what `auto` wanted, if so."""

    number: int
    backend: str
    precision: str
    reason: str
    created_at: datetime


class Encodings:
    """The encodings of a registry, oldest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def current(self) -> RecordedEncoding | None:
        """The newest; None in a registry that no process opened with a base yet."""
        with self._database.read() as session:
            row = _newest(session)
            return None if row is None else row.to_dataclass(RecordedEncoding)

    def first(self, backend: str, precision: str, reason: str = "") -> RecordedEncoding:
        """Record the encoding of a new data root, unless another process did; returns the current one."""
        with self._database.begin() as session:
            return (_newest(session) or _add(session, 1, backend, precision, reason)).to_dataclass(RecordedEncoding)

    def change(self, backend: str, precision: str, lease: Lease, release: int) -> RecordedEncoding:
        """Record that the vectors of another encoding are complete: every later start uses these. Raises LeaseLost.

        With `release`, which serves now, the expansion counts as succeeded, whatever happens after this.
        """
        with self._database.begin() as session:
            held(session, lease.expansion, lease.fence).release = release
            newest = _newest(session)
            if newest is not None and (newest.backend, newest.precision) == (backend, precision):
                return newest.to_dataclass(RecordedEncoding)
            return _add(session, newest.number + 1 if newest else 1, backend, precision).to_dataclass(RecordedEncoding)


def _newest(session: Session) -> EncodingRow | None:
    return session.scalars(select(EncodingRow).order_by(EncodingRow.number.desc()).limit(1)).first()


def _add(session: Session, number: int, backend: str, precision: str, reason: str = "") -> EncodingRow:
    row = EncodingRow(number=number, backend=backend, precision=precision, reason=reason)
    session.add(row)
    session.flush()
    return row
