"""Reads what the registry has of pictures, row by row, and mends rows: from what is sealed, or has them made anew.

Neither database notices by itself that a bit of a row has flipped: vectors and captions have checksums.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from sqlalchemy import LargeBinary, Select, cast, delete, func, literal, select, update

from index.captions import digest_of
from index.damage import Damage
from index.examiner import Examiner
from index.rows import stored_as, vector_of
from index.sets import VectorSets
from index.vectors import Identity, VectorSet
from store.tables import CaptionRow, CaptionVectorRow, PictureRow, PictureVectorRow

_COMPUTED = "by forgetting it, so that it is computed again"


class RegistryScrub:
    """One reading of a registry. The segments must have been verified before: a vector may come from there.

    A row is changed only while it has the damaged value: others may have mended or deleted it meanwhile.
    """

    def __init__(self, sets: VectorSets, examiner: Examiner) -> None:
        self._sets, self._registry, self._examiner = sets, sets.registry, examiner
        self._way = "from a segment" if sets.engine is None else "from the engine"
        self._opened: dict[Identity, VectorSet] = {}

    def run(self) -> Iterator[Damage]:
        """Everything that is damaged."""
        guarded = self._examiner.guarded
        yield from guarded("vector", "vectors of pictures in the registry", self._picture_vectors())
        yield from guarded("vector", "vectors of captions in the registry", self._caption_vectors())
        yield from guarded("caption", "captions in the registry", self._captions())

    def _picture_vectors(self) -> Iterator[Damage]:
        row = PictureVectorRow
        for content, fingerprint, stored in self._rows(select(row.content_sha256, row.fingerprint, row.vector), 2):
            if vector_of(stored) is None:
                where = [row.content_sha256 == content, row.fingerprint == fingerprint, row.vector == stored]
                shown = select(PictureRow.id, PictureRow.key).where(PictureRow.content_sha256 == content)
                of = {"kind": "pictures", "fingerprint": fingerprint}
                mend = partial(self._with_vector, row, where, shown, of)
                yield from self._examiner.told("vector", f"vector of content {content}", self._finding(where), mend)

    def _caption_vectors(self) -> Iterator[Damage]:
        row = CaptionVectorRow
        query = select(row.caption_id, row.version, row.fingerprint, row.vector)
        for id, version, fingerprint, stored in self._rows(query, 3):
            if vector_of(stored) is None:
                where = [row.caption_id == id, row.version == version, row.fingerprint == fingerprint]
                where.append(row.vector == stored)
                shown = select(CaptionRow.picture_id, CaptionRow.id).where(CaptionRow.id == id)
                of = {"version": version, "fingerprint": fingerprint}
                name, mend = (
                    f"vector of caption {id} by version {version}",
                    partial(self._with_vector, row, where, shown, of),
                )
                yield from self._examiner.told("vector", name, self._finding(where), mend)

    def _captions(self) -> Iterator[Damage]:
        row = CaptionRow
        # as bytes: a driver refuses a whole page for one text that is not UTF-8 any more; PostgreSQL's own conversions
        # refuse it, too, except what it sends texts with
        text: Any = cast(row.text, LargeBinary) if self._registry.near else func.textsend(row.text, type_=LargeBinary)
        query = select(row.id, row.picture_id, row.language, row.expansion, row.digest, text)
        for id, picture, language, expansion, digest, said in self._rows(query, 1):
            if digest_of(expansion or "", said) != digest:
                where = [row.id == id, row.digest == digest, text == said]
                is_said: Any = partial(_is_said, expansion or "", digest)
                mend = partial(self._with_text, where, picture, id, language, is_said)
                name = f"caption {id} of picture {picture}"
                yield from self._examiner.told("caption", name, self._finding(where), mend)

    def _with_vector(self, row: Any, where: Sequence[Any], shown: Select[str, int], of: Mapping[str, Any]) -> str:
        """Put the vector of a sealed row in place of a damaged one, or let it be computed again by who has the model.

        `shown` finds the pictures, and the keys of their rows in the sets that are `of` this.
        """
        with self._registry.read() as session:
            places = [(picture, key) for picture, key in session.execute(shown)]
        for picture, key in places:
            for _, vector in self._sealed(of, picture, key):
                with self._registry.begin() as session:
                    session.execute(update(row).where(*where).values(vector=stored_as(vector)))
                return self._way
        # told before it is deleted: if this ends in between, the damaged one is replaced all the same
        self._sets.gallery.touch([picture for picture, _ in places])
        with self._registry.begin() as session:
            session.execute(delete(row).where(*where))
        return _COMPUTED

    def _with_text(
        self, where: Sequence[Any], picture: str, key: int, language: str, is_said: Callable[[str], bool]
    ) -> str:
        """Put the sealed text in place of a damaged one, if its digest proves that it was this one."""
        for text, _ in self._sealed({"kind": "captions", "language": language}, picture, key):
            if is_said(text):
                with self._registry.begin() as session:
                    session.execute(update(CaptionRow).where(*where).values(text=text))
                return self._way
        return ""

    def _sealed(self, of: Mapping[str, Any], picture: str, key: int) -> Iterator[tuple[str, Any]]:
        """Text and vector of a row, from each set of these fields in which it is sealed."""
        for identity in self._sets.numbers():
            if all(getattr(identity, name) == value for name, value in of.items()):
                if identity not in self._opened:
                    self._opened[identity] = self._sets.readable(identity, self._sets.state(identity))[0]
                rows = self._opened[identity].of(picture)
                for place in np.flatnonzero(rows.keys == key).tolist():
                    yield rows.entries[place].text, rows.vectors[place]

    def _finding(self, where: Sequence[Any]) -> Callable[[], bool]:
        """What finds out whether a row is as it was read: others may have mended or deleted it meanwhile."""

        def finds() -> bool:
            with self._registry.read() as session:
                return session.scalar(select(literal(1)).where(*where)) is not None

        return finds

    def _rows(self, query: Any, keys: int) -> Iterator[Any]:
        return chain.from_iterable(self._examiner.pages(self._registry, query, keys))


def _is_said(expansion: str, digest: str, text: str) -> bool:
    return digest_of(expansion, text) == digest
