"""A gallery of made-up pictures with records, as a bulk import would leave it, and its vectors for an exact scan."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import bindparam, insert, update

from benchmarks.scale.material import Made, NoEncoder, Vectors, around, fill, name, unit
from index.gallery import Gallery
from index.live import LiveIndex
from index.records import Record, value_rows
from index.selection import Selection
from index.sets import VectorSets
from index.tables import PictureRow, PictureValueRow, RecordChangesRow
from model.data_root import DataRoot
from model.registry import Registry, open_registry

RANK = "rank"  # a key of metadata: every number below the count once, in random order
NUMBER = "number"  # another one: the second half of the numbers is of the second domain
PLACES, TAGS = 50, 10
_BATCH = 5_000  # rows of one transaction


@dataclass(frozen=True)
class Domains(Made):
    """Pictures of two domains, as photographs and maps: the second half is unlike the first."""

    def vectors(self, start: int, end: int) -> Vectors:
        """As those of one domain, each with the direction of its domain added."""
        axes = unit(np.random.default_rng(4).standard_normal((2, self.dimension)))
        return unit(super().vectors(start, end) + axes[(np.arange(start, end) >= self.count // 2).astype(int)])

    def queries_of_first(self, number: int, cosine: float) -> Vectors:
        """Queries with this cosine to a picture of the first domain each."""
        draw = np.random.default_rng(5)
        near = self.vectors(0, min(_BATCH, self.count // 2))
        return around(near[draw.integers(0, len(near), number)], cosine, draw)


@dataclass(frozen=True)
class Collection:
    """An opened gallery: its index and selection, the rank of each picture, and its vectors as they are stored."""

    made: Domains
    live: LiveIndex
    registry: Registry
    gallery: Gallery
    ranks: np.ndarray  # (count,)
    vectors: Vectors  # (count, dimension)

    def selection(self) -> Selection:
        """One that has been asked nothing yet."""
        return Selection(self.registry)


@contextmanager
def opened(home: Path, made: Domains) -> Iterator[Collection]:
    """Fill a data root with these pictures and their records, seal it, and serve it until the block ends."""
    root, encoder = DataRoot(home), NoEncoder(made.dimension)
    registry = open_registry(f"sqlite:///{home / 'registry.db'}")
    try:
        registry.initialise(encoder.base_fingerprint, {})
        fill(registry, made, encoder, min(1_000, made.count))
        ranks = np.random.default_rng(3).permutation(made.count)
        _write_records(registry, ranks)
        gallery = Gallery(registry, root)
        live = LiveIndex(encoder, VectorSets(gallery))
        live.start()
        starts = range(0, made.count, 50_000)
        stored = [made.vectors(start, min(start + 50_000, made.count)).astype(np.float16) for start in starts]
        yield Collection(made, live, registry, gallery, ranks, np.concatenate(stored).astype(np.float32))
        live.close()
    finally:
        registry.close()


def record(number: int, rank: int) -> Record:
    """What is said of a picture."""
    metadata = {
        RANK: int(rank),
        NUMBER: number,
        "place": f"place {rank % PLACES}",
        "taken_at": f"19{rank % 100:02d}-06-01",
    }
    return Record("default", [f"tag {rank % TAGS}", f"other {number % TAGS}"], metadata)


def _write_records(registry: Registry, ranks: np.ndarray) -> None:
    change = update(PictureRow).where(PictureRow.id == bindparam("name"))
    change = change.values(tags=bindparam("some"), facts=bindparam("about"), record=bindparam("number"))
    for start in range(0, len(ranks), _BATCH):
        records = [(number, record(number, rank)) for number, rank in enumerate(ranks[start : start + _BATCH], start)]
        with registry.begin() as session:
            rows = session.connection()
            rows.execute(
                change,
                [
                    {"name": name(number), "some": each.tags, "about": each.metadata, "number": number + 1}
                    for number, each in records
                ],
            )
            values = [{"picture": number + 1, **row} for number, each in records for row in value_rows(each)]
            rows.execute(insert(PictureValueRow), values)
            rows.execute(update(RecordChangesRow).values(last=records[-1][0] + 1))
