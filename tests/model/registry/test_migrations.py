"""A registry made by an earlier release opens, and loses nothing that counts."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from index.facets import FacetValue
from index.gallery import Gallery
from index.records import Patch
from index.rows import stored_as
from index.selection import Selection, Wanted
from index.tables import PictureWordsRow
from index.word_search import WordSearch
from model.backends import Encoding
from model.data_root import DataRoot
from model.registry import Release, migrations, open_registry
from model.registry.database import Database

VECTORS = (
    "INSERT INTO versions (number, language, manifest_sha256, rows, bytes, report, created_at)"
    " VALUES (0, 'en', 'tower', 0, 0, '{}', 1)",
    "INSERT INTO pictures VALUES ('a', 'content', 32, 32, 1, 4)",
    "INSERT INTO captions (id, picture_id, language, text, position, change, digest)"
    " VALUES (7, 'a', 'en', 'red', 0, 4, 'digest')",
    "INSERT INTO caption_vectors VALUES (7, 0, :vector)",
)


@pytest.fixture
def first_release(database_url: str) -> str:
    """A registry as release 0.1.0 left it: a feed with every change, and an idempotency key."""
    database = Database(database_url)
    with database.begin() as session:
        command.upgrade(_config(session), "0001")
        for picture in ("a", "b", "a", "a", "gone", "gone"):
            session.execute(
                text("INSERT INTO gallery_changes (kind, picture_id) VALUES ('picture_put', :id)"), {"id": picture}
            )
        session.execute(
            text(
                "INSERT INTO expansions (id, kind, language, state, settings, actor, created_at, progress, step, steps,"
                " cancel_requested, attempt, stalled, fence)"
                " VALUES ('exp_1', 'learn', 'cy', 'queued', '{}', 'ci', 1, 0, 0, 0, false, 0, 0, 0)"
            )
        )
        session.execute(text("INSERT INTO idempotency_keys VALUES ('ci', 'once', 'hash', 'exp_1', 1)"))
        for statement in VECTORS:
            session.execute(text(statement), {"vector": np.array([1, 0.1], dtype="<f4").tobytes()})
    database.close()
    return database_url


def _config(session: Session) -> Config:
    """Alembic on this session's connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = session.connection()
    return config


def test_a_migration_is_announced_and_then_logged_once(first_release: str, caplog: pytest.LogCaptureFixture) -> None:
    with closing(open_registry(first_release, migrate=False)) as registry:
        assert registry.outdated == f"the next start migrates its tables from r0001 to r{migrations.NEWEST}"
    for _ in range(2):
        with closing(open_registry(first_release)) as registry:
            assert registry.outdated == ""
    assert caplog.messages == [f"the registry's tables were migrated from r0001 to r{migrations.NEWEST}"]


def test_a_feed_of_every_change_becomes_one_of_last_changes(first_release: str, tmp_path: Path) -> None:
    registry = open_registry(first_release)
    gallery = Gallery(registry, DataRoot(tmp_path))
    assert gallery.changes_since(0) == {"b": 2, "a": 4, "gone": 6}
    assert gallery.changes_since(4) == {"gone": 6} and gallery.change() == 6
    registry.close()


def test_pictures_become_records_with_defaults_and_can_be_changed(first_release: str, tmp_path: Path) -> None:
    registry = open_registry(first_release)
    gallery = Gallery(registry, DataRoot(tmp_path))
    before = gallery.get("a").record
    assert (before.collection, before.tags, before.metadata) == ("default", [], {}) and before.etag
    after = gallery.patch(Patch("a", {"tags": ["red"], "metadata": {"year": 1950}}), {}).record
    assert (after.collection, after.tags, after.metadata) == ("default", ["red"], {"year": 1950})
    assert Selection(registry).records(["a", "b"]) == {"a": after} and after.etag != before.etag
    assert Selection(registry).facets(Wanted(), ["year"]) == {"year": [FacetValue(1950, 1)]}
    registry.close()


def test_a_version_names_all_datasets_that_its_language_was_taught_from(database_url: str) -> None:
    """The one that it learned was a column once; those of the versions below were found by its lineage."""
    database = Database(database_url)
    with database.begin() as session:
        command.upgrade(_config(session), "0007")
        session.execute(text(VECTORS[0]))
        made = (
            (1, 0, "cy", "exp_1"),
            (2, 1, "br", "exp_2"),
            (3, 2, "cy", "exp_3"),
            (4, 0, "cy", "exp_4"),
            (5, 3, "cy", "exp_1"),
        )
        for number, parent, language, expansion in made:
            session.execute(
                text(
                    "INSERT INTO versions (number, parent, language, rows, bytes, report, created_at, dataset)"
                    " VALUES (:number, :parent, :language, 0, 0, '{}', 1, :expansion)"
                ),
                {"number": number, "parent": parent, "language": language, "expansion": expansion},
            )
    database.close()
    registry = open_registry(database_url)
    learned = [registry.versions.get(number).learned for number in range(6)]
    registry.close()
    assert learned == [
        (),
        ("exp_1",),
        ("exp_2",),
        ("exp_1", "exp_3"),
        ("exp_4",),
        ("exp_3", "exp_1"),
    ]


def test_words_of_before_are_found_those_of_expansions_too(first_release: str) -> None:
    captions = (
        (8, "a", "cy", "afal COCH", "exp_1"),
        (9, "a", "ja", "赤いりんご", None),
        (10, "b", "en", "green", None),
    )
    database = Database(first_release)
    with database.begin() as session:
        session.execute(text("INSERT INTO pictures VALUES ('b', 'other', 32, 32, 1, 2)"))
        for id, picture, language, caption, expansion in captions:
            added = text(
                "INSERT INTO captions (id, picture_id, language, text, expansion, position, change, digest)"
                " VALUES (:id, :picture, :language, :caption, :expansion, 0, 4, :caption)"
            )
            values = {"id": id, "picture": picture, "language": language, "caption": caption, "expansion": expansion}
            session.execute(added, values)
    database.close()
    registry = open_registry(first_release)
    with registry.read() as session:
        documents = session.execute(select(PictureWordsRow).order_by(PictureWordsRow.picture)).scalars().all()
        rows = [(each.picture, each.expansion, each.terms, each.length) for each in documents]
    assert sorted(rows, key=str) == [
        (2, None, "green", 1),
        (4, "exp_1", "afal coch", 2),
        (4, None, "red い いり ご り りん ん んご 赤 赤い", 10),
    ]
    release = Release(1, 0, {}, datetime.now(UTC), "", "", {})
    found = WordSearch(registry, Selection(registry)).find("red GREEN りんご coch", release, Wanted())
    assert [each.picture for each in found] == ["a", "b"]
    registry.close()


def test_words_with_letters_that_are_apostrophes_are_found_by_any(database_url: str) -> None:
    database = Database(database_url)
    with database.begin() as session:
        command.upgrade(_config(session), "0011")
        for key, terms in enumerate(("huk pʼisqu", "ʻ", "paya"), 1):
            picture = (
                "INSERT INTO pictures (id, content_sha256, width, height, change, created_at, key, collection, tags,"
                " metadata) VALUES (:id, 'content', 32, 32, 1, 1, :key, 'default', '[]', '{}')"
            )
            session.execute(text(picture), {"id": f"p{key}", "key": key})
            words = "INSERT INTO picture_words (picture, terms, length) VALUES (:key, :terms, :length)"
            session.execute(text(words), {"key": key, "terms": terms, "length": len(terms.split())})
    database.close()
    registry = open_registry(database_url)
    with registry.read() as session:
        rows = session.execute(select(PictureWordsRow.picture, PictureWordsRow.terms, PictureWordsRow.length)).all()
    assert sorted(map(tuple, rows)) == [(1, "huk isqu p", 3), (3, "paya", 1)]
    release = Release(1, 0, {}, datetime.now(UTC), "", "", {})
    found = WordSearch(registry, Selection(registry)).find("p'isqu", release, Wanted())
    assert [each.picture for each in found] == ["p1"]
    registry.close()


def test_keys_and_expansions_stay(first_release: str) -> None:
    registry = open_registry(first_release)
    with registry.read() as session:
        assert session.execute(text("SELECT expansion, answer FROM idempotency_keys")).one() == ("exp_1", None)
    assert registry.expansions.get("exp_1").language == "cy"
    registry.close()


def test_vectors_stay_those_of_torch_in_float32_and_are_rounded_to_halves(first_release: str, tmp_path: Path) -> None:
    """They have the fingerprint that the tower alone has: nothing is encoded again."""
    registry = open_registry(first_release)
    recorded = registry.encodings.current()
    assert recorded is not None and (recorded.backend, recorded.precision) == ("torch", "float32")
    with registry.read() as session:
        row = session.execute(text("SELECT caption_id, version, fingerprint, vector FROM caption_halves")).one()
    assert row[:3] == (7, 0, Encoding(recorded.backend, recorded.precision).fingerprint("tower"))
    assert bytes(row.vector) == stored_as(np.array([1, 0.1], dtype=np.float32))
    registry.close()
