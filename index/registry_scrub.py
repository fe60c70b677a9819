"""Reads what the registry has of pictures, row by row, and mends vectors: from segments, or by computing them again.

Neither database notices by itself that a bit of a row has flipped: vectors, captions and calibrations have checksums.
SQLite looks for faults in its own structure when it is asked to.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from sqlalchemy import LargeBinary, Select, cast, delete, literal, select, tuple_, update

from index.captions import BATCH, digest_of
from index.rows import stored_as, vector_of
from index.sets import VectorSets
from index.tables import CaptionRow, CaptionVectorRow, PictureRow, PictureVectorRow
from index.vectors import Halves, Identity, Matrix, VectorSet

Found = tuple[Literal["vector", "caption", "calibration", "registry"], str, str]  # its kind and name, how it was mended
_AGAIN = "by computing it"


class RegistryScrub:
    """One reading of a registry. `gently` is told how many bytes were read, and may wait."""

    def __init__(self, sets: VectorSets, gently: Callable[[int], object], *, mend: bool = True) -> None:
        self._sets, self._registry, self._gently, self._mend = sets, sets.registry, gently, mend
        self._opened: dict[Identity, VectorSet] = {}

    def run(self) -> Iterator[Found]:
        """Everything that is damaged, each with how it was mended; empty when it was not. Raises RegistryUnavailable.

        The segments must have been verified before: a vector may come from there.
        """
        for fault in self._registry.faults():
            yield "registry", f"the registry: {fault}", ""
        yield from self._picture_vectors()
        yield from self._caption_vectors()
        yield from self._captions()
        for language, version in self._registry.calibrations.damaged():
            if self._mend:
                self._registry.calibrations.remove(language, version)
            yield "calibration", f"calibration of {language} by version {version}", self._how("by measuring it")

    def _picture_vectors(self) -> Iterator[Found]:
        row = PictureVectorRow
        for page in self._pages(select(row.content_sha256, row.fingerprint, row.vector), 2):
            for content, fingerprint, _ in (each for each in page if vector_of(each.vector) is None):
                where = (row.content_sha256 == content, row.fingerprint == fingerprint)
                shown = select(PictureRow.id, PictureRow.key).where(PictureRow.content_sha256 == content)
                identities = [each for each in self._sets.numbers() if each.kind == "pictures"]
                how = self._mended(row, where, shown, [each for each in identities if each.fingerprint == fingerprint])
                yield "vector", f"vector of content {content}", how

    def _caption_vectors(self) -> Iterator[Found]:
        row = CaptionVectorRow
        for page in self._pages(select(row.caption_id, row.version, row.fingerprint, row.vector), 3):
            for caption, version, fingerprint, _ in (each for each in page if vector_of(each.vector) is None):
                where = (row.caption_id == caption, row.version == version, row.fingerprint == fingerprint)
                shown = select(CaptionRow.picture_id, CaptionRow.id).where(CaptionRow.id == caption)
                of = (each for each in self._sets.numbers() if each.version == version)
                how = self._mended(row, where, shown, [each for each in of if each.fingerprint == fingerprint])
                yield "vector", f"vector of caption {caption} by version {version}", how

    def _captions(self) -> Iterator[Found]:
        row = CaptionRow
        # as bytes: SQLite's driver refuses a whole page for one text that is not UTF-8 any more
        text: Any = cast(row.text, LargeBinary) if self._registry.near else row.text
        for page in self._pages(select(row.id, row.picture_id, row.expansion, row.digest, text), 1):
            for id, picture, expansion, digest, said in page:
                if digest_of(expansion or "", said if isinstance(said, str) else bytes(said)) != digest:
                    yield "caption", f"caption {id} of picture {picture}", ""

    def _how(self, mended: str) -> str:
        return mended if self._mend else ""

    def _mended(self, row: Any, where: Sequence[Any], shown: Select[str, int], sets: Sequence[Identity]) -> str:
        """Put the vector of a sealed row in place of a damaged one, or let it be computed again by who has the model.

        `shown` finds the pictures, and the keys of their rows in these sets.
        """
        if not self._mend:
            return ""
        with self._registry.read() as session:
            places = [(picture, key) for picture, key in session.execute(shown)]
        for identity in sets:
            for picture, key in places:
                if (found := self._sealed(identity, picture, key)) is not None:
                    with self._registry.begin() as session:
                        session.execute(update(row).where(*where).values(vector=stored_as(found)))
                    return "from a segment"
        with self._registry.begin() as session:
            session.execute(delete(row).where(*where))
        self._sets.gallery.touch([picture for picture, _ in places])
        return _AGAIN

    def _sealed(self, identity: Identity, picture: str, key: int) -> Any:
        """The vector of one row of what is sealed of a set; None when it is not sealed."""
        if identity not in self._opened:
            self._opened[identity] = self._sets.readable(identity, self._sets.state(identity))[0]
        rows = self._opened[identity].of(picture)
        places = np.flatnonzero(rows.keys == key)
        vectors: Halves | Matrix = rows.vectors
        return vectors[places[0]] if len(places) else None

    def _pages(self, query: Any, keys: int) -> Iterator[Sequence[Any]]:
        """All rows of a `select`, some at a time, in the order of their primary key: the first so many columns."""
        columns = [*query.selected_columns][:keys]
        page = first = query.order_by(*columns).limit(BATCH)
        while True:
            with self._registry.read() as session:
                rows = session.execute(page).all()
            if not rows:
                return
            self._gently(sum(len(value) for row in rows for value in row if isinstance(value, bytes | str)))
            yield rows
            page = first.where(tuple_(*columns) > tuple_(*map(literal, rows[-1][:keys])))
