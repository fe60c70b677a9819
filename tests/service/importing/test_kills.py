"""An import that is killed goes on: each picture once, none lost, nothing sent twice but what was under way."""

from pathlib import Path
from typing import Any

import pytest

from service.cli.importing.run import AT_ONCE
from tests.doubles import WeightlessEncoder
from tests.service.harness import picture, running, wait_until
from tests.service.importing.test_watching import started

PICTURES = 150


class Counting(WeightlessEncoder):
    """Remembers how many pictures it has encoded."""

    def __init__(self) -> None:
        self.encoded = 0

    def pictures(self, images: Any, batch: int = 64) -> Any:
        self.encoded += len(images)
        return super().pictures(images, batch)


@pytest.mark.faults
def test_a_killed_import_is_whole_after_the_next_one(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for number in range(PICTURES):
        file = folder / f"{number % 5}" / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(number, side=32))
    with running(tmp_path / "home", encoder := Counting()) as service:
        killed = started(service, str(folder))
        wait_until(lambda: encoder.encoded > PICTURES // 4, 60)
        killed.kill()
        killed.communicate()
        before = service.context.gallery.ids()
        assert 0 < len(before) < PICTURES, "it was killed while it was at work"
        done = started(service, str(folder))
        said, complained = done.communicate(timeout=120)
        assert (done.returncode, complained) == (0, "")
        assert f"{PICTURES} of {PICTURES} pictures are in the gallery" in said
        expected = [f"{number % 5}/{number:03d}" for number in range(PICTURES)]
        assert service.context.gallery.ids() == sorted(expected)
        assert encoder.encoded <= PICTURES + AT_ONCE
        again, _ = started(service, str(folder)).communicate(timeout=60)
        assert f"{PICTURES} were there before" in again
        assert encoder.encoded <= PICTURES + AT_ONCE
