"""Rates and lanes without a server; and what a client never ends."""

import asyncio
import errno
import socket
import threading

import psutil
import pytest

from service import lanes
from service.lanes import Lane
from service.people import RateLimiter
from service.problems import RateLimited
from tests.patience import PATIENCE
from tests.service.harness import Service
from tests.service.test_http import SEARCH, make_head


def test_the_counts_of_ten_thousand_keys_are_kept_and_no_more() -> None:
    rate = RateLimiter(6, clock=lambda: 0.0)  # one at once
    for number in range(10_000):
        rate.take(f"key {number}")
    with pytest.raises(RateLimited):
        rate.take("key 0")
    rate.take("one more")
    rate.take("key 0")


def test_a_disk_that_times_out_is_no_slow_registry() -> None:
    def work() -> None:
        raise TimeoutError(errno.ETIMEDOUT, "of a network file system")

    for lane in (Lane("test", 1), Lane("test", 1, PATIENCE, "busy")):
        with pytest.raises(TimeoutError, match="network"):
            asyncio.run(lane.run(work))
        with pytest.raises(TimeoutError, match="network"):
            lane.run_blocking(work)


def test_waiting_for_a_turn_takes_nothing_of_the_time_for_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_TURN_SECONDS", PATIENCE)
    lane, done = Lane("test", 1, 0.2, "busy"), threading.Event()

    async def run_second() -> str:
        others = asyncio.create_task(lane.run(done.wait, PATIENCE))
        waiting = asyncio.create_task(lane.run(str, "done"))
        asyncio.get_running_loop().call_later(0.5, done.set)
        await others
        return await waiting

    assert asyncio.run(run_second()) == "done"


def test_nobody_works_for_a_client_that_left_while_it_waited_for_its_turn() -> None:
    lane, done, calls = Lane("test", 1, PATIENCE, "busy"), threading.Event(), list[str]()

    async def leave() -> None:
        others = asyncio.create_task(lane.run(done.wait, PATIENCE))
        waiting = asyncio.create_task(lane.run(calls.append, "begun"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        done.set()
        await others
        await lane.run(calls.append, "another")

    asyncio.run(leave())
    assert calls == ["another"]


CHUNKED = make_head(SEARCH, "application/json", 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")


@pytest.mark.row("H10")
@pytest.mark.parametrize(
    "begun",
    [
        b"GET /livez HTTP/1.1\r\nX-Long: ",
        b"GET /",
        CHUNKED + b"2;a=",
        CHUNKED + b"2\r\n{}\r\n0\r\nX-Trailer: ",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /",
    ],
    ids=["header", "path", "chunk size", "trailer", "second request"],
)
def test_what_does_not_end_is_cut_off(service: Service, begun: bytes) -> None:
    sent, memory = 0, psutil.Process().memory_info().rss
    address = ("127.0.0.1", service.port)
    with socket.create_connection(address, timeout=PATIENCE) as connection, pytest.raises(ConnectionError):
        connection.sendall(begun)
        while sent < 64 << 20:
            connection.sendall(b"x" * 65_536)
            sent += 65_536
    assert sent < 16 << 20 and psutil.Process().memory_info().rss - memory < 16 << 20
