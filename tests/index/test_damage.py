"""I1 to I6 and I12: a live index never serves what it cannot verify, but an older, intact release."""

from collections.abc import Callable
from time import monotonic, sleep

import pytest

from index import generation
from index.engine import Index, Matrix
from index.engine.faiss_engine import FaissEngine
from index.errors import IndexFileCorrupt, IndexUnavailable, OutOfMemory
from model import storage
from model.errors import PictoglotError, StorageFull, VersionCorrupt
from tests.index.world import World, content, drawn, flip, nearest_captions, nearest_pictures


def test_a_damaged_version_is_not_swapped_in_and_the_old_release_goes_on(world: World) -> None:
    live = world.started()
    live.put_picture("a", content(1), drawn(1))
    old = live.current.release
    new = world.teach("cy", {"a": "ci"})
    flip(world.version_folder(1) / "rows.safetensors")
    with pytest.raises(VersionCorrupt):
        live.open(new)
    live.refresh()
    assert live.current.release == old and "version_corrupt" in live.current.degraded[0]
    assert world.registry.releases.serving() == new  # a live index does not move the alias
    live.put_picture("b", content(2), drawn(2))
    assert nearest_pictures(live, 2)[0] == "b"


@pytest.mark.parametrize("file", ["vectors.safetensors", "ids.json", "manifest.json"])
def test_a_damaged_generation_is_not_swapped_in(world: World, file: str) -> None:
    live = world.started()
    live.put_picture("a", content(1), drawn(1))
    old = live.current.release
    new = world.teach("cy", {"a": "ci"})
    (folder,) = (world.home / "generations").glob("captions-*")
    flip(folder / file)
    with pytest.raises(IndexFileCorrupt):
        live.open(new)
    live.refresh()
    assert live.current.release == old and "index_file_corrupt" in live.current.degraded[0]


def test_a_start_falls_back_to_the_newest_release_that_can_be_verified(world: World) -> None:
    world.put("a", 1)
    good = world.teach("cy", {"a": "ci"})
    world.teach("de", {"a": "Hund"})
    world.teach("fr", {"a": "chien"})
    flip(world.version_folder(2) / "rows.safetensors")  # de, whose rows are in the shared table of fr
    live = world.started()
    assert live.current.release == good and set(live.current.views) == {"en", "cy"}
    assert len(live.current.degraded) == 3 and f"Release {good.number} serves" in live.current.degraded[2]


def test_a_start_makes_a_damaged_generation_again_from_the_registry(world: World) -> None:
    world.put("a", 1)
    release = world.teach("cy", {"a": "ci"})
    (folder,) = (world.home / "generations").glob("captions-*")
    (folder / "vectors.safetensors").write_bytes(b"")
    encoded = world.encoder.texts_encoded
    live = world.started()
    assert live.current.release == release and nearest_captions(live, "cy", 1, "ci") == [("ci", "a")]
    assert world.encoder.texts_encoded == encoded
    live.close()
    assert "index_file_corrupt" in live.current.degraded[0] and live.verify() == []
    assert world.started().current.degraded == ()


def test_a_damaged_generation_of_nothing_is_made_again_too(world: World) -> None:
    world.teach("cy")
    (folder,) = (world.home / "generations").glob("captions-*")
    (folder / "vectors.safetensors").write_bytes(b"")
    live = world.started()
    assert "index_file_corrupt" in live.current.degraded[0]
    live.close()
    assert world.started().current.degraded == ()


def test_damage_that_cannot_be_repaired_yet_is_repaired_later(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "ci"})
    (folder,) = (world.home / "generations").glob("captions-*")
    (folder / "vectors.safetensors").write_bytes(b"")
    clock, attempts = Clock(), []

    def full_at_first(*_: object) -> None:
        attempts.append(clock.now)
        if clock.now == 0:
            raise StorageFull

    monkeypatch.setattr(storage, "require_free", full_at_first)
    live = world.started(clock=clock)
    wait_until(lambda: "compaction failed" in caplog.text)
    assert not storage.intact(folder)
    live.refresh()  # not tried again at once
    clock.now += 61
    live.refresh()
    live.close()  # every attempt that was begun has ended
    assert attempts == [0, 61] and storage.intact(folder)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait, at most a minute, for work in the background."""
    deadline = monotonic() + 60
    while not condition():
        assert monotonic() < deadline
        sleep(0.01)


class Clock:
    """A clock that only the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Away(FaissEngine):
    """An engine that raises `error`, if it is set."""

    error: Exception | None = None

    def build(self, vectors: Matrix) -> Index:
        if self.error is not None:
            raise self.error
        return super().build(vectors)


@pytest.mark.parametrize("error", [IndexUnavailable("the server does not answer"), StorageFull()])
def test_an_unavailable_service_is_reported_and_not_tried_twice_a_second(world: World, error: PictoglotError) -> None:
    world.put("a", 1)
    clock = Clock()
    engine = Away()
    live = world.live_index(engine=engine, clock=clock)
    assert live.start()
    old, new = live.current.release, world.teach("cy", {"a": "ci"})
    engine.error = error
    live.refresh()
    assert live.current.release == old and error.code in live.current.degraded[0]
    engine.error = None
    live.refresh()
    assert live.current.release == old
    clock.now += 61
    assert live.refresh() and live.current.release == new
    live.close()


@pytest.mark.parametrize("error", [IndexUnavailable("the server does not answer"), StorageFull()])
def test_a_start_while_a_service_is_unavailable_serves_as_soon_as_it_is_back(
    world: World, error: PictoglotError
) -> None:
    world.put("a", 1)
    clock = Clock()
    world.started().compact(at=0)
    new = world.teach("cy", {"a": "ci"})
    engine = Away()
    engine.error = error
    live = world.live_index(engine=engine, clock=clock)
    assert not live.start()
    with pytest.raises(IndexUnavailable):
        _ = live.current
    engine.error = None
    clock.now += 61
    assert live.refresh() and live.current.release == new
    live.close()


def test_nothing_serves_when_no_release_can_be_verified(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.teach("cy")
    languages = {"en": 0, "cy": 1}
    world.registry.releases.publish(expected=2, shared=1, languages=languages, actor="t", reason="", change={})
    flip(world.version_folder(1) / "rows.safetensors")
    monkeypatch.setattr(world.registry.releases, "list", lambda **_: [])  # no ancestor is left
    live = world.live_index()
    assert not live.start()
    with pytest.raises(IndexUnavailable):
        _ = live.current


def test_a_damaged_release_is_served_once_it_is_repaired(world: World) -> None:
    clock = Clock()
    live = world.started(clock=clock)
    new = world.teach("cy")
    file = world.version_folder(1) / "rows.safetensors"
    good = file.read_bytes()
    flip(file)
    live.refresh()
    file.write_bytes(good)
    live.refresh()
    assert live.current.release != new  # not verified again and again
    clock.now += 61
    assert live.refresh() and live.current.release == new and live.current.degraded == ()


def test_no_room_for_a_second_snapshot_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    live = world.started()
    old = live.current.release
    new = world.teach("cy")

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(world.encoder, "open", full)
    with pytest.raises(OutOfMemory):
        live.open(new)
    live.refresh()
    assert live.current.release == old and "out_of_memory" in live.current.degraded[0]


def test_verify_names_what_differs(world: World) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "ci"})
    live = world.started()
    assert live.verify() == []
    flip(world.version_folder(1) / "rows.safetensors")
    (folder,) = (world.home / "generations").glob("captions-*")
    flip(folder / "ids.json")
    assert [problem.split()[0] for problem in live.verify()] == ["Version", "Generation"]


def test_whatever_fails_in_the_background_is_logged_once_and_tried_again_later(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, attempts = Clock(), []
    live = world.started(clock=clock, compact_at=0)

    def full(*_: object) -> None:
        attempts.append(clock.now)
        raise MemoryError

    monkeypatch.setattr(generation, "write", full)
    world.put("a", 1)
    live.refresh()
    wait_until(lambda: "compaction failed (MemoryError)" in caplog.text)
    for _ in range(10):
        live.refresh()
    clock.now += 61
    live.refresh()
    live.close()  # every attempt that was begun has ended
    assert attempts == [0, 61] and caplog.text.count("compaction failed") == 2


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("a bug of a library"), KeyError("x")])
def test_a_release_that_cannot_be_opened_is_not_tried_twice_a_second_whatever_the_reason(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    clock, attempts = Clock(), []
    live = world.started(clock=clock)
    old, new = live.current.release, world.teach("cy")

    def fail(*_: object, **__: object) -> None:
        attempts.append(clock.now)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(world.encoder, "open", fail)
        for _ in range(10):
            live.refresh()
    assert len(attempts) == 1 and caplog.text.count("cannot be opened") == 1
    assert live.current.release == old and live.current.degraded != ()
    clock.now += 61
    assert live.refresh() and live.current.release == new
