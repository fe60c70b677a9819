"""Which encodings made the vectors of this data root, and from which release on. Knows only their names."""

import hashlib
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.database import Database
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
    """What computes the vectors from `release` on; `reason` says why it is not what `auto` wanted, if so."""

    number: int
    release: int
    backend: str
    precision: str
    reason: str


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
            row = _newest(session) or _add(session, Encoding(backend, precision), 1, reason)
            return row.to_dataclass(RecordedEncoding)


def encoding_of(session: Session, release: int) -> Encoding | None:
    """Return what made the vectors that a release serves; None where no process has opened a base yet."""
    row = _newest(session, release)
    return None if row is None else Encoding(row.backend, row.precision)


def serve_encoding(session: Session, encoding: Encoding | None, release: int) -> None:
    """Record that this encoding makes the vectors from a new release on, unless it does already."""
    if encoding is not None and encoding != encoding_of(session, release):
        _add(session, encoding, release)


def _newest(session: Session, release: int | None = None) -> EncodingRow | None:
    query = select(EncodingRow).order_by(EncodingRow.number.desc()).limit(1)
    return session.scalars(query if release is None else query.where(EncodingRow.release <= release)).first()


def _add(session: Session, encoding: Encoding, release: int, reason: str = "") -> EncodingRow:
    newest = _newest(session)
    row = EncodingRow(
        number=newest.number + 1 if newest else 1,
        release=release,
        backend=encoding.backend,
        precision=encoding.precision,
        reason=reason,
    )
    session.add(row)
    session.flush()
    return row
