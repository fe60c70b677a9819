"""The API killed with -9, within a swap or beside others on one pgvector: nothing acknowledged is lost."""

import json
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from index.set_states import count_unsealed
from store.registry import open_registry
from tests.launcher import PARENT, Program
from tests.patience import PATIENCE
from tests.service.harness import learn, picture, wait_until
from tests.service.processes import clean_environment, start_service

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def put(client: httpx.Client, number: int) -> None:
    files, captions = {"picture": ("x", picture(number))}, {"captions": json.dumps({"en": [f"motif {number}"]})}
    answer = client.put(f"/v1/pictures/p{number}", files=files, data=captions)
    assert answer.status_code == 201, answer.text


# The first swap is at the start.
@pytest.mark.row("I8")
@pytest.mark.parametrize("point", ["swap.opened:2", "swap.published:2"])
def test_a_kill_within_a_swap_leaves_one_whole_release(tmp_path: Path, point: str) -> None:
    with start_service(tmp_path, FAULT_POINT=point) as (server, client):
        for number in range(5):
            put(client, number)
        registry = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
        learn(registry, "cy")
        registry.close()
        assert server.wait(PATIENCE) == -signal.SIGKILL

    with start_service(tmp_path) as (server, client):
        ready = client.get("/readyz").json()
        assert (ready["release"], ready["degraded"]) == (2, [])
        body = client.post("/v1/search/pictures", json={"text": "afal", "language": "cy"}).json()
        assert (body["release"], body["version"]) == (2, 1)
        assert {item["id"] for item in body["items"]} == {f"p{number}" for number in range(5)}


def pictures_found(client: httpx.Client) -> list[Any]:
    """Return id, score and captions of every picture."""
    body = client.post("/v1/search/pictures", json={"text": "motif 3", "language": "en", "limit": 50}).json()
    return [(item["id"], item["score"], item["captions"]) for item in body["items"]]


def found(client: httpx.Client) -> list[Any]:
    """Return every picture, and the captions nearest to the first one."""
    captions = client.post("/v1/search/captions", json={"picture": "p0", "languages": ["en"], "limit": 50}).json()
    return [pictures_found(client), [(item["caption"], item["score"]) for item in captions["items"]]]


def indexed(settings: dict[str, str], **more: str) -> int:
    """Run the worker's indexer to its end; returns its exit status."""
    command = [sys.executable, "-m", "worker.upkeep", "seal", PARENT, "1"]
    names = {f"PICTOGLOT_{name}": value for name, value in settings.items()}
    return Program(command, env=clean_environment() | names | more, stderr=subprocess.DEVNULL).wait(PATIENCE)


def everything_sealed(database: str) -> bool:
    with closing(open_registry(database)) as registry:
        return count_unsealed(registry) == 0


def test_whoever_is_killed_nothing_acknowledged_is_lost(tmp_path: Path, postgresql_url: str) -> None:
    shared = {"DATABASE_URL": postgresql_url, "INDEX": "pgvector"}
    settings = {"HOME": str(tmp_path), **shared, "LEASE_SECONDS": "3"}  # a killed one has the duty for so long
    with start_service(tmp_path, **shared) as (_, there):
        with start_service(tmp_path, **shared) as (here_process, here):
            for number in range(6):
                put(here, number)
            wait_until(lambda: len(pictures_found(there)) == 6)  # the other service's writes arrive a little later
            before = found(here)
            assert found(there) == before
            assert indexed(settings) == 0
            assert found(there) == found(here) == before
            put(here, 6)
            here_process.send_signal(signal.SIGKILL)
        wait_until(lambda: len(pictures_found(there)) == 7)
        before = found(there)
        for point in ("engine.added:1", "indexer.written:1", "indexer.registered:1"):
            wait_until(lambda point=point: indexed(settings, FAULT_POINT=point) == -signal.SIGKILL)
            assert found(there) == before
            put(there, len(before[0]))
            before = found(there)
        wait_until(lambda: indexed(settings) == 0 and everything_sealed(postgresql_url))
        assert found(there) == before
    with start_service(tmp_path, **shared) as (_, again):
        assert found(again) == before
