"""A live index never serves what it cannot verify, but an older, intact release."""

import pytest

from store.errors import IndexUnavailable, OutOfMemory, PictoglotError, StorageFull, StoreUnavailable, VersionCorrupt
from tests.index.world import Clock, World, fail_with, find_pictures, flip, put_picture
from tests.registries import publish_release


@pytest.mark.row("R6")
def test_a_damaged_version_is_not_swapped_in_and_the_old_release_goes_on(world: World) -> None:
    live = world.serve()
    put_picture(live, "a", 1)
    old = live.current.release
    new = world.teach("cy", {"a": "ci"})
    flip(world.get_folder(1) / "rows.safetensors")
    with pytest.raises(VersionCorrupt):
        live.open(new)
    live.refresh()
    assert live.current.release == old and "version_corrupt" in live.current.degraded[0]
    assert world.registry.releases.get_serving() == new  # a live index does not move the alias
    put_picture(live, "b", 2)
    assert find_pictures(live, 2)[0] == "b"


@pytest.mark.row("I5")
def test_a_start_falls_back_to_the_newest_release_that_can_be_verified(world: World) -> None:
    world.put("a", 1)
    good = world.teach("cy", {"a": "ci"})
    world.teach("de", {"a": "Hund"})
    world.teach("fr", {"a": "chien"})
    flip(world.get_folder(2) / "rows.safetensors")  # de, whose rows are in the shared table of fr
    live = world.serve()
    assert live.current.release == good and set(live.current.views) == {"en", "cy"}
    assert len(live.current.degraded) == 3 and f"Release {good.number} serves" in live.current.degraded[2]


@pytest.mark.parametrize("error", [StoreUnavailable(), StorageFull()])
def test_a_start_while_a_service_is_unavailable_serves_as_soon_as_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch, error: PictoglotError
) -> None:
    world.put("a", 1)
    clock = Clock()
    new = world.teach("cy", {"a": "ci"})
    restored = publish_release(world.registry, expected=2, shared=1, languages=new.languages)
    live = world.make_live(clock=clock)
    with monkeypatch.context() as patch:
        fail_reads(world, patch, error)
        patch.setattr(world.registry.releases, "list", lambda **_: [])  # no release before this one
        assert not live.start()
        with pytest.raises(IndexUnavailable):
            _ = live.current
    clock.now += 61
    assert live.refresh() and live.current.release == restored


def fail_reads(world: World, patch: pytest.MonkeyPatch, error: PictoglotError) -> None:
    """Let the folder of every version be unavailable."""

    patch.setattr(world.encoder, "open", fail_with(error))


@pytest.mark.row("I6")
def test_nothing_serves_when_no_release_can_be_verified(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.teach("cy")
    languages = {"en": 0, "cy": 1}
    publish_release(world.registry, expected=2, shared=1, languages=languages)
    flip(world.get_folder(1) / "rows.safetensors")
    monkeypatch.setattr(world.registry.releases, "list", lambda **_: [])  # no ancestor is left
    live = world.make_live()
    assert not live.start()
    with pytest.raises(IndexUnavailable):
        _ = live.current


def test_a_damaged_release_is_served_once_it_is_repaired(world: World) -> None:
    clock = Clock()
    live = world.serve(clock=clock)
    new = world.teach("cy")
    file = world.get_folder(1) / "rows.safetensors"
    good = file.read_bytes()
    flip(file)
    live.refresh()
    file.write_bytes(good)
    live.refresh()
    assert live.current.release != new  # not verified again and again
    assert live.verify() == [
        f"Release {new.number} cannot be opened (version_corrupt).",
        "Release 1 is still served.",
    ]
    clock.now += 61
    assert live.refresh() and live.current.release == new and live.current.degraded == ()


@pytest.mark.row("I12")
def test_no_room_for_a_second_snapshot_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    live = world.serve()
    old = live.current.release
    new = world.teach("cy")

    monkeypatch.setattr(world.encoder, "open", fail_with(MemoryError()))
    with pytest.raises(OutOfMemory):
        live.open(new)
    live.refresh()
    assert live.current.release == old and "out_of_memory" in live.current.degraded[0]


def test_verify_names_what_differs(world: World) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "ci"})
    live = world.serve()
    assert live.verify() == []
    flip(world.get_folder(1) / "rows.safetensors")
    (folder,) = world.list_segments("captions")
    flip(folder / "index.faiss")
    assert [problem.split()[0] for problem in live.verify()] == ["Version", "Segment"]
