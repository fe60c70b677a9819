"""What was acknowledged is there, and what was refused is not: a ledger kept by clients, held against the service.

While they write, PostgreSQL is killed within a COMMIT, or the API itself is killed at any moment.
"""

import hashlib
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import httpx
import pytest

from tests.commit_proxy import open_commit_proxy
from tests.faults.test_api_faults import started
from tests.postgresql_server import PostgreSQLServer
from tests.service.harness import picture, running, wait_until
from tests.service.processes import answers

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]
WRITERS, IDS = 3, 4  # clients, and pictures of each
ABSENT = ""


class Ledger:
    """The contents that each picture may have; one, unless the answer to the last writes was lost."""

    def __init__(self) -> None:
        self.possible: dict[str, set[str]] = {}
        self.acknowledged = 0

    def write(self, client: httpx.Client, id: str, data: bytes | None) -> None:
        """Put a picture, or delete it, and note what is sure."""
        new = ABSENT if data is None else hashlib.sha256(data).hexdigest()
        before = self.possible.setdefault(id, {ABSENT})
        try:
            if data is None:
                status = client.delete(f"/v1/pictures/{id}").status_code
            else:
                status = client.put(f"/v1/pictures/{id}", files={"picture": ("x", data)}).status_code
        except httpx.TransportError:
            status = 0
        if status in (200, 201, 204):
            self.possible[id] = {new}
            self.acknowledged += 1
        elif status == 404:
            assert ABSENT in before, f"{id} is lost"
            self.possible[id] = {ABSENT}
        else:
            assert status in (0, 503), status
            before.add(new)

    def check(self, client: httpx.Client) -> None:
        """Each picture is as it may be, and its files are there."""
        for id, possible in self.possible.items():
            answer = client.get(f"/v1/pictures/{id}")
            found = answer.json()["url"].rpartition("=")[2] if answer.status_code == 200 else ABSENT
            assert any(content.startswith(found) if found else not content for content in possible), (id, found)
            if found:
                assert client.get(f"/v1/pictures/{id}/content").status_code == 200, id
        found = {item["id"] for item in search(client)}
        surely = {id for id, possible in self.possible.items() if ABSENT not in possible}
        assert surely <= found <= {id for id, possible in self.possible.items() if possible != {ABSENT}}


def search(client: httpx.Client) -> list[dict[str, str]]:
    items: list[dict[str, str]] = client.post("/v1/search/pictures", json={"text": "a", "limit": 100}).json()["items"]
    return items


@contextmanager
def writing(client: httpx.Client, ledger: Ledger, seed: int) -> Iterator[None]:
    """Several clients put, replace and delete pictures, each its own, until the block ends."""
    ended = Event()

    def work(writer: int) -> None:
        draw = random.Random(seed * WRITERS + writer)
        while not ended.is_set():
            data = None if draw.random() < 0.2 else picture(draw.randrange(40))
            ledger.write(client, f"w{writer}-{draw.randrange(IDS)}", data)

    with ThreadPoolExecutor(WRITERS) as threads:
        done = [threads.submit(work, writer) for writer in range(WRITERS)]
        try:
            yield
        finally:
            ended.set()
        for each in done:
            each.result()


@pytest.mark.row("S4", "F3")
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.nightly)])
def test_postgresql_killed_within_a_commit_loses_nothing_acknowledged(tmp_path: Path, kills: int) -> None:
    ledger, server = Ledger(), PostgreSQLServer()
    try:
        with open_commit_proxy(server.url) as proxy, running(tmp_path, database_url=proxy.url) as service:
            for kill in range(kills):
                with writing(service.admin, ledger, kill):
                    before = ledger.acknowledged
                    wait_until(lambda before=before: ledger.acknowledged >= before + 5)
                    lost = proxy.lost
                    proxy.lose(committed=bool(kill % 2), naming="gallery_changes", act=server.kill)
                    wait_until(lambda lost=lost: proxy.lost > lost)
                    wait_until(lambda: service.http.get("/readyz").json()["degraded"])
                    server.start()
                    wait_until(lambda before=before: ledger.acknowledged >= before + 10)
                ledger.check(service.admin)
    finally:
        server.stop()
    assert ledger.acknowledged >= 10 * kills


@pytest.mark.nightly
@pytest.mark.row("S4", "I9")
def test_an_api_killed_while_pictures_come_and_go_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """SQLite: most of the time of a write is its COMMIT. `make torture` does this and more in every run."""
    ledger, draw, kills = Ledger(), random.Random(9), 100
    for kill in range(kills):
        with started(tmp_path) as (server, client):
            if ledger.possible:
                ledger.check(client)
            with writing(client, ledger, kill):
                before, some = ledger.acknowledged, draw.randrange(1, 20)
                wait_until(lambda before=before, some=some: ledger.acknowledged >= before + some)
                server.send_signal(signal.SIGKILL)
                server.wait()
    with started(tmp_path) as (_, client):
        wait_until(lambda: answers(client, "/readyz") == 200)
        ledger.check(client)
    assert ledger.acknowledged >= kills
