"""A copy of everything while writes go on, as docs/operate.md makes one, and a trial of restoring it."""

import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any
from uuid import uuid4

import httpx

from tests.torture.client import Api
from tests.torture.deployment import Deployment, find_program
from tests.torture.ledger import State, Violation, describe, name_kind
from tests.torture.looks import Looker
from tests.torture.servers import PATIENCE, free_port
from tests.torture.writes import quote_id

LEFT_OUT = ("registry.db", "registry.db-wal", "registry.db-shm", "verified", "compiled", "teacher", "uploads")


class Copy:
    """A copy of a deployment in a folder of its own."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.folder = deployment.folder / f"copy-{uuid4().hex}"
        self._files, self._url = self.folder / "files", ""

    def make(self) -> None:
        """Copy files, registry, and the files that came meanwhile."""
        self._files.mkdir(parents=True)
        self._copy_files()
        database = self._deployment.database
        if database is not None:
            dump = self.folder / "registry.dump"
            database.dump(dump)
            self._url = database.restore(dump, self.folder.name.replace("-", ""))
        else:
            registry = f"file:{self._deployment.home}/registry.db?mode=ro"
            copied = sqlite3.connect(self._files / "registry.db")
            with closing(sqlite3.connect(registry, uri=True, timeout=30)) as source, closing(copied) as target:
                source.backup(target)
        self._copy_files()

    def _copy_files(self) -> None:
        home = self._deployment.home
        for file in sorted(home.rglob("*")):
            target = self._files / file.relative_to(home)
            if file.relative_to(home).parts[0] in (*LEFT_OUT, "filler") or target.exists() or not file.is_file():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # removed meanwhile, as segments are that were merged
                shutil.copy2(file, target)

    def check(self, looker: Looker, moments: Mapping[str, set[State]]) -> None:
        """Open it beside the running service; every picture is as it was at some moment of the copy, with its file."""
        more = {"HOME": str(self._files), "PORT": str(free_port())}
        if self._url:
            more["DATABASE_URL"] = self._url
        with (self._deployment.folder / "copy.log").open("ab") as log:
            serving = subprocess.Popen(
                [*find_program(), "serve"],
                env=self._deployment.build_environment(**more),
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        api = Api("the restored copy", f"http://127.0.0.1:{more['PORT']}")
        try:
            self._wait(api, serving)
            verified = api.ask("POST", "/v1/admin/index/verify")
            if not (verified.is_ok and verified.body["ok"]):
                raise Violation("damaged", f"index verify of a restored copy says {verified.body}")
            listed = {item["id"]: looker.record(item) for item in api.list_all("/v1/pictures")}
            for id in {*listed, *moments}:
                states = moments.get(id, {None})
                if listed.get(id) not in states:
                    kind = name_kind(states, listed.get(id))
                    raise Violation(kind, f"a restored copy has {id} as {listed.get(id)}, not as {describe(states)}")
                if id in listed and not (found := api.ask("GET", f"/v1/pictures/{quote_id(id)}/content")).is_ok:
                    raise Violation("lost", f"the file of {id} is answered {found.status} by a restored copy")
        finally:
            serving.send_signal(signal.SIGTERM)
            serving.wait(PATIENCE)
            api.close()

    def _wait(self, api: Api, serving: "subprocess.Popen[bytes]") -> None:
        until, said = time.monotonic() + PATIENCE, {}
        while time.monotonic() < until and serving.poll() is None:
            with suppress(httpx.HTTPError):
                said = _body(httpx.get(f"{api.address}/readyz", timeout=10))
                if said.get("status") == "ready" and not said["degraded"]:
                    return
            time.sleep(0.2)
        raise Violation("damaged", f"a restored copy says {said}, and ends with {serving.poll()}")

    def remove(self) -> None:
        """Remove it again."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _body(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()
    return found
