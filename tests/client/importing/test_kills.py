"""An import that is killed goes on: each picture once, none lost, nothing sent twice but what was under way."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from client.importing.upload import AT_ONCE, CHUNK
from tests.client.importing.test_watching import start_import
from tests.doubles import WeightlessEncoder
from tests.patience import PATIENCE
from tests.service.harness import Service, picture, running, wait_until

PICTURES = 300


class Counting(WeightlessEncoder):
    """Remembers how many pictures it has encoded."""

    def __init__(self) -> None:
        self.encoded_count = 0

    def encode_pictures(self, images: Any, batch: int = 64) -> Any:
        self.encoded_count += len(images)
        return super().encode_pictures(images, batch)


@pytest.mark.faults
def test_a_killed_import_is_whole_after_the_next_one(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for number in range(PICTURES):
        file = folder / f"{number % 5}" / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(number, side=32))
    with running(tmp_path / "home", encoder := Counting()) as service:
        killed = start_import(service, str(folder))
        wait_until(lambda: encoder.encoded_count > PICTURES // 4)
        killed.kill()
        killed.communicate()
        wait_until(lambda: is_idle(service))
        before = len(service.context.gallery.list_ids())
        assert 0 < before < PICTURES, "it was killed while it was at work"
        said, complained = start_import(service, str(folder), "--json").communicate(timeout=PATIENCE)
        assert complained == ""
        done = json.loads(said)
        assert (len(done["added"]), done["there"], done["refused"]) == (PICTURES - before, before, [])
        expected = [f"{number % 5}/{number:03d}" for number in range(PICTURES)]
        assert service.context.gallery.list_ids() == sorted(expected)
        assert encoder.encoded_count <= PICTURES + AT_ONCE * CHUNK
        again, _ = start_import(service, str(folder)).communicate(timeout=PATIENCE)
        assert f"{PICTURES} were there before" in again


def is_idle(service: Service) -> bool:
    """Whether nothing is under way, and the gallery does not grow any more."""
    before, pictures = service.context.gallery.read_last_change(), service.context.picture_queue
    time.sleep(0.5)
    under_way = pictures.batches.requests + pictures.uploads.requests
    return under_way == 0 and service.context.gallery.read_last_change() == before
