"""Backups while writes go on, by the command line, and a trial of what was restored from each."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any
from uuid import uuid4

import httpx

from tests.launcher import Program, find_free_port
from tests.postgresql_server import find_programs
from tests.torture.client import Api
from tests.torture.deployment import Deployment
from tests.torture.ledger import State, Violation, describe, name_kind
from tests.torture.looks import Looker
from tests.torture.servers import PATIENCE
from tests.torture.writes import quote_id


class Copy:
    """A backup of a deployment, and what is restored from it in a folder of its own."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.folder = deployment.folder / f"copy-{uuid4().hex}"
        self._restored = {"HOME": str(self.folder / "home"), "STORE": "", "PORT": str(find_free_port())}

    def make(self) -> None:
        """Back up, beside the backups before."""
        self.folder.mkdir()
        self._run("backup")

    def restore(self) -> None:
        """Restore into the folder, and into a new database."""
        if self._deployment.database is not None:
            self._restored["DATABASE_URL"] = self._deployment.database.create_database(self.folder.name)
        self._run("restore", **self._restored)

    def _run(self, command: str, **settings: str) -> None:
        environment = self._deployment.build_environment(**settings)
        if self._deployment.database is not None:
            environment["PATH"] = f"{find_programs()}:{os.environ['PATH']}"
        with (self.folder / "said").open("w+") as said:
            if self._start(["client", command, str(self._deployment.folder / "backups")], environment, said).wait():
                said.seek(0)
                raise Violation("undocumented", f"`pictoglot {command}` says {said.read()}")

    def _start(self, words: Sequence[str], environment: Mapping[str, str], said: IO[str]) -> Program:
        command = [sys.executable, "-m", *words]
        return Program(
            command, launcher=self._deployment.launcher, env=environment, cwd=self.folder, stdout=said, stderr=said
        )

    def check(self, looker: Looker, moments: Mapping[str, set[State]]) -> None:
        """Open it beside the running service; every picture is as it was at some moment of the copy, with its file."""
        with (self._deployment.folder / "copy.log").open("a") as log:
            serving = self._start(["service"], self._deployment.build_environment(**self._restored), log)
        api = Api("the restored copy", f"http://127.0.0.1:{self._restored['PORT']}")
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

    def _wait(self, api: Api, serving: Program) -> None:
        until, said = time.monotonic() + PATIENCE, {}
        while time.monotonic() < until and serving.poll() is None:
            with suppress(httpx.HTTPError):
                said = _body(httpx.get(f"{api.address}/readyz", timeout=10))
                if said.get("status") == "ready" and not said["degraded"]:
                    return
            time.sleep(0.2)
        raise Violation("damaged", f"a restored copy says {said}, and ends with {serving.poll()}")

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _body(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()
    return found
