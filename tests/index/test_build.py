"""I10: building a language's captions resumes by shard, and writes the same files however often it was killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from index import generation
from index.build import build_captions, write
from index.catalogue import Catalogue
from index.engine import Index, Matrix
from index.engine.faiss_engine import SCAN, FaissEngine
from index.errors import IndexUnavailable
from index.generation import Identity
from index.sync import CaptionSource, expansions_of
from index.vectors import Entry, VectorSet
from model import storage
from tests.doubles import WeightlessView, text_vector
from tests.index.world import World

ROOT = Path(__file__).parents[2]
PICTURES = 40


def filled(world: World) -> World:
    """Forty pictures, and a trained version whose captions are not encoded yet."""
    for seed in range(PICTURES):
        world.put(f"p{seed:02d}", seed, {"cy": [f"llun {seed}"], "en": [f"picture {seed}"]})
    world.trained_version("cy", {f"p{seed:02d}": f"disgrifiad {seed}" for seed in range(0, PICTURES, 2)})
    return world


def identity(world: World, version: int = 1) -> Identity:
    encoder = world.encoder
    return Identity("captions", encoder.text_fingerprint, encoder.dimension, "cy", version)


def test_a_generation_holds_the_captions_of_the_language_as_the_version_reads_them(world: World) -> None:
    filled(world)
    written = world.encode("cy", 1)
    opened = generation.read(
        world.generation_folder(written.id), written.manifest_sha256, identity(world), FaissEngine()
    )
    assert opened.entries == sorted(
        [Entry(f"p{seed:02d}", f"llun {seed}") for seed in range(PICTURES)]
        + [Entry(f"p{seed:02d}", f"disgrifiad {seed}") for seed in range(0, PICTURES, 2)]
    )
    for entry, vector in zip(opened.entries, opened.vectors, strict=True):
        assert vector.tobytes() == text_vector(1, entry.text).tobytes()


def test_building_again_encodes_nothing_and_registers_one_generation(world: World) -> None:
    filled(world)
    first = world.encode("cy", 1)
    encoded = world.encoder.texts_encoded
    assert world.encode("cy", 1) == first and world.encoder.texts_encoded == encoded == PICTURES * 3 // 2
    assert [registered.id for registered in Catalogue(world.registry, world.root).of(identity(world))] == [first.id]


def test_progress_is_told_after_every_shard(world: World) -> None:
    seen: list[tuple[int, int]] = []
    filled(world)
    world.encode("cy", 1, on_progress=lambda done, total: seen.append((done, total)), shard=15)
    assert seen == [(15, 40), (30, 40), (40, 40)]


def test_a_build_that_is_stopped_goes_on_at_the_shard_it_was_at(world: World) -> None:
    filled(world)

    def stop(done: int, _: int) -> None:
        if done >= 20:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        world.encode("cy", 1, on_progress=stop, shard=10)
    encoded = world.encoder.texts_encoded
    world.encode("cy", 1, shard=10)
    assert (encoded, world.encoder.texts_encoded) == (30, 60)


KILLED = """
import sys
from pathlib import Path
from tests.index.world import World
World(Path(sys.argv[1])).encode("cy", 1, shard=5)
"""


def files(world: World) -> dict[str, bytes]:
    """The files that a build in shards of five writes; also checks that there is only one generation."""
    written = world.encode("cy", 1, shard=5)
    assert [registered.id for registered in Catalogue(world.registry, world.root).of(identity(world))] == [written.id]
    return {file.name: file.read_bytes() for file in world.generation_folder(written.id).iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a build that nothing interrupted."""
    world = filled(World(tmp_path_factory.mktemp("whole")))
    expected = files(world)
    world.close()
    return expected


@pytest.mark.faults
@pytest.mark.parametrize("point", ["build.shard:4", "storage.written:1", "storage.renamed:1", "build.written:1"])
def test_killed_builds_end_in_the_same_files_as_one_that_was_not(
    world: World, whole: dict[str, bytes], point: str
) -> None:
    filled(world)
    environment = {**os.environ, "FAULT_POINT": point}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(world.home)], cwd=ROOT, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert files(world) == whole


def test_a_picture_put_while_building_is_taken_in_from_the_feed(world: World) -> None:
    filled(world)

    def put(done: int, _: int) -> None:
        if done == 20:
            world.put("p03", 3, {"cy": ["wedi newid"]})
            world.gallery.delete("p04")
            world.put("new", 99, {"cy": ["newydd"]})

    expansion = world.registry.expansions.list()[0]
    world.encode("cy", 1, on_progress=put, shard=10)
    world.registry.releases.publish(
        expected=1, shared=0, languages={"en": 0, "cy": 1}, actor="test", reason="", change={"kind": "test"}
    )
    captions = world.started().current.captions["cy"]
    assert expansion.language == "cy"
    assert [captions.entries_of(picture) for picture in ("p03", "p04", "new")] == [
        [Entry("p03", "wedi newid")],
        [],
        [Entry("new", "newydd")],
    ]


def test_a_caption_from_two_sources_is_found_once(world: World) -> None:
    world.put("a", 1, {"cy": ["ci"]})
    world.trained_version("cy", {"a": "ci"})
    assert world.encode("cy", 1).count == 1


def test_a_version_shows_its_languages_captions_up_to_it_without_those_taken_back(world: World) -> None:
    world.put("a", 1)
    for text in ("un", "dau"):
        world.teach("cy", {"a": text})
    world.registry.releases.roll_back("cy", actor="test", reason="")
    world.teach("cy", {"a": "tri"})
    expansions = {version.number: version.expansion for version in world.registry.versions.of("cy")}
    assert expansions_of(world.registry, "cy", 1) == {expansions[1]}
    assert expansions_of(world.registry, "cy", 2) == {expansions[1], expansions[2]}
    assert expansions_of(world.registry, "cy", 3) == {expansions[1], expansions[3]}


def test_captions_that_a_restored_release_took_back_are_not_in_the_next_version(world: World) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "un"})
    world.registry.releases.restore(1, expected=2, actor="test", reason="")
    live = world.started()
    world.teach("cy", {"a": "dau"})
    live.refresh()
    assert live.current.captions_of("a") == {"cy": ["dau"]}


def test_captions_that_a_restored_release_brought_back_stay_in_the_next_version(world: World) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "un"})
    world.registry.releases.roll_back("cy", actor="test", reason="")
    world.registry.releases.restore(2, expected=3, actor="test", reason="")
    live = world.started()
    world.teach("cy", {"a": "dau"})
    live.refresh()
    assert live.current.captions_of("a") == {"cy": ["dau", "un"]}


def test_captions_of_an_expansion_that_was_cancelled_before_it_served_are_never_shown(world: World) -> None:
    world.put("a", 1)
    lease, _ = world.trained_version("cy", {"a": "un"})
    world.registry.expansions.cancelled(lease)
    world.teach("cy", {"a": "dau"})
    assert world.started().current.captions_of("a") == {"cy": ["dau"]}


def test_before_and_after_its_promotion_a_version_shows_the_same_captions(world: World) -> None:
    world.teach("cy")
    _, version = world.trained_version("cy")
    expansions = {other.expansion for other in world.registry.versions.of("cy")}
    assert expansions_of(world.registry, "cy", version.number) == expansions
    routed = {"cy": version.number}
    for expected, languages in ((2, routed), (3, {}), (4, routed)):  # only the first time it serves counts
        world.registry.releases.publish(
            expected=expected, shared=1, languages=languages, actor="test", reason="", change={"kind": "test"}
        )
        assert expansions_of(world.registry, "cy", version.number) == expansions


def test_build_captions_is_the_name_the_worker_calls(world: World) -> None:
    world.put("a", 1, {"cy": ["ci"]})
    view = WeightlessView(0)
    assert build_captions(world.encoder, view, world.gallery, world.registry, "cy", 0, world.root).count == 1


def test_building_one_languages_captions_reads_no_others(world: World) -> None:
    """Otherwise the 36th language would take 36 times as long as the first."""
    filled(world)
    read: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        if "captions.text" in statement:
            read.append((statement, parameters))

    event.listen(world.registry.engine, "before_cursor_execute", note)
    world.encode("cy", 1)
    assert read and all("captions.language = " in text and "cy" in values for text, values in read)


def test_a_generation_that_cannot_be_opened_is_not_registered(world: World) -> None:
    filled(world)
    live = world.started()
    view = WeightlessView(1, "cy")
    source = CaptionSource(world.encoder, world.gallery, view, "cy", 1, expansions_of(world.registry, "cy", 1))
    vectors = VectorSet.empty("none", world.encoder.dimension)
    with pytest.raises(IndexUnavailable):
        write(vectors, source, world.registry, world.root, Away())
    assert Catalogue(world.registry, world.root).of(identity(world)) == []
    live.close()


def test_a_generation_that_is_removed_before_it_is_read_is_written_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweeper elsewhere took it for left over: a finished training must not fail because of that."""
    filled(world)
    live, read = world.started(), generation.read
    removed: list[Path] = []
    source = CaptionSource(world.encoder, world.gallery, WeightlessView(1, "cy"), "cy", 1, frozenset())

    def overtaken(folder: Path, *rest: Any) -> Any:
        if not removed:
            removed.append(folder)
            storage.remove(folder)
        return read(folder, *rest)

    monkeypatch.setattr(generation, "read", overtaken)
    written, _ = write(VectorSet.empty("none", world.encoder.dimension), source, world.registry, world.root, SCAN)
    assert removed and [each.id for each in Catalogue(world.registry, world.root).of(source.identity)] == [written.id]
    live.close()


class Away(FaissEngine):
    """An engine that cannot be reached."""

    def build(self, vectors: Matrix) -> Index:
        raise IndexUnavailable("the server does not answer")
