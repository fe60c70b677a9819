"""Calibrations: how the chances of hits are told of a language as a version reads it. Measures nothing.

A version never changes, but the gallery does: these are measured again, and the newest one counts. One that is damaged
counts as none, so that it is measured again.
"""

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import undefer

from store.database import Database, to_json
from store.files import append_crc, strip_crc
from store.tables import CalibrationRow

_log = logging.getLogger(__name__)
Read = tuple[str, int]  # a language, and the version that reads it


@dataclass(frozen=True)
class RecordedCalibration:
    """What was measured, among `pictures` pictures at this `change` of the gallery, in the encoding of this number.

    `result` is what reports show. `curves` is None, and `sample` empty, where chances cannot be told.
    """

    language: str
    version: int
    encoding: int
    change: int
    pictures: int
    result: dict[str, Any]
    curves: dict[str, float] | None
    created_at: datetime


class Calibrations:
    """Those of a registry, one for each language and version."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, languages: Mapping[str, int]) -> dict[Read, RecordedCalibration]:
        """Those of these languages as these versions read them; the samples are not read."""
        versions = sorted(set(languages.values()))
        with self._database.read() as session:
            rows = session.scalars(select(CalibrationRow).where(CalibrationRow.version.in_(versions)))
            mine = [row for row in rows if languages.get(row.language) == row.version]
            return {(each.language, each.version): each for row in mine if (each := _recorded(row))}

    def with_sample(self, language: str, version: int) -> tuple[RecordedCalibration | None, bytes]:
        """One of them as it is now, None when there is none, with its sample of pictures."""
        with self._database.read() as session:
            row = session.get(CalibrationRow, (version, language), options=[undefer(CalibrationRow.sample)])
            sample = None if row is None else strip_crc(row.sample)
            return (None, b"") if row is None or sample is None else (_recorded(row), sample)

    def damaged(self) -> list[Read]:
        """Those that are damaged."""
        row = CalibrationRow
        with self._database.read() as session:
            reads = session.execute(select(row.language, row.version)).all()
        return [(tag, version) for tag, version in reads if self.with_sample(tag, version)[0] is None]

    def remove_damaged(self, language: str, version: int) -> None:
        """Delete one, unless it was measured again meanwhile: it is now."""
        with self._database.begin() as session:
            row = session.get(CalibrationRow, (version, language), options=[undefer(CalibrationRow.sample)])
            if row is not None and (strip_crc(row.sample) is None or _recorded(row) is None):
                session.delete(row)

    def forget(self, versions: Collection[int]) -> None:
        """Delete those of versions that can serve no more."""
        with self._database.begin() as session:
            session.execute(delete(CalibrationRow).where(CalibrationRow.version.in_(sorted(versions))))

    def forget_others(self, versions: Collection[int]) -> None:
        """Delete those of all versions but these: their samples are vectors of pictures, perhaps deleted ones."""
        with self._database.begin() as session:
            session.execute(delete(CalibrationRow).where(CalibrationRow.version.not_in(sorted(versions))))

    def put(
        self,
        language: str,
        version: int,
        *,
        encoding: int,
        change: int,
        pictures: int,
        result: dict[str, Any],
        curves: dict[str, float] | None = None,
        sample: bytes = b"",
    ) -> None:
        """Record what was measured, instead of what was before."""
        told = {"language": language, "version": version, "encoding": encoding, "change": change, "pictures": pictures}
        measured = append_crc(to_json({**told, "result": result, "curves": curves}).encode())
        with self._database.begin() as session:
            earlier = session.get(CalibrationRow, (version, language))
            if earlier is not None:
                session.delete(earlier)
                session.flush()
            session.add(
                CalibrationRow(version=version, language=language, measured=measured, sample=append_crc(sample))
            )


def _recorded(row: CalibrationRow) -> RecordedCalibration | None:
    """What a row says; None when it is damaged."""
    if (measured := strip_crc(row.measured)) is not None:
        told = RecordedCalibration(**json.loads(measured), created_at=row.created_at)
        if (told.language, told.version) == (row.language, row.version):
            return told
    _log.warning("the calibration of %s by version %d is damaged, and does not count", row.language, row.version)
    return None
