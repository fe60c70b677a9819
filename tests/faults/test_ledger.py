"""What was acknowledged is there, and what was refused is not, though PostgreSQL is killed within a COMMIT."""

import hashlib
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import httpx
import pytest

from service.schemas import HASH_LENGTH
from tests.commit_proxy import open_commit_proxy
from tests.durability.ledger import Ledger
from tests.postgresql_server import PostgreSQLServer
from tests.service.harness import picture, running, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]
WRITERS, IDS = 3, 4  # clients, and pictures of each


def write(client: httpx.Client, ledger: Ledger, id: str, data: bytes | None) -> bool:
    """Put a picture, or delete it, and note the beginning of its hash; return whether that was acknowledged."""
    path, value = f"/v1/pictures/{id}", data and hashlib.sha256(data).hexdigest()[:HASH_LENGTH]
    try:
        answer = client.put(path, files={"picture": ("x", data)}) if data else client.delete(path)
    except httpx.TransportError:
        ledger.write(id, value, 0)
        return False
    assert answer.is_success or answer.status_code in (404, 503), answer.text
    assert answer.status_code != 404 or None in ledger.possible.get(id, [None]), f"{id} is lost"
    ledger.write(id, value, answer.status_code)
    return answer.is_success


def check(client: httpx.Client, ledger: Ledger) -> None:
    """Each picture is as it may be, and its file is there."""
    items = client.post("/v1/search/pictures", json={"text": "a", "limit": 100}).json()["items"]
    urls = {item["id"]: client.get(f"/v1/pictures/{item['id']}").json()["url"] for item in items}
    assert ledger.compare({id: url.rpartition("=")[2] for id, url in urls.items()}) == []
    for url in urls.values():
        assert client.get(url).status_code == 200, url


@contextmanager
def writing(client: httpx.Client, ledger: Ledger, seed: int) -> Iterator[list[str]]:
    """Several clients put, replace and delete pictures, each its own; yield the list of what is acknowledged."""
    ended, acknowledged = Event(), list[str]()

    def work(writer: int) -> None:
        draw = random.Random(seed * WRITERS + writer)
        while not ended.is_set():
            id, data = f"w{writer}-{draw.randrange(IDS)}", picture(draw.randrange(40))
            if write(client, ledger, id, data if draw.random() < 0.8 else None):
                acknowledged.append(id)

    with ThreadPoolExecutor(WRITERS) as threads:
        done = [threads.submit(work, writer) for writer in range(WRITERS)]
        try:
            yield acknowledged
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
                with writing(service.admin, ledger, kill) as acknowledged:
                    wait_until(lambda acknowledged=acknowledged: len(acknowledged) >= 5)
                    lost = proxy.lost
                    proxy.lose(committed=bool(kill % 2), naming="gallery_changes", act=server.kill)
                    wait_until(lambda lost=lost: proxy.lost > lost)
                    wait_until(lambda: service.http.get("/readyz").json()["degraded"])
                    server.start()
                    wait_until(lambda acknowledged=acknowledged: len(acknowledged) >= 10)
                check(service.admin, ledger)
    finally:
        server.stop()
