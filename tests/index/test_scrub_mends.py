"""F4: from what a scrub makes segments and captions again, and when it leaves them as they are."""

import pytest
from sqlalchemy import delete, select, update

from store.clock import now
from store.data_root import DataRoot
from store.tables import CaptionRow, CaptionVectorRow, PictureVectorRow, VectorSetRow, VersionRow
from tests.bitrot import flip
from tests.index.test_scrub import fill_world, find_english, run_scrub
from tests.index.test_scrub_to_its_end import execute, list_mended
from tests.index.world import Machines, World, put, put_picture

pytestmark = pytest.mark.row("F4")


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


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("sealed", [True, False])
def test_a_caption_that_is_no_text_any_more_comes_back(world: World, database: str, sealed: bool) -> None:
    live = put(world.serve(), *range(6))
    put_picture(live, "other", 7, {"en": [r"C:\pictures"]})
    if sealed:
        world.seal()
    if database == "postgresql":  # which checks what it is given, unless a cast has no function
        execute(world, "CREATE CAST (bytea AS text) WITHOUT FUNCTION")
        execute(world, r"UPDATE captions SET text = '\xff'::bytea::text WHERE text = 'picture 5'")
        execute(world, "DROP CAST (bytea AS text)")
    else:
        execute(world, "UPDATE captions SET text = CAST(x'ff' AS TEXT) WHERE text = 'picture 5'")
    assert list_mended(run_scrub(world)) == [("caption", "from a segment" if sealed else "")]
    if sealed:
        captions = world.gallery.group_captions(["p5"])["p5"]
        assert run_scrub(world) == [] and captions["en"] == ["picture 5", "drawing 5"]


@pytest.mark.parametrize("index", ["pgvector"], indirect=True)
def test_what_comes_back_from_an_engine_is_told_as_that(empty: World) -> None:
    put(empty.serve(), 1)
    empty.seal()
    with empty.registry.begin() as session:
        session.execute(update(PictureVectorRow).values(vector=b"damaged"))
    assert list_mended(run_scrub(empty)) == [("vector", "from the engine")] and run_scrub(empty) == []
