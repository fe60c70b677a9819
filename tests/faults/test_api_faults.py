"""The API killed with -9 during a swap: it comes back with one whole release and everything it acknowledged."""

import json
import signal
from pathlib import Path

import pytest

from store.registry import open_registry
from tests.patience import PATIENCE
from tests.service.harness import learn, picture
from tests.service.processes import start_service

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


# The first swap is at the start.
@pytest.mark.row("I8")
@pytest.mark.parametrize("point", ["swap.opened:2", "swap.published:2"])
def test_a_kill_within_a_swap_leaves_one_whole_release(tmp_path: Path, point: str) -> None:
    with start_service(tmp_path, FAULT_POINT=point) as (server, client):
        for number in range(5):
            files = {"picture": ("x", picture(number))}
            captions = {"captions": json.dumps({"en": [f"motif {number}"]})}
            assert client.put(f"/v1/pictures/p{number}", files=files, data=captions).status_code == 201
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
