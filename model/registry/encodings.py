"""Which encodings made the vectors of this data root: the newest one serves. Knows only their names."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from model.registry.database import Database
from model.registry.tables import EncodingRow


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
            row = session.scalars(select(EncodingRow).order_by(EncodingRow.number.desc()).limit(1)).first()
            return None if row is None else _record(row)

    def first(self, backend: str, precision: str, reason: str = "") -> RecordedEncoding:
        """Record the encoding of a new data root, unless another process did; returns the current one."""
        return self._add(backend, precision, reason, only_first=True)

    def change(self, backend: str, precision: str) -> RecordedEncoding:
        """Record that the vectors of another encoding are whole: every later start uses these."""
        return self._add(backend, precision, "", only_first=False)

    def _add(self, backend: str, precision: str, reason: str, *, only_first: bool) -> RecordedEncoding:
        with self._database.begin() as session:
            newest = session.scalars(select(EncodingRow).order_by(EncodingRow.number.desc()).limit(1)).first()
            same = newest is not None and (newest.backend, newest.precision) == (backend, precision)
            if newest is not None and (only_first or same):
                return _record(newest)
            row = EncodingRow(
                number=1 if newest is None else newest.number + 1, backend=backend, precision=precision, reason=reason
            )
            session.add(row)
            session.flush()
            return _record(row)


def _record(row: EncodingRow) -> RecordedEncoding:
    return RecordedEncoding(row.number, row.backend, row.precision, row.reason, row.created_at)
