"""A data root of a release with generations opens, and answers as before up to the rounding of halves."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import inspect, text
from sqlalchemy.exc import ProgrammingError

from index.gallery import Gallery, NewPicture
from index.live import LiveIndex
from index.rows import stored_as
from index.sets import VectorSets
from model import storage
from model.backends import Encoding
from model.data_root import DataRoot
from model.errors import RegistryUnavailable
from model.pictures import encode_stored
from model.registry import Registry, migrations, open_registry
from model.registry.database import Database
from tests.doubles import WeightlessEncoder, picture_vector, text_vector
from tests.index.world import aged, content, drawn

PICTURES = 24
LARGE = 2_100  # more vectors than are rounded at a time
ENCODER = WeightlessEncoder()
Rows = list[dict[str, Any]]


def picture_rows() -> Rows:
    """Put in another order than they are named; number 3 was changed later."""
    return [
        {
            "id": f"p{seed:02d}",
            "content": content(seed),
            "created": float(PICTURES - seed),
            "change": 900 if seed == 3 else PICTURES - seed,
        }
        for seed in range(PICTURES)
    ]


def caption_rows() -> Rows:
    return [
        {
            "id": number + 1,
            "picture": f"p{seed:02d}",
            "language": language,
            "text": f"{language} {seed}",
            "expansion": "exp_1" if language == "cy" else None,
        }
        for number, (seed, language) in enumerate((seed, tag) for seed in range(PICTURES) for tag in ("en", "cy"))
    ]


STATEMENTS: list[tuple[str, Rows]] = [
    (
        "INSERT INTO expansions (id, kind, language, state, settings, actor, created_at, progress, step, steps,"
        " cancel_requested, attempt, stalled, fence)"
        " VALUES ('exp_1', 'learn', 'cy', 'succeeded', '{}', 'ci', 1, 0, 0, 0, false, 0, 0, 0)",
        [{}],
    ),
    (
        "INSERT INTO versions (number, parent, language, expansion, folder, manifest_sha256, rows, bytes, report,"
        " created_at) VALUES (:number, :parent, :language, :expansion, :folder, :sha256, 0, 0, '{}', 1)",
        [
            {"number": 0, "parent": None, "language": "en", "expansion": None, "folder": None}
            | {"sha256": ENCODER.text_fingerprint},
            {"number": 1, "parent": 0, "language": "cy", "expansion": "exp_1", "folder": "versions/exp_1"}
            | {"sha256": "m" * 64},
        ],
    ),
    (
        "INSERT INTO releases (number, shared, languages, created_at, actor, reason, change, expansion, version)"
        " VALUES (:number, :shared, :languages, 1, 'ci', '', '{}', :expansion, :version)",
        [
            {"number": 1, "shared": 0, "languages": '{"en": 0}', "expansion": None, "version": None},
            {"number": 2, "shared": 1, "languages": '{"en": 0, "cy": 1}', "expansion": "exp_1", "version": 1},
        ],
    ),
    ("INSERT INTO aliases VALUES ('serving', 2)", [{}]),
    (
        "INSERT INTO gallery_changes (change, kind, picture_id) VALUES (:change, 'picture_put', :id)",
        picture_rows(),
    ),
    ("INSERT INTO gallery_changes (change, kind, picture_id) VALUES (950, 'picture_deleted', 'gone')", [{}]),
    ("INSERT INTO pictures VALUES (:id, :content, 32, 32, :created, :change)", picture_rows()),
    (
        "INSERT INTO captions (id, picture_id, language, text, expansion, position, change, digest)"
        " VALUES (:id, :picture, :language, :text, :expansion, 0, 1, :text)",
        caption_rows(),
    ),
    (
        "INSERT INTO picture_vectors VALUES (:content, :fingerprint, :vector)",
        [
            {"content": content(seed), "fingerprint": ENCODER.image_fingerprint}
            | {"vector": picture_vector(drawn(seed).rgb).astype("<f4").tobytes()}
            for seed in range(PICTURES)
        ],
    ),
    (
        "INSERT INTO caption_vectors (caption_id, version, fingerprint, vector)"
        " VALUES (:id, :version, :fingerprint, :vector)",
        [
            {"id": row["id"], "version": version, "fingerprint": ENCODER.text_fingerprint}
            | {"vector": text_vector(version, row["text"]).astype("<f4").tobytes()}
            for row in caption_rows()
            for version in ([0] if row["language"] == "en" else [1])
        ],
    ),
    (
        "INSERT INTO generations VALUES ('pictures-0123456789abcdef', 'pictures', NULL, NULL, :fingerprint,"
        " 'generations/pictures-0123456789abcdef', :sha256, 24, 900, 1)",
        [{"fingerprint": ENCODER.image_fingerprint, "sha256": "f" * 64}],
    ),
]


@pytest.fixture
def old(database_url: str, tmp_path: Path) -> str:
    """The URL of a registry as release 0.2 left it, beside its pictures and the folder of a generation."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    database = Database(database_url)
    with database.begin() as session:
        config.attributes["connection"] = session.connection()
        command.upgrade(config, "0003")
        session.execute(text("INSERT INTO encodings VALUES (1, 'torch', 'float32', '', 1)"))
        for statement, rows in STATEMENTS:
            session.execute(text(statement), rows)
        if session.connection().dialect.name == "postgresql":  # where the rows above came from no sequence
            session.execute(text("SELECT setval(pg_get_serial_sequence('gallery_changes', 'change'), 950)"))
            session.execute(text("SELECT setval(pg_get_serial_sequence('captions', 'id'), 1000)"))
    database.close()
    folder = tmp_path / "generations" / "pictures-0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "vectors.safetensors").write_bytes(b"whatever it held")
    aged(folder / "vectors.safetensors", 2)
    aged(folder, 2)
    for seed in range(PICTURES):
        storage.write_bytes(
            tmp_path / "pictures" / content(seed)[:2] / f"{content(seed)}.jpg", encode_stored(drawn(seed).rgb)
        )
    return database_url


@pytest.fixture
def registry(old: str) -> Iterator[Registry]:
    """The same registry, opened by this release."""
    registry = open_registry(old)
    yield registry
    registry.close()


class Silent(WeightlessEncoder):
    """An encoder that has nothing to do: every vector is in the tables."""

    def texts(self, items: Any, *, alone: bool = False) -> Any:
        assert not items, "a caption is encoded again"
        return super().texts(items, alone=alone)

    def pictures(self, images: Any, batch: int = 64) -> Any:
        assert not images, "a picture is encoded again"
        return super().pictures(images, batch)


def served(registry: Registry, home: Path, **options: Any) -> LiveIndex:
    """What an API process of this release serves."""
    live = LiveIndex(Silent(), VectorSets(Gallery(registry, DataRoot(home))), **options)
    assert live.start()
    live.close()
    return live


def nearest(seed: int) -> list[tuple[str, float]]:
    """Pictures near `drawn(seed)` as the earlier release found them: in float32."""
    query = picture_vector(drawn(seed).rgb).astype(np.float64)
    scores = {
        f"p{other:02d}": float(picture_vector(drawn(other).rgb).astype(np.float64) @ query) for other in range(PICTURES)
    }
    return sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))


@pytest.mark.parametrize("seal_first", [10, 1_000], ids=["sealed first", "from the tables"])
def test_answers_are_those_of_the_release_before_up_to_rounding(
    registry: Registry, tmp_path: Path, seal_first: int
) -> None:
    live = served(registry, tmp_path, seal_first=seal_first)
    assert live.current.release.number == 2 and live.current.degraded == ()
    for seed in range(6):
        hits = live.current.search_pictures(picture_vector(drawn(seed).rgb), 99)
        expected = nearest(seed)
        assert {hit.picture: hit.score for hit in hits} == pytest.approx(dict(expected), abs=1e-3)
        place = {hit.picture: hit.rank for hit in hits}
        apart = [(first, second) for (first, high), (second, low) in pairwise(expected) if high - low > 2e-3]
        assert len(apart) > PICTURES / 2 and all(place[first] < place[second] for first, second in apart)
        assert hits[0].picture == f"p{seed:02d}"
    for tag, version in (("en", 0), ("cy", 1)):
        hits_of = live.current.search_captions(text_vector(version, f"{tag} 7"), [tag], 5)
        assert (hits_of[0].caption, hits_of[0].picture) == (f"{tag} 7", "p07")
        assert hits_of[0].score == pytest.approx(1, abs=1e-3)
        assert live.current.captions[tag].count == PICTURES


def test_every_picture_and_caption_is_still_there_and_pictures_have_keys(registry: Registry, tmp_path: Path) -> None:
    gallery = Gallery(registry, DataRoot(tmp_path))
    ids = gallery.ids()
    assert len(ids) == PICTURES and len(gallery.captions(ids)) == 2 * PICTURES
    placed = gallery.placed(ids)
    assert {picture: place.key for picture, place in placed.items()} == {
        row["id"]: row["change"] for row in picture_rows()
    }
    assert gallery.keyed(2, 4) == [f"p{PICTURES - key:02d}" for key in (2, 3, 4)]
    vector = picture_vector(drawn(99).rgb)
    gallery.put([NewPicture("new", content(99), 32, 32, {"en": ["new"]}, vector)], ENCODER.image_fingerprint)
    assert gallery.placed(["new"])["new"].key == 951, "a key is never used again"


def test_vectors_are_halves_of_what_they_were(registry: Registry) -> None:
    with registry.read() as session:
        stored = session.execute(text("SELECT content_sha256, vector FROM picture_halves")).all()
    assert {row.content_sha256: bytes(row.vector) for row in stored} == {
        content(seed): stored_as(picture_vector(drawn(seed).rgb)) for seed in range(PICTURES)
    }


def test_the_table_of_generations_and_their_folders_go(registry: Registry, tmp_path: Path) -> None:
    served(registry, tmp_path)  # and swept
    assert not list((tmp_path / "generations").iterdir())
    assert not inspect(registry.engine).has_table("generations")


def test_more_vectors_than_fit_into_one_batch_are_all_rounded(old: str) -> None:
    database = Database(old)
    vector = np.arange(4, dtype="<f4").tobytes()
    with database.begin() as session:
        rows = [{"content": f"{number:04d}", "tower": tower} for number in range(LARGE // 2) for tower in ("a", "b")]
        session.execute(
            text("INSERT INTO picture_vectors VALUES (:content, :tower, :vector)"),
            [row | {"vector": vector} for row in rows],
        )
    database.close()
    registry = open_registry(old)
    with registry.read() as session:
        lengths = session.execute(text("SELECT length(vector), count(*) FROM picture_halves GROUP BY 1")).all()
    assert sorted(tuple(row) for row in lengths) == [(8 + 4, LARGE), (128 + 4, PICTURES)]  # halves and a checksum
    registry.close()


def test_captions_of_pictures_still_go_with_their_picture(registry: Registry, tmp_path: Path) -> None:
    gallery = Gallery(registry, DataRoot(tmp_path))
    gallery.delete("p05")
    with registry.begin() as session:
        session.execute(text("DELETE FROM pictures WHERE id = 'p06'"))  # the database's own rule
    assert {caption.picture for caption in gallery.captions(["p05", "p06", "p07"])} == {"p07"}


def test_two_pictures_never_have_one_key(registry: Registry) -> None:
    with pytest.raises(Exception, match=r"(?i)unique"), registry.begin() as session:
        session.execute(text("UPDATE pictures SET key = 5"))


def test_the_encoding_stays(registry: Registry) -> None:
    recorded = registry.encodings.current()
    assert recorded is not None
    assert Encoding(recorded.backend, recorded.precision).fingerprint("tower") == "tower"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO picture_vectors VALUES ('c', 'tower', :vector)",
        "INSERT INTO caption_vectors (caption_id, version, fingerprint, vector) VALUES (1, 0, 'tower', :vector)",
    ],
)
def test_a_process_of_the_release_before_that_still_runs_puts_nothing(
    registry: Registry, tmp_path: Path, statement: str
) -> None:
    """It would leave a picture without a key and a vector of twice the length, which no process could open."""
    vector, executed = picture_vector(drawn(99).rgb), list[str]()
    change = "INSERT INTO gallery_changes (kind, picture_id) VALUES ('picture_put', 'late')"
    picture = "INSERT INTO pictures (id, content_sha256, width, height, created_at, change)"
    with pytest.raises((RegistryUnavailable, ProgrammingError)), registry.begin() as session:
        for each in (change, f"{picture} VALUES ('late', 'c', 32, 32, 1, 951)", statement):
            given = {"vector": vector.astype("<f4").tobytes()} if each == statement else {}
            session.execute(text(each), given)
            executed.append(each)
    assert executed[:1] == [change] and len(executed) == 2
    live = served(registry, tmp_path)
    assert live.current.pictures.count == PICTURES
    live.put_pictures([NewPicture("new", content(99), 32, 32, None, vector)])
    assert live.current.pictures.count == PICTURES + 1
