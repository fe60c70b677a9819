"""Calibrations: how the chances of hits are told of a language as a version reads it. Measures nothing.

A version never changes, but the gallery does: these are measured again, and the newest one counts.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import undefer

from model.registry.database import Database
from model.registry.tables import CalibrationRow

# The numbers of curves as this release writes them: the fields of `model.calibration.Curves`, told without NumPy
NUMBERS = frozenset(("sharpness", "trust", "lead", "most", "steepness", "threshold", "usual"))
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

    @property
    def is_earlier(self) -> bool:
        """Whether its curves are of an earlier release, in a form that tells nothing any more."""
        return self.curves is not None and self.curves.keys() != NUMBERS


class Calibrations:
    """Those of a registry, one for each language and version."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, languages: Mapping[str, int]) -> dict[Read, RecordedCalibration]:
        """Those of these languages as these versions read them; the samples are not read."""
        versions = sorted(set(languages.values()))
        with self._database.read() as session:
            rows = session.scalars(select(CalibrationRow).where(CalibrationRow.version.in_(versions)))
            return {
                (row.language, row.version): row.told_as(RecordedCalibration)
                for row in rows
                if languages.get(row.language) == row.version
            }

    def with_sample(self, language: str, version: int) -> tuple[RecordedCalibration | None, bytes]:
        """One of them as it is now, None when there is none, with its sample of pictures."""
        with self._database.read() as session:
            row = session.get(CalibrationRow, (version, language), options=[undefer(CalibrationRow.sample)])
            return (None, b"") if row is None else (row.told_as(RecordedCalibration), row.sample)

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
        measured = {"encoding": encoding, "change": change, "pictures": pictures, "result": result, "curves": curves}
        with self._database.begin() as session:
            earlier = session.get(CalibrationRow, (version, language))
            if earlier is not None:
                session.delete(earlier)
                session.flush()
            session.add(CalibrationRow(version=version, language=language, sample=sample, **measured))
