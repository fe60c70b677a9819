"""A real service and worker on a temporary data root, with a small part of the demo gallery. Drives no browser."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from demo import dataset
from demo.gallery import Outline, draw_pictures, list_outlines
from tests.launcher import Program, find_free_port
from tests.patience import PATIENCE

ADMIN_KEY = "admin-key-of-the-browser-tests"
ENDED = ("succeeded", "failed", "cancelled")


def choose_outlines(singles: int, scenes: int) -> list[Outline]:
    """Return some single drawings from all over the catalogue, with the red apple among them, and some scenes."""
    drawn = [outline for outline in list_outlines() if outline.id.startswith("emoji-")]
    kept = drawn[:: max(1, len(drawn) // singles)][:singles]
    apple = [outline for outline in drawn if outline.id == "emoji-1f34e" and outline not in kept]
    return kept + apple + [outline for outline in list_outlines() if outline.id.startswith("scene-")][:scenes]


@dataclass
class Site:
    """One deployment. `start` returns when searches are answered, `stop` when no process is left."""

    home: Path
    gallery: Sequence[Outline]
    settings: dict[str, str] = field(default_factory=dict)
    processes: list[Program] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(
            base_url=self.url, timeout=PATIENCE, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, trust_env=False
        )

    def start(self) -> None:
        """Start both processes and fill the gallery."""
        own = {
            "HOME": str(self.home),
            "PORT": str(self.port),
            "OPEN": "1",
            "ADMIN_KEY": ADMIN_KEY,
            "MIN_RECALL": "0",
            "FORGETTING_BUDGET": "1",
            "REQUEST_SECONDS": str(PATIENCE),
            **self.settings,
        }
        environment = {**os.environ, **{f"PICTOGLOT_{name}": value for name, value in own.items()}}
        environment["MATCH_SECONDS"] = "86400"  # what is held back would change while a test runs
        for module in ("service", "tests.eager_worker"):
            with (self.home / f"{module}.log").open("ab") as log:
                command = [sys.executable, "-m", module]
                self.processes.append(Program(command, env=environment, stdout=log, stderr=log, start_new_session=True))
        self._wait_until_ready()
        left_out = {outline.id for outline in list_outlines()} - {outline.id for outline in self.gallery}
        for picture in draw_pictures(without=left_out):
            files = {"picture": ("picture.png", picture.content)}
            form = {"captions": json.dumps(picture.captions)}
            self.http.put(f"/v1/pictures/{picture.id}", files=files, data=form).raise_for_status()

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.http.close()

    def build_dataset(self, tag: str) -> bytes:
        """Return the rows of the demo's dataset whose pictures are in this gallery."""
        ids = {outline.id for outline in self.gallery}
        rows = [row for row in dataset.build_rows(tag) if row["picture"] in ids]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()

    def teach(self, tag: str, seconds: float = 240, **settings: object) -> dict[str, Any]:
        """Teach a language and wait until it serves, even if so little training gained nothing."""
        form = {"language": tag, "settings": json.dumps(settings), "force": "true"}
        answer = self.http.post("/v1/languages", data=form, files={"dataset": ("d.jsonl", self.build_dataset(tag))})
        answer.raise_for_status()
        return self.wait_until_ended(answer.json()["expansion"]["id"], seconds)

    def wait_until_ended(self, expansion: str, seconds: float = 240) -> dict[str, Any]:
        """Wait until the expansion has succeeded; otherwise fail with the log of the worker."""
        deadline = time.monotonic() + seconds
        while (item := self.http.get(f"/v1/expansions/{expansion}").json())["state"] not in ENDED:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.3)
        assert item["state"] == "succeeded", (item, self.log())
        while item["language"] not in self.list_languages():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return dict(item)

    def list_languages(self) -> list[str]:
        return [
            item["language"] for item in self.http.get("/v1/languages").json()["items"] if item["version"] is not None
        ]

    def log(self) -> str:
        return "\n".join(file.read_text(errors="replace")[-4_000:] for file in sorted(self.home.glob("*.log")))

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if self.http.get("/readyz").is_success:
                    return
            except httpx.TransportError:
                pass
            assert all(process.poll() is None for process in self.processes), self.log()
            time.sleep(0.2)
        raise AssertionError(self.log())
