"""A real service and worker on a temporary data root, with a small part of the demo gallery. Drives no browser."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from demo import dataset
from demo.gallery import Outline, draw_pictures, list_outlines
from tests.durability.deployment import Deployment
from tests.patience import PATIENCE


def choose_outlines(singles: int, scenes: int) -> list[Outline]:
    """Return some single drawings from all over the catalogue, with the red apple among them, and some scenes."""
    drawn = [outline for outline in list_outlines() if outline.id.startswith("emoji-")]
    kept = drawn[:: max(1, len(drawn) // singles)][:singles]
    apple = [outline for outline in drawn if outline.id == "emoji-1f34e" and outline not in kept]
    return kept + apple + [outline for outline in list_outlines() if outline.id.startswith("scene-")][:scenes]


@dataclass
class Site(Deployment):
    """A deployment that anybody may read; `fill` starts it."""

    gallery: Sequence[Outline] = ()

    def fill(self) -> None:
        """Start both processes and fill the gallery."""
        self.variables["MATCH_SECONDS"] = "86400"  # what is held back would change while a test runs
        self.start("service", OPEN="1")
        self.start("worker", "tests.eager_worker")
        assert self.is_ready(), self.log_end()
        left_out = {outline.id for outline in list_outlines()} - {outline.id for outline in self.gallery}
        for picture in draw_pictures(without=left_out):
            files = {"picture": ("picture.png", picture.content)}
            form = {"captions": json.dumps(picture.captions)}
            self.client.put(f"/v1/pictures/{picture.id}", files=files, data=form).raise_for_status()

    def build_dataset(self, tag: str) -> bytes:
        """Return the rows of the demo's dataset whose pictures are in this gallery."""
        ids = {outline.id for outline in self.gallery}
        rows = [row for row in dataset.build_rows(tag) if row["picture"] in ids]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()

    def teach(self, tag: str, **settings: object) -> dict[str, Any]:
        """Teach a language and wait until it serves, even if so little training gained nothing."""
        form = {"language": tag, "settings": json.dumps(settings), "force": "true"}
        answer = self.client.post("/v1/languages", data=form, files={"dataset": ("d.jsonl", self.build_dataset(tag))})
        item = self.wait_for_end(answer.raise_for_status().json()["expansion"]["id"])
        assert item["state"] == "succeeded", (item, self.log_end())
        until = time.monotonic() + PATIENCE
        while tag not in self.list_languages():
            assert time.monotonic() < until
            time.sleep(0.1)
        return item

    def list_languages(self) -> list[str]:
        items = self.client.get("/v1/languages").json()["items"]
        return [item["language"] for item in items if item["version"] is not None]
