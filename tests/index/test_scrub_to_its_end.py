"""F4: whoever works beside it, a scrub reads all, makes segments and captions again and tells the truth of the rest."""

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, select, text, update

from index import scrub_report, segment, stored_items
from index.gallery import Gallery
from index.picture_files import PictureFiles
from index.picture_tables import pack_vector, unpack_vector
from index.scrub import Scrub
from index.scrub_report import Damage
from index.set_states import NOTHING_SEALED
from index.sets import VectorSets
from index.stored_items import Pace
from store import files
from store.clock import now
from store.data_root import DataRoot
from store.errors import IndexUnavailable, LeaseLost, RegistryUnavailable, StorageFull, StoreUnavailable
from store.leases import SEALING
from store.tables import CaptionRow, CaptionVectorRow, PictureVectorRow, VectorSetRow, VersionRow
from tests.bitrot import flip
from tests.index.test_scrub import fill_world, find_english, run_scrub
from tests.index.world import Clock, Machines, World, digest, fail_with, interrupt, put, put_picture

pytestmark = pytest.mark.row("F4")


def list_mended(found: list[Damage]) -> list[tuple[str, str]]:
    return [(each.kind, each.mended) for each in found]


def execute(world: World, statement: str) -> None:
    with world.registry.begin() as session:
        session.execute(text(statement))


@pytest.mark.parametrize(
    ("statement", "kind", "name"),
    [
        ("UPDATE vector_sets SET segments = '[{'", "segment", "what is sealed of pictures-"),
        ("UPDATE versions SET report = '{'", "version", "the list of versions"),
        ("UPDATE versions SET language = CAST(x'ff' AS TEXT)", "registry", "the list of versions"),
        ("UPDATE pictures SET content_sha256 = CAST(x'ff' AS TEXT)", "registry", "the list of pictures"),
    ],
    ids=["JSON of a set", "JSON of a version", "text of a version", "text of a picture"],
)
def test_a_row_that_cannot_be_read_is_told_and_all_else_is_read(
    world: World, statement: str, kind: str, name: str
) -> None:
    fill_world(world)
    execute(world, statement)
    execute(world, "UPDATE captions SET text = CAST(x'ff' AS TEXT) WHERE text = 'picture 5'")
    found = [each for each in run_scrub(world) if "cannot be read" in each.name]
    assert kind in {each.kind for each in found} and any(each.name.startswith(name) for each in found)
    assert "caption" in scrub_report.load_report(world.root).found  # type: ignore[union-attr]


def test_a_file_that_the_disk_does_not_give_is_damaged_and_one_that_is_none_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_world(world)
    bad, real = world.gallery.files.locate(digest(1), thumbnail=True), files.read
    folder = world.gallery.files.locate(digest(2))
    folder.unlink()
    folder.mkdir()

    def read_badly(path: Path, *more: Any) -> bytes:
        if path == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *more)

    monkeypatch.setattr(files, "read", read_badly)
    assert {(each.name, each.mended) for each in run_scrub(world)} == {
        (f"{digest(1)}.thumb.jpg", "from the stored picture"),
        (f"{digest(2)}.jpg cannot be read (IsADirectoryError)", ""),
    }


def test_what_cannot_be_mended_now_ends_nothing(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    here = machines.here
    fill_world(here)
    here.teach("cy", {"p1": "ci"})
    flip(here.get_folder(1) / "rows.safetensors", 5)
    with here.registry.begin() as session:
        session.execute(update(PictureVectorRow).values(vector=b"damaged"))
    monkeypatch.setattr(DataRoot, "renew", fail_with(StoreUnavailable()))
    monkeypatch.setattr(VectorSets, "read_state", fail_with(IndexUnavailable()))
    assert list_mended(run_scrub(here)) == [("version", ""), *[("vector", "")] * 6]


def test_it_gives_signs_of_life_while_it_waits_and_ends_when_another_does_it(world: World) -> None:
    fill_world(world)
    flip(world.list_segments("pictures")[0] / "index.faiss", 99, world.home)
    clock, kept = Clock(), list[float]()

    def keep() -> None:
        kept.append(clock.now)
        raise LeaseLost if clock.now > 100 else StorageFull

    def wait(seconds: float) -> None:
        clock.now += seconds

    with world.registry.duties.hold(SEALING, "another", 600), pytest.raises(LeaseLost):
        Scrub(world.sets, Pace(keep=keep, clock=clock, wait=wait)).run()
    assert len(kept) > 5 and scrub_report.load_report(world.root) is None


def test_what_is_removed_meanwhile_is_not_damaged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merged, pruned, cancelled, deleted: nothing names it any more when its damage is noticed."""
    fill_world(world)
    world.teach("cy", {"p1": "ci"})
    flip(world.list_segments("pictures")[0] / "index.faiss", 99, world.home)
    flip(world.get_folder(1) / "rows.safetensors", 5)
    flip(world.gallery.files.locate(digest(1)), 50)
    world.gallery.files.locate(digest(2)).unlink()

    def remove_version() -> None:
        with world.registry.begin() as session:
            session.execute(update(VersionRow).where(VersionRow.number == 1).values(folder=None))

    def delete_pictures() -> None:
        for id in ("p1", "p2"):
            world.gallery.delete(id)

    def remove_segments() -> None:
        world.sets.replace_kept_states(world.pictures(), world.state(), NOTHING_SEALED)

    interrupt(monkeypatch, segment, "is_intact", remove_segments)
    interrupt(monkeypatch, VectorSets, "list_newest", remove_version)
    interrupt(monkeypatch, PictureFiles, "list_local", delete_pictures)
    versions = world.registry.versions.list()
    monkeypatch.setattr(world.registry.versions, "list", lambda: versions)  # as it was before
    assert run_scrub(world) == []


def test_a_dataset_whose_expansion_ends_meanwhile_is_not_damaged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    name, submit = "expansions/given/dataset", world.registry.expansions.submit
    files.write_bytes(world.root.locate(name), b"captions")
    given: Any = {"dataset_path": name, "dataset_sha256": "0" * 64}
    expansion, _ = submit(kind="learn", language="cy", settings={}, actor="t", **given)
    assert list_mended(run_scrub(world)) == [("dataset", "")]
    interrupt(monkeypatch, files, "hash_file", lambda: world.registry.expansions.cancel(expansion.id))
    assert run_scrub(world) == []


def test_a_row_that_is_mended_meanwhile_is_neither_told_nor_touched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world.serve(), 1)
    with world.registry.begin() as session:
        good = session.scalars(select(PictureVectorRow.vector)).one()
        session.execute(update(PictureVectorRow).values(vector=b"damaged"))
    vector = unpack_vector(good)
    assert vector is not None
    other = pack_vector(np.negative(vector))

    def mend() -> None:
        with world.registry.begin() as session:
            session.execute(update(PictureVectorRow).values(vector=other))

    with monkeypatch.context() as patch:
        interrupt(patch, Gallery, "touch", mend)
        Scrub(world.sets).run()
    with world.registry.begin() as session:
        assert session.scalars(select(PictureVectorRow.vector)).one() == other
        session.execute(update(PictureVectorRow).values(vector=b"damaged"))
    interrupt(monkeypatch, Scrub, "_retry", mend)
    assert run_scrub(world) == []


def test_a_registry_that_is_busy_for_a_moment_is_waited_for(world: World) -> None:
    fill_world(world)
    with world.registry.begin() as session:
        session.execute(update(PictureVectorRow).values(vector=b"damaged"))
    with closing(sqlite3.connect(world.home / "registry.db", isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")

        def end(_: float) -> None:
            another.rollback()

        assert list_mended(Scrub(world.sets, Pace(wait=end)).run().damaged) == [("vector", "from a segment")] * 6


@pytest.mark.parametrize("name", ["list_newest", "list_states"])
def test_a_registry_that_stays_away_is_no_damage_and_nothing_is_reported(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fill_world(world)
    with monkeypatch.context() as patch:
        interrupt(patch, VectorSets, name, fail_with(RegistryUnavailable()))
        assert Scrub(world.sets, Pace(wait=lambda _: None)).run().damaged == []
    before = scrub_report.load_report(world.root)
    monkeypatch.setattr(stored_items, "_PATIENCE", 0.0)
    monkeypatch.setattr(VectorSets, name, fail_with(RegistryUnavailable()))
    with pytest.raises(RegistryUnavailable):
        Scrub(world.sets).run()
    assert scrub_report.load_report(world.root) == before


def test_a_database_that_says_that_it_is_damaged_is_not_waited_for(postgresql_url: str, tmp_path: Path) -> None:
    """A page whose checksum does not fit, or an index."""
    with closing(World(tmp_path, postgresql_url)) as world:
        for state in ("XX001", "XX002"):
            with pytest.raises(RegistryUnavailable) as caught, world.registry.read() as session:
                session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'page' USING ERRCODE = '{state}'; END $$"))
            assert caught.value.damaged


def test_a_segment_that_was_written_again_is_compared_with_the_newest_state(world: World) -> None:
    fill_world(world)
    state = world.state()
    world.sets.register(world.pictures(), state, state)
    with world.registry.begin() as session:
        older = session.scalars(select(VectorSetRow).where(VectorSetRow.number == state.number)).one()
        older.segments = [{**older.segments[0], "manifest_sha256": "0" * 64}]
    (folder,) = world.list_segments("pictures")
    before = folder.stat().st_ino
    assert run_scrub(world) == [] and folder.stat().st_ino == before


def delete_vector(world: World, text: str) -> None:
    """Delete the vector of this caption, as if nobody had computed it yet."""
    with world.registry.begin() as session:
        ids = select(CaptionRow.id).where(CaptionRow.text == text)
        session.execute(delete(CaptionVectorRow).where(CaptionVectorRow.caption_id.in_(ids)))


def test_what_lacks_a_vector_keeps_no_other_segment_from_being_made_again(world: World) -> None:
    fill_world(world)
    world.put("later", 9, {"en": ["nobody has encoded this"]})
    flip(world.list_segments("captions")[0] / "rows.safetensors", 5, world.home)
    assert list_mended(run_scrub(world)) == [("segment", "from the registry")] and run_scrub(world) == []


def test_a_segment_stays_until_the_registry_has_all_that_it_had(world: World) -> None:
    fill_world(world)
    delete_vector(world, "picture 5")
    (folder,) = world.list_segments("captions")
    flip(folder / "index.faiss", 5, world.home)
    assert list_mended(run_scrub(world)) == [("segment", "")] and (folder / "rows.safetensors").exists()


def test_a_copy_from_the_store_is_told_as_that_and_taken_up(machines: Machines) -> None:
    fill_world(machines.here)
    there = machines.there
    live = there.serve()
    identity = find_english(there)
    (folder,) = there.list_segments("captions")
    flip(folder / "rows.safetensors", 5, there.home)
    delete_vector(there, "picture 5")
    before = there.state(identity)
    assert list_mended(run_scrub(there)) == [("segment", "from the store")]
    assert there.state(identity).number > before.number and there.state(identity).segments == before.segments
    live.refresh()
    assert live.verify() == [] and run_scrub(there) == []


def test_a_copy_from_the_store_is_taken_up_also_beside_a_segment_that_cannot_be_made_again(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_world(machines.here)
    put(machines.here.serve(), 7)
    machines.here.seal()
    there, identity, renew = machines.there, find_english(machines.there), DataRoot.renew
    live = there.serve()
    before = there.state(identity)
    good, bad = (f"segments/{each.id}" for each in before.segments)
    for name in (good, bad):
        flip(there.root.locate(name) / "rows.safetensors", 5, there.home)
    delete_vector(there, "picture 7")
    with monkeypatch.context() as patch:
        patch.setattr(DataRoot, "renew", lambda root, name, *more: name != bad and renew(root, name, *more))
        assert sorted(list_mended(run_scrub(there))) == [("segment", ""), ("segment", "from the store")]
    assert there.state(identity).number > before.number
    live.refresh()
    assert [problem for problem in live.verify() if good.removeprefix("segments/") in problem] == []


def test_a_set_that_nobody_searches_is_forgotten_where_it_cannot_be_made_again(world: World) -> None:
    world.put("p1", 1)
    for caption in ("first", "second", "third"):
        world.teach("cy", {"p1": caption})
    old = world.captions("cy", 1)
    delete_vector(world, "first")
    flip(world.root.locate(f"segments/{world.state(old).segments[0].id}") / "rows.safetensors", 5, world.home)
    assert list_mended(run_scrub(world)) == [("segment", "by forgetting what nobody searches")]
    assert run_scrub(world) == [] and world.state(old).segments == ()


def test_a_caption_whose_digest_changed_is_told_and_stays(world: World) -> None:
    """Nothing proves then that the text is the right one."""
    fill_world(world)
    with world.registry.begin() as session:
        session.execute(update(CaptionRow).where(CaptionRow.text == "picture 5").values(digest="0" * 64))
    assert list_mended(run_scrub(world)) == [("caption", "")] == list_mended(run_scrub(world))


def test_what_was_pruned_and_is_about_to_be_removed_is_not_damaged(world: World) -> None:
    fill_world(world)
    world.teach("cy", {"p1": "ci"})
    flip(world.get_folder(1) / "rows.safetensors", 5)
    flip(world.root.locate(f"segments/{world.state(world.captions('cy', 1)).segments[0].id}") / "index.faiss", 5)
    assert {each.kind for each in run_scrub(world, mend=False)} == {"version", "segment"}
    with world.registry.begin() as session:
        session.execute(update(VersionRow).where(VersionRow.number == 1).values(pruned_at=now(), pruned_release=2))
    assert run_scrub(world) == []


NO_TEXT = {  # PostgreSQL checks what it is given, unless a cast has no function
    "sqlite": ["UPDATE captions SET text = CAST(x'ff' AS TEXT) WHERE text = 'picture 5'"],
    "postgresql": [
        "CREATE CAST (bytea AS text) WITHOUT FUNCTION",
        r"UPDATE captions SET text = '\xff'::bytea::text WHERE text = 'picture 5'",
        "DROP CAST (bytea AS text)",
    ],
}
OTHER_TEXT = ["UPDATE captions SET text = 'picture 4' WHERE text = 'picture 5'"]


@pytest.mark.parametrize(
    ("database", "harm"),
    [("sqlite", OTHER_TEXT), *NO_TEXT.items()],
    ids=["another text", "no text any more", "no text any more, PostgreSQL"],
)
@pytest.mark.parametrize("sealed", [True, False])
def test_a_caption_that_changed_comes_back_from_a_segment_or_is_told(
    world: World, harm: list[str], sealed: bool
) -> None:
    live = put(world.serve(), *range(6))
    put_picture(live, "other", 7, {"en": [r"C:\pictures"]})
    if sealed:
        world.seal()
    for statement in harm:
        execute(world, statement)
    (found,) = run_scrub(world)
    assert (found.kind, found.mended) == ("caption", "from a segment" if sealed else "")
    assert found.name.endswith("of picture p5") and "picture 4" not in found.name
    if sealed:
        captions = world.gallery.group_captions(["p5"])["p5"]
        assert captions["en"] == ["picture 5", "drawing 5"]
    assert (run_scrub(world) == []) is sealed


@pytest.mark.parametrize("index", ["pgvector"], indirect=True)
def test_what_comes_back_from_an_engine_is_told_as_that(empty: World) -> None:
    put(empty.serve(), 1)
    empty.seal()
    with empty.registry.begin() as session:
        session.execute(update(PictureVectorRow).values(vector=b"damaged"))
    assert list_mended(run_scrub(empty)) == [("vector", "from the engine")] and run_scrub(empty) == []
