"""What a service does for days: processes are replaced one by one, releases change, and nothing is left over."""

import contextlib
import http.client
import itertools
import json
import select
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from model.registry import open_registry
from tests.patience import PATIENCE
from tests.service.harness import ADMIN_KEY, learn, wait_until
from tests.service.processes import answers, weightless
from tests.service.test_http import SEARCH

HEADERS = {"X-API-Key": ADMIN_KEY, "Content-Type": "application/json"}


@contextlib.contextmanager
def serving(home: Path, port: int = 0) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A process that serves, and its address."""
    process = weightless(home, ADMIN_KEY=ADMIN_KEY, FREE_BYTES="0", PORT=str(port), CACHE_SIZE="0")
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.communicate()


def is_ready(address: str) -> bool:
    with httpx.Client(base_url=address, timeout=PATIENCE) as client:
        return answers(client, "/readyz") == 200


class Balancer:
    """As a proxy before several processes: one that refuses the connection is passed over, nothing is asked twice.

    It keeps connections, and opens a new one after `Connection: close`.
    """

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses
        self._open: dict[str, http.client.HTTPConnection] = {}

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()

    def search(self, number: int) -> int:
        """The status of the first process that takes the connection."""
        for turn in range(len(self._addresses)):
            address = self._addresses[(number + turn) % len(self._addresses)]
            where = urlsplit(address)
            connection = self._open.setdefault(
                address, http.client.HTTPConnection(where.hostname or "", where.port, timeout=PATIENCE)
            )
            if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
                connection.close()  # the other side has closed it
            if connection.sock is None:
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    continue
            connection.request("POST", SEARCH, json.dumps({"text": f"cat {number}"}), HEADERS)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        return 0


@pytest.mark.row("S8")
@pytest.mark.slow
def test_no_request_fails_while_two_processes_are_replaced_one_after_the_other(tmp_path: Path) -> None:
    with contextlib.ExitStack() as running:
        first, address = running.enter_context(serving(tmp_path))
        second, other = running.enter_context(serving(tmp_path))
        wait_until(lambda: is_ready(address) and is_ready(other))
        replaced, statuses, counter = threading.Event(), list[int](), itertools.count()

        def ask() -> None:
            with contextlib.closing(Balancer([address, other])) as balancer:
                while not replaced.is_set() or len(statuses) < 1_000:
                    statuses.append(balancer.search(next(counter)))

        with ThreadPoolExecutor(4) as clients:
            asking = [clients.submit(ask) for _ in range(4)]
            first.send_signal(signal.SIGTERM)
            assert first.wait(PATIENCE) == 0
            running.enter_context(serving(tmp_path, urlsplit(address).port or 0))
            wait_until(lambda: is_ready(address))
            second.send_signal(signal.SIGTERM)
            assert second.wait(PATIENCE) == 0
            replaced.set()
            for each in asking:
                each.result()
    assert len(statuses) >= 1_000 and set(statuses) == {200}


@pytest.mark.row("S12")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("requests", "swaps"), [(1_000, 10), pytest.param(10_000, 50, marks=pytest.mark.nightly)], ids=["short", "whole"]
)
def test_requests_and_releases_leave_no_descriptor_and_no_memory_behind(
    tmp_path: Path, requests: int, swaps: int
) -> None:
    with serving(tmp_path) as (process, address), httpx.Client(base_url=address, headers=HEADERS) as client:
        client.timeout = httpx.Timeout(PATIENCE)
        wait_until(lambda: is_ready(address))
        with contextlib.closing(open_registry(f"sqlite:///{tmp_path / 'registry.db'}")) as registry:
            learn(registry, "cy")
        searched = itertools.count()

        def work(count: int, swaps: int) -> tuple[int, int]:
            """Descriptors and bytes of memory after so many searches, with so many changes of the release."""
            for number in range(count):
                if number % (count // swaps) == 0:
                    _swap(client)
                answer = client.post(SEARCH, json={"text": f"cat {next(searched)}"})
                assert answer.status_code == 200, answer.text
            measured = psutil.Process(process.pid)
            return measured.num_fds(), measured.memory_info().rss

        descriptors, memory = work(500, 10)  # until every thread has begun, and opened what it keeps open
        later, grown = work(requests, swaps)
    assert later <= descriptors * 1.05 and grown <= memory * 1.05, (descriptors, later, memory, grown)


def _swap(client: httpx.Client) -> None:
    """Serve the other one of two releases."""
    releases = client.get("/v1/admin/releases").raise_for_status().json()["items"]
    serving = max(item["number"] for item in releases)
    client.post(f"/v1/admin/releases/{serving - 1}/restore", json={"expected": serving}).raise_for_status()
