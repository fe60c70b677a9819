"""A gallery of made-up pictures with records, as a bulk import would leave it, and its vectors for an exact scan.

What was made stays in its data root: a run that was stopped goes on, and a later one begins with the measuring.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray
from sqlalchemy import bindparam, create_engine, insert, select, text, update
from sqlalchemy.pool import NullPool

from benchmarks.scale.material import Made, NoEncoder, Vectors, draw_around, fill, name, normalize
from index.captions import list_texts
from index.gallery import Gallery
from index.indexer import Indexer
from index.live import LiveIndex
from index.records import Record, build_value_rows
from index.selection import Selection
from index.sets import VectorSets
from model.text import index_terms
from store.data_root import DataRoot
from store.registry import Registry, open_registry
from store.tables import PictureRow, PictureValueRow, PictureWordsRow, RecordChangesRow

RANK = "rank"  # a key of metadata: every number below the count once, in random order
NUMBER = "number"  # another one, in the order of the listing: the second half of the numbers is of the second domain
PLACES, TAGS = 50, 10
# Words of the titles, each with about so many pictures; every picture has `tag`, `other` and `place` too.
WORDS = {"a": 1, "b": 100, "c": 10_000}
_BATCH = 5_000  # rows of one transaction
_CHUNK = 50_000  # vectors in memory at a time
_ABOUT, _VECTORS = "made.json", "made.npy"


@dataclass(frozen=True)
class Domains(Made):
    """Pictures of two domains, as photographs and maps: the second half is unlike the first."""

    def vectors(self, start: int, end: int) -> Vectors:
        """Draw vectors of one domain each, with the direction of the domain added."""
        axes = normalize(np.random.default_rng(4).standard_normal((2, self.dimension)))
        return normalize(super().vectors(start, end) + axes[(np.arange(start, end) >= self.count // 2).astype(int)])

    def queries_of_first(self, number: int, cosine: float) -> Vectors:
        """Return queries with this cosine to a picture of the first domain each."""
        draw = np.random.default_rng(5)
        near = self.vectors(0, min(_BATCH, self.count // 2))
        return draw_around(near[draw.integers(0, len(near), number)], cosine, draw)


@dataclass(frozen=True)
class Records:
    """The records of a gallery in a database: their selection, and the rank of each picture."""

    made: Domains
    registry: Registry
    gallery: Gallery
    ranks: NDArray[np.int64]  # (count,)

    def selection(self) -> Selection:
        """Return a selection that has been asked nothing yet."""
        return Selection(self.registry)


@dataclass(frozen=True)
class Collection(Records):
    """An opened gallery: its index too, and its vectors as they are stored."""

    live: LiveIndex
    vectors: NDArray[np.float16]  # (count, dimension)

    def find_best(self, left: NDArray[np.int64], queries: Vectors, k: int) -> Vectors:
        """Return the `k` highest scores of each query among these pictures, by an exact scan: (queries, k), falling."""
        kept = np.full((len(queries), k), -np.inf, dtype=np.float32)
        for start in range(0, len(left), _CHUNK):
            scores = queries @ self.vectors[left[start : start + _CHUNK]].astype(np.float32).T
            kept = -np.sort(-np.concatenate([kept, scores], axis=1), axis=1)[:, :k]
        return kept


@contextmanager
def open_collection(home: Path, made: Domains) -> Iterator[Collection]:
    """Fill a data root with these pictures and their records, seal it, and serve it until the block ends."""
    encoder = NoEncoder(made.dimension)
    with open_records(home, made, f"sqlite:///{home / 'registry.db'}") as records:
        sets = VectorSets(records.gallery)
        live = LiveIndex(encoder, sets)
        live.start()
        if len(live.current.picture_set.parts) > 1:  # a run that was stopped before it had merged them
            Indexer(sets).seal(live.current.picture_set.identity)
            live.refresh()
        yield Collection(**vars(records), live=live, vectors=_draw_vectors(home, made))
        live.close()


@contextmanager
def open_records(home: Path, made: Domains, url: str) -> Iterator[Records]:
    """Fill a database with these pictures and their records."""
    encoder, registry = NoEncoder(made.dimension), open_registry(url)
    about = {"pictures": made.count, "dimension": made.dimension}
    note = home / _ABOUT
    if not note.exists():
        note.write_text(json.dumps(about))
    if json.loads(note.read_text()) != about:
        raise typer.BadParameter(f"{home} has another gallery")
    try:
        registry.initialise(encoder.base_fingerprint)
        fill(registry, made, encoder, min(1_000, made.count))
        ranks = np.random.default_rng(3).permutation(made.count)
        _write_records(registry, ranks)
        if registry.engine.dialect.name == "postgresql":
            _analyse(url)
        yield Records(made, registry, Gallery(registry, DataRoot(home)), ranks)
    finally:
        registry.close()


def _analyse(url: str) -> None:
    """Analyse the tables, as PostgreSQL does by itself before long."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _draw_vectors(home: Path, made: Domains) -> NDArray[np.float16]:
    file = home / _VECTORS
    if not file.exists():
        blocks = np.lib.format.open_memmap(
            file.with_suffix(".part"), "w+", dtype=np.float16, shape=(made.count, made.dimension)
        )
        for start in range(0, made.count, _CHUNK):
            end = min(start + _CHUNK, made.count)
            blocks[start:end] = made.vectors(start, end)
        blocks.flush()
        file.with_suffix(".part").rename(file)
    vectors: NDArray[np.float16] = np.load(file, mmap_mode="r")
    return vectors


def record(number: int, rank: int) -> Record:
    """Return what is said of a picture."""
    metadata = {
        RANK: int(rank),
        NUMBER: number,
        "place": f"place {rank % PLACES}",
        "taken_at": f"19{rank % 100:02d}-06-01",
        "title": " ".join(f"{word}{rank // pictures}" for word, pictures in WORDS.items()),
    }
    return Record("default", [f"tag {rank % TAGS}", f"other {number % TAGS}"], metadata)


def _write_records(registry: Registry, ranks: NDArray[np.int64]) -> None:
    """Write the records that are not there yet, in order."""
    change = update(PictureRow).where(PictureRow.id == bindparam("name"))
    change = change.values(tags=bindparam("some"), facts=bindparam("about"), record=bindparam("number"))
    with registry.read() as session:
        first = session.scalar(select(RecordChangesRow.last)) or 0
    indexes = sorted(
        PictureValueRow.metadata.tables[PictureValueRow.__tablename__].indexes, key=lambda each: str(each.name)
    )
    if not first:  # to make them at the end takes a quarter of the time
        with registry.begin() as session:
            for index in indexes:
                index.drop(session.connection(), checkfirst=True)
    for start in range(first, len(ranks), _BATCH):
        records = [(number, record(number, rank)) for number, rank in enumerate(ranks[start : start + _BATCH], start)]
        said = [(number, index_terms(list_texts(each.tags, each.metadata))) for number, each in records]
        about = [
            {"name": name(number), "some": each.tags, "about": each.metadata, "number": number + 1}
            for number, each in records
        ]
        with registry.begin() as session:
            rows = session.connection()
            rows.execute(change, about)
            values = [{"picture": number + 1, **row} for number, each in records for row in build_value_rows(each)]
            rows.execute(insert(PictureValueRow), values)
            words = [
                {"picture": number + 1, "expansion": None, "terms": terms, "length": length}
                for number, (terms, length) in said
            ]
            rows.execute(insert(PictureWordsRow), words)
            rows.execute(update(RecordChangesRow).values(last=records[-1][0] + 1))
    for index in indexes:
        with registry.begin() as session:
            index.create(session.connection(), checkfirst=True)
