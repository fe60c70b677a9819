"""A service and a worker as processes of their own on one data root, and what is asked of them over HTTP.

Knows documented settings, HTTP, signals and the names of folders; nothing of the code inside.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from tests.launcher import Launcher, Program, find_free_port, start_module
from tests.patience import PATIENCE
from tests.service.harness import ADMIN_KEY, picture

Part = Literal["service", "worker"]
STAYING = ("new-", "batch-", "sealed-")  # ids of pictures that are never replaced nor deleted
_ENDED = ("succeeded", "failed", "cancelled")
_OLD = 2 * 86_400  # seconds: what did not change for so long is left over


@dataclass
class Deployment:
    """Processes on one data root. `log` has their standard error; `client` sends the admin key."""

    home: Path
    base: str
    log: Path
    launcher: Launcher
    variables: dict[str, str] = field(default_factory=dict)  # of every process, beside its settings
    processes: dict[Part, Program] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)  # pictures that could be read, with their state
    sent: dict[str, set[str]] = field(default_factory=dict)  # hashes of what was sent, by id

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{find_free_port()}"
        self.connect()

    def send(self, id: str, motif: int) -> tuple[str, bytes]:
        """Return one of the numbered pictures, as a file of a form, that is to be put under an id."""
        data = picture(motif)
        self.sent.setdefault(id, set()).add(hashlib.sha256(data).hexdigest())
        return ("x", data)

    def connect(self) -> None:
        """Talk to the service over new connections."""
        self.client = httpx.Client(base_url=self.url, headers={"X-API-Key": ADMIN_KEY}, timeout=PATIENCE)

    def start(self, part: Part, module: str = "", **more: str) -> Program:
        """Start one process, from its own module by default, with more settings; `is_ready` waits for the service."""
        own = {
            "HOME": str(self.home),
            "BASE": self.base,
            "PORT": self.url.rpartition(":")[2],
            "ADMIN_KEY": ADMIN_KEY,
            "BACKEND": "torch",
            "PRECISION": "float32",
            "LOG_LEVEL": "warning",
            "FREE_BYTES": "0",
            "REQUEST_SECONDS": str(PATIENCE),
            "MIN_RECALL": "0",
            "FORGETTING_BUDGET": "1",
            **more,
        }
        names = {f"PICTOGLOT_{name}": value for name, value in own.items()}
        environment = {**self.launcher.environment, **self.variables, **names}
        self.processes[part] = process = start_module([module or part], environment, self.log, self.launcher)
        return process

    def is_ready(self) -> bool:
        """Whether the service answers searches, as soon as it does or has ended."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.processes["service"].poll() is None:
            with suppress(httpx.TransportError):
                if self.client.get("/readyz").status_code == 200:
                    return True
            time.sleep(0.02)
        return False

    def stop(self, part: Part, sent: signal.Signals = signal.SIGTERM) -> int:
        """End one process and all its children; returns its exit status."""
        process = self.processes.pop(part)
        process.send_signal(sent)
        if sent != signal.SIGKILL:
            process.wait(PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait(PATIENCE)

    def freeze(self) -> None:
        """Stop all processes of ours, without disturbing what the kernel still has to write."""
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGSTOP)

    def kill(self) -> None:
        for part in [*self.processes]:
            self.stop(part, signal.SIGKILL)

    def close(self) -> None:
        """End every process and close the connections."""
        self.kill()
        self.client.close()

    def restart(self) -> None:
        """Start the service after a kill, and wait; what is left over has become old meanwhile, and is swept."""
        self.kill()
        self.make_old()
        self.start("service")
        assert self.is_ready(), self.log_end()

    def make_old(self) -> None:
        """Set the last change of every file of the data root to days ago."""
        then = time.time() - _OLD
        for path in (*self.home.rglob("*"), self.home):
            with suppress(FileNotFoundError):
                os.utime(path, (then, then), follow_symlinks=False)

    def copy_of(self, prepared: Path) -> None:
        """Replace the data root by a copy of another one."""
        shutil.rmtree(self.home)
        subprocess.run(["cp", "-a", "--reflink=auto", prepared, self.home], check=True)
        self.begin()

    def begin(self) -> None:
        """Note that what is here now is needed."""
        self.sent = {"begun": {path.name.partition(".")[0] for path in (self.home / "pictures").glob("*/*.jpg")}}

    def list_damaged_pictures(self) -> list[str]:
        """Return pictures that are listed and cannot be read; of those that did not change it is known from before."""
        problems, listed = [], set()
        for item in self.list_all("/v1/pictures"):
            state = f"{item['id']} {item['etag']}"
            for path in ("thumbnail", "content") if state not in self.read else ():
                status = self.client.get(f"/v1/pictures/{item['id']}/{path}").status_code
                if status != 200:
                    problems.append(f"the {path} of {item['id']}: {status}")
            listed.add(state)
        self.read = listed
        return problems

    def list_left_over(self) -> list[str]:
        """Return what nothing needs when the sweep of the last start is done.

        The files of what was replaced or deleted are needed for a day.
        """
        known = {item["id"] for item in self.list_all("/v1/expansions")}
        present = {item["id"] for item in self.list_all("/v1/pictures")}
        needed = {
            hash for id, sent in self.sent.items() if id in present or not id.startswith(STAYING) for hash in sent
        }
        until = time.monotonic() + PATIENCE
        while (found := self._list_left_over(known, needed)) and time.monotonic() < until:
            time.sleep(1)  # looking is work for a disk of `forgetful.py`, and the sweep's work waits for it
        return found

    def _list_left_over(self, known: set[str], needed: set[str]) -> list[str]:
        files = (self.home / "pictures").glob("*/*.jpg")
        return [
            *(str(path) for path in self.home.rglob(".tmp-*")),
            *(str(path) for path in (self.home / "expansions").glob("*") if path.name not in known),
            *(str(path) for path in (self.home / "uploads").glob("*")),
            *(str(path) for path in files if path.name.partition(".")[0] not in needed),
        ]

    def log_end(self) -> str:
        """Return the last lines that the processes wrote."""
        return self.log.read_text(errors="replace")[-6_000:]

    def has_ended(self, expansion: str) -> bool:
        """Whether an expansion has, however."""
        return self.client.get(f"/v1/expansions/{expansion}").json().get("state") in _ENDED

    def wait_for_end(self, expansion: str) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while True:
            item: dict[str, Any] = self.client.get(f"/v1/expansions/{expansion}").json()
            if item["state"] in _ENDED:
                return item
            assert time.monotonic() < until, f"{item}\n{self.log_end()}"
            time.sleep(0.05)

    def list_all(self, path: str) -> Iterator[dict[str, Any]]:
        cursor: str | None = ""
        while cursor is not None:
            page = self.client.get(path, params={"limit": 100, **({"cursor": cursor} if cursor else {})})
            page.raise_for_status()
            yield from page.json()["items"]
            cursor = page.json().get("next_cursor")

    def put(self, id: str, motif: int, text: str) -> httpx.Response:
        """Put one of the numbered pictures, with one English caption."""
        captions = {"captions": json.dumps({"en": [text]})}
        return self.client.put(f"/v1/pictures/{id}", files={"picture": self.send(id, motif)}, data=captions)

    def learn(self, tag: str, dataset: bytes, **settings: object) -> httpx.Response:
        asked = {"epochs": 1, "vocabulary": 300, **settings}
        fields = {"language": tag, "force": "true", "confirmed": "true", "settings": json.dumps(asked)}
        return self.client.post("/v1/languages", data=fields, files={"dataset": ("x.jsonl", dataset)})
