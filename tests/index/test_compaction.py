"""Compaction changes no answer, and a kill leaves a picture complete or absent."""

import os
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from index import generation
from model import storage
from tests.doubles import picture_vector, text_vector
from tests.index.world import World, content, drawn, flip, nearest_pictures

ROOT = Path(__file__).parents[2]


def test_compaction_changes_no_answer(world: World) -> None:
    live = world.started()
    for seed in range(40):
        live.put_picture(f"p{seed}", content(seed), drawn(seed), {"en": [f"picture {seed}", f"drawing {seed}"]})
    assert live.compact(at=10) == 2
    for seed in range(0, 40, 3):
        live.delete_picture(f"p{seed}")
    live.put_picture("p1", content(77), drawn(77))
    vectors = [picture_vector(drawn(seed).rgb) for seed in range(10)]
    before = [live.current.search_pictures(vector, 40) for vector in vectors]
    texts = live.current.search_captions(text_vector(0, "picture 5"), ["en"], 99)
    assert live.compact(at=0) == 2
    assert live.current.pictures.tail_size == 0
    assert [live.current.search_pictures(vector, 40) for vector in vectors] == before
    assert live.current.search_captions(text_vector(0, "picture 5"), ["en"], 99) == texts
    again = world.started()
    assert [again.current.search_pictures(vector, 40) for vector in vectors] == before
    assert again.current.generations == live.current.generations


def test_compaction_keeps_two_generations_and_what_was_put_meanwhile(world: World) -> None:
    live = world.started()
    for round in range(4):
        live.put_picture(f"p{round}", content(round), drawn(round))
        live.compact(at=0)
    assert len(list((world.home / "generations").glob("pictures-*"))) == 2
    assert world.started().current.pictures.count == 4


def test_a_tail_that_grew_is_compacted_in_the_background(world: World) -> None:
    live = world.started(compact_at=8)
    for seed in range(20):
        live.put_picture(f"p{seed}", content(seed), drawn(seed))
    live.close()
    assert live.current.pictures.count == 20 and live.current.pictures.tail_size < 20
    assert world.generation_folder(live.current.pictures.generation).is_dir()
    assert world.started().current.pictures.count == 20


def test_a_compaction_that_fails_leaves_the_tail_serving(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "require_free", full)
    live, fingerprint = world.started(compact_at=4), world.encoder.image_fingerprint
    for seed in range(8):
        world.gallery.put(f"p{seed}", content(seed), 32, 32, None, picture_vector(drawn(seed).rgb), fingerprint)
    live.refresh()
    live.close()
    assert live.current.pictures.count == live.current.pictures.tail_size == 8
    assert "compaction failed" in caplog.text
    assert not list((world.home / "generations").glob("*"))


def test_of_two_compactions_at_once_one_writes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    live = world.started()
    live.put_picture("a", content(1), drawn(1))
    write, others = generation.write, list[Future[int]]()

    def overtaken(*given: Any) -> generation.WrittenGeneration:
        if not others:
            others.append(pool.submit(live.compact, 0))
            with suppress(TimeoutError):
                others[0].result(0.5)  # long enough to write the same set too
        return write(*given)

    monkeypatch.setattr(generation, "write", overtaken)
    with ThreadPoolExecutor(1) as pool:
        assert live.compact(at=0) == 1
    assert others[0].result() == 0


def test_a_damaged_generation_is_written_again_once(world: World) -> None:
    world.put("a", 1)
    world.teach("cy", {"a": "ci"})
    (folder,) = (world.home / "generations").glob("captions-*")
    flip(folder / "vectors.safetensors")
    live = world.live_index()
    assert live.start()
    live.close()
    assert storage.intact(folder)
    live.put_picture("b", content(2), drawn(2))
    assert live.compact() == 0


KILLED = """
import sys
from pathlib import Path
from tests.index.world import World, content, drawn
World(Path(sys.argv[1])).started().put_picture("b", content(2), drawn(2), {"en": ["two"]})
"""


@pytest.mark.faults
@pytest.mark.parametrize(("point", "kept"), [("storage.renamed:2", False), ("picture.committed:1", True)])
def test_a_picture_whose_put_was_killed_is_there_whole_or_not_at_all(world: World, point: str, kept: bool) -> None:
    """I9: before and after the commit."""
    world.put("a", 1)
    environment = {**os.environ, "FAULT_POINT": point}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(world.home)], cwd=ROOT, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    for path in world.home.rglob("*"):
        os.utime(path, (1, 1))  # an hour later
    live = world.started()
    live.close()  # the sweep is done
    assert nearest_pictures(live, 2) == (["b", "a"] if kept else ["a"])
    assert live.current.captions_of("b") == ({"en": ["two"]} if kept else {})
    assert world.gallery.content_path(content(2)).exists() == kept
