"""What a service does for days: processes are replaced one by one, releases change, and nothing is left over."""

import asyncio
import contextlib
import http.client
import itertools
import json
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

import service.__main__ as serve
from service.connections import Connections, Listener
from service.metrics import Metrics
from store.registry import open_registry
from tests.patience import PATIENCE
from tests.service.harness import ADMIN_KEY, Service, learn, running, wait_until
from tests.service.processes import Program, answers, weightless
from tests.service.test_front_door import LIVE, connect, receive_all
from tests.service.test_http import SEARCH

_ONE_MORE = 3  # descriptors of a connection of SQLite's pool: database, log, and index of the log
HEADERS = {"X-API-Key": ADMIN_KEY, "Content-Type": "application/json"}


@contextlib.contextmanager
def run_process(home: Path, port: int = 0, **more: str) -> Iterator[tuple[Program, str]]:
    """Run a process that serves; yield it and its address."""
    process = weightless(home, ADMIN_KEY=ADMIN_KEY, FREE_BYTES="0", PORT=str(port), CACHE_SIZE="0", **more)
    try:
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
        """Return the status of the first process that takes the connection."""
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
        first, address = running.enter_context(run_process(tmp_path))
        second, other = running.enter_context(run_process(tmp_path))
        wait_until(lambda: is_ready(address) and is_ready(other))
        replaced, statuses, counter = threading.Event(), list[int](), itertools.count()

        def ask() -> None:
            with contextlib.closing(Balancer([address, other])) as balancer:
                while not replaced.is_set() or len(statuses) < 1_000:
                    statuses.append(balancer.search(next(counter)))

        with ThreadPoolExecutor(4) as clients:
            asking = [clients.submit(ask) for _ in range(4)]
            try:
                first.send_signal(signal.SIGTERM)
                assert first.wait(PATIENCE) == 0
                running.enter_context(run_process(tmp_path, urlsplit(address).port or 0))
                wait_until(lambda: is_ready(address))
                second.send_signal(signal.SIGTERM)
                assert second.wait(PATIENCE) == 0
            finally:
                replaced.set()
            for each in asking:
                each.result()
    assert len(statuses) >= 1_000 and set(statuses) == {200}


@pytest.mark.row("S8")
def test_a_process_that_drains_takes_new_connections_until_a_second_signal(tmp_path: Path) -> None:
    """A balancer needs time to see that it is not ready."""
    with run_process(tmp_path, constants="serve.Settings.drain_seconds = 600") as (process, address):
        wait_until(lambda: is_ready(address))
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_ready(address))
        for _ in range(20):
            assert httpx.get(f"{address}/readyz", timeout=PATIENCE).json()["degraded"] == ["draining"]
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


@pytest.mark.row("S8")
def test_a_door_that_closes_takes_those_who_wait_already() -> None:
    """A client that the system has connected, and that is not taken, would see its request fail."""

    class Guest(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            guests.append(transport)

    async def close() -> None:
        with socket.create_server(("127.0.0.1", 0)) as bound, contextlib.ExitStack() as waiting:
            door = Listener(bound, Connections(Metrics(), 1), Guest)
            for _ in range(3):
                waiting.enter_context(socket.create_connection(bound.getsockname(), timeout=PATIENCE))
            assert guests == []
            door.close()
            async with asyncio.timeout(PATIENCE):
                while len(guests) < 3:
                    await asyncio.sleep(0.01)
            for guest in guests:
                guest.close()

    guests = list[asyncio.BaseTransport]()
    asyncio.run(close())


@pytest.mark.row("S8")
def test_who_came_in_the_last_moment_is_answered_after_the_door_has_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "_LAST_MOMENT", PATIENCE)
    with ThreadPoolExecutor(1) as ending, contextlib.ExitStack() as served:
        service = served.enter_context(running(tmp_path))
        with connect(service) as late:
            wait_until(lambda: service.context.metrics.connections._value.get() == 1)  # counted ten times a second
            ended = ending.submit(served.close)
            wait_until(lambda: _is_refused(service))
            late.sendall(LIVE)
            assert receive_all(late).startswith(b"HTTP/1.1 200 ")
        ended.result(PATIENCE)


@pytest.mark.row("S8")
def test_who_was_just_taken_when_the_door_closed_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, begin = threading.Event(), Listener._begin

    async def begin_late(door: Listener, connection: socket.socket) -> None:
        taken.set()
        await asyncio.sleep(0.5)
        await begin(door, connection)

    with contextlib.ExitStack() as served:
        service = served.enter_context(running(tmp_path))
        monkeypatch.setattr(Listener, "_begin", begin_late)
        with connect(service) as late, ThreadPoolExecutor(1) as ending:
            late.sendall(LIVE)
            assert taken.wait(PATIENCE)
            ended = ending.submit(served.close)
            assert receive_all(late).startswith(b"HTTP/1.1 200 ")
            ended.result(PATIENCE)


def _is_refused(service: Service) -> bool:
    try:
        connect(service).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.row("S12")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("requests", "swaps"), [(1_000, 10), pytest.param(10_000, 50, marks=pytest.mark.nightly)], ids=["short", "whole"]
)
def test_requests_and_releases_leave_no_descriptor_and_no_memory_behind(
    tmp_path: Path, requests: int, swaps: int
) -> None:
    with (
        run_process(tmp_path, encoder="HoldingEncoder()") as (process, address),
        httpx.Client(base_url=address, headers=HEADERS, timeout=PATIENCE) as client,
    ):
        wait_until(lambda: is_ready(address))
        with contextlib.closing(open_registry(f"sqlite:///{tmp_path / 'registry.db'}")) as registry:
            for _ in range(10 + swaps):
                learn(registry, "cy", move_shared=False)
        searched, release = itertools.count(), itertools.count(2)

        def work(count: int, swaps: int) -> tuple[int, int]:
            """Return descriptors and bytes of memory after so many searches and changes of the release."""
            for number in range(count):
                if number % (count // swaps) == 0:
                    _swap(client, next(release))
                answer = client.post(SEARCH, json={"text": f"cat {next(searched)}"})
                assert answer.status_code == 200, answer.text
            measured = psutil.Process(process.pid)
            return measured.num_fds(), measured.memory_info().rss

        descriptors, memory = work(500, 10)  # until every thread has begun, and opened what it keeps open
        later, grown = work(requests, swaps)
    assert later <= descriptors + _ONE_MORE and grown <= memory * 1.05, (descriptors, later, memory, grown)


def _swap(client: httpx.Client, release: int) -> None:
    """Serve a release, and with it a version that is not open."""
    releases = client.get("/v1/admin/releases").raise_for_status().json()["items"]
    serving = max(item["number"] for item in releases)
    client.post(f"/v1/admin/releases/{release}/restore", json={"expected": serving}).raise_for_status()
