"""Connections that keep the service waiting: heads without an end, clients that take no answer, and crowds of them."""

import contextlib
import http.client
import io
import itertools
import json
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import psutil
import pytest
from fastapi import FastAPI
from PIL import Image

from service import connections
from service.__main__ import make_uvicorn_config
from service.settings import Settings
from tests.doubles import StalledEncoder
from tests.patience import PATIENCE
from tests.service.harness import ADMIN_KEY, Service, assert_problem, running, wait_until
from tests.service.processes import Program, start_service
from tests.service.test_http import SEARCH, make_head

pytestmark = pytest.mark.row("F1")
LIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def hasty(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """It waits for a second, instead of ten."""
    monkeypatch.setattr(connections, "WAIT_SECONDS", 1.0)
    return service


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE)


def receive_all(connection: socket.socket, drop: bytes = b"") -> bytes:
    """Receive what comes until the server closes, while a byte of `drop` is sent each tenth of a second."""
    got, dropped = b"", iter(drop)
    connection.settimeout(0.1 if drop else PATIENCE)
    with contextlib.suppress(ConnectionError):
        while True:
            try:
                if not (part := connection.recv(65_536)):
                    break
                got += part
            except TimeoutError:
                connection.sendall(bytes([next(dropped)]))
    return got


@pytest.mark.parametrize(
    ("begun", "drop"),
    [
        (b"", b""),
        (b"GET /livez HTTP/1.1\r\n", b""),
        (b"GET /livez HTTP/1.1\r\nX-Slow: ", b"x" * 2_000),
        (b"", b"G" * 2_000),
        (b"\r\n", b"\r\n" * 1_000),
    ],
    ids=["silent", "half a head", "a byte at a time", "a method without an end", "empty lines"],
)
@pytest.mark.parametrize("before", [b"", LIVE], ids=["first", "second"])
def test_a_head_that_does_not_end_is_closed(hasty: Service, before: bytes, begun: bytes, drop: bytes) -> None:
    with connect(hasty) as connection:
        connection.sendall(before + begun)
        assert receive_all(connection, drop).count(b"HTTP/1.1 200") == bool(before)


def test_nobody_is_late_because_the_service_stood_still(fresh: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = list[float]()

    def look_later() -> float:
        looks.append(time.monotonic() + 100.0)
        return looks[-1]

    with connect(fresh) as connection:
        assert answer_on(connection, LIVE + LIVE[:-2]).status_code == 200  # it waits for the rest of the second one
        monkeypatch.setattr(connections, "time", SimpleNamespace(monotonic=look_later))
        wait_until(lambda: len(looks) > 1)  # it has looked who is late
        assert answer_on(connection, LIVE[-2:]).status_code == 200


def test_each_answer_starts_the_time_anew_and_work_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WAIT_SECONDS", 1.0)
    encoder = StalledEncoder()
    with running(tmp_path, encoder) as service, ThreadPoolExecutor(1) as clients:
        encoder.stall()
        search = clients.submit(service.search, "cat")
        wait_until(lambda: encoder.seen == ["cat"])
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE)) as kept:
            kept.connect()
            first = kept.sock
            for _ in range(2):  # as long as two silent connections last, one after the other
                with connect(service) as silent:
                    silent.settimeout(0.1)
                    while not _is_closed(silent):
                        kept.request("GET", "/livez")
                        assert kept.getresponse().read() == b'{"status":"alive"}'
            assert kept.sock is first
        encoder.cue.set()
        assert search.result().status_code == 200


def test_an_idle_connection_outlives_what_clients_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_by_httpx, app = httpx.Limits().keepalive_expiry, FastAPI()
    kept = make_uvicorn_config(app, Settings(home=tmp_path)).timeout_keep_alive
    assert kept_by_httpx is not None and kept_by_httpx < kept < connections.WAIT_SECONDS
    monkeypatch.setattr("service.__main__.KEEP_SECONDS", 1)
    with running(tmp_path) as service, connect(service) as connection:
        started = time.monotonic()
        assert answer_on(connection, LIVE).status_code == 200
        assert connection.recv(1) == b"" and time.monotonic() - started >= 1.0


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_who_takes_no_answer_is_closed_and_who_takes_it_slowly_is_not(hasty: Service) -> None:
    asked, size = 150, len(hasty.http.get("/openapi.json").content)
    connected_now = hasty.context.metrics.connections._value
    wait_until(lambda: connected_now.get() > 0)  # counted ten times a second
    wait_until(lambda: connected_now.get() == 0)  # clients that ask nothing more are late as well
    with connect(hasty) as slow, connect(hasty) as deaf:
        for connection in (slow, deaf):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            connection.sendall(LARGE * asked)  # more than the system keeps for anybody
        late, got = _count_closed(hasty, "late"), 0
        while _count_closed(hasty, "late") == late:
            got += len(slow.recv(65_536))
            time.sleep(0.05)  # for all of it this would take ten seconds
        assert got < asked * size
        while got < asked * size:
            part = slow.recv(1 << 20)
            assert part
            got += len(part)
        assert len(receive_all(deaf)) < asked * size


def test_who_takes_less_in_all_the_time_than_waits_for_it_is_not_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system keeps for it shrinks, long before there is room for more."""
    monkeypatch.setattr(connections, "WAIT_SECONDS", 3.0)  # a busy machine may stop this client for one
    head = f"GET /v1/pictures/noise/content HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_KEY}\r\n\r\n"
    with running(tmp_path) as service:
        assert service.put("noise", _make_noise()).status_code == 201
        assert len(service.admin.get("/v1/pictures/noise/content").content) > 300_000
        wait_until(lambda: _count_closed(service, "late") == 1)  # the client that asked this
        with connect(service) as slow, connect(service) as deaf:
            for connection in (slow, deaf):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
                connection.sendall(head.encode() * 40)
            left = 40  # tenths of a second, when the other is late: longer than anybody may wait, once more
            while left:
                assert slow.recv(16_384)
                time.sleep(0.1)
                left -= _count_closed(service, "late") > 1
            assert _count_closed(service, "late") == 2
            wait_until(lambda: service.context.metrics.connections._value.get() < 2)  # though it has taken nothing


def _make_noise() -> bytes:
    """Make a picture that no encoding makes small."""
    data = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (1_024, 1_024, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def _count_closed(service: Service, reason: str) -> float:
    closed = service.context.metrics.closed.labels(reason)
    return float(closed._value.get())


@pytest.mark.row("L2")
def test_a_search_too_many_is_refused_at_the_door(tmp_path: Path) -> None:
    encoder, body = StalledEncoder(), b'{"text": "x"}'
    search = make_head(SEARCH, "application/json", len(body)) + body
    with running(tmp_path, encoder, queue_limit=2, batch_size=1) as service, contextlib.ExitStack() as opened:
        encoder.stall()
        waiting = [opened.enter_context(connect(service)) for _ in range(3)]
        for number, connection in enumerate(waiting):
            connection.sendall(search.replace(b'x"', b'%d"' % number))
            wait_until(lambda: encoder.seen)  # the first is being encoded: the queue has room for two
        wait_until(lambda: service.context.text_queue.depth == 2)
        late, early, pipelined = (opened.enter_context(connect(service)) for _ in range(3))
        refused = answer_on(late, search)
        assert_problem(refused, 503, "overloaded")
        slow = assert_problem(service.search("refused by the queue"), 503, "overloaded")  # without the door's haste
        assert slow.keys() == refused.json().keys()
        wrong = search.replace(ADMIN_KEY.encode(), b"wrong")
        assert answer_on(late, wrong).status_code == 503  # nobody looks at the key
        assert_problem(answer_on(late, search[:200], search[200:]), 503, "overloaded")
        assert answer_on(late, LIVE).status_code == 200
        early.sendall(search[:-1])
        pipelined.sendall(search + LIVE)  # in order, by the ordinary way
        both = b""
        while b"alive" not in both:
            both += pipelined.recv(65_536)
        assert both.startswith(b"HTTP/1.1 503")
        assert answer_on(late, search.replace(b"Host: x", b"Connection: close\r\nHost: x")).status_code == 503
        assert late.recv(1) == b""
        encoder.cue.set()
        assert all(answer_on(connection).status_code == 200 for connection in waiting)
        assert answer_on(early, search[-1:]).status_code == 200
        counted = service.http.get("/metrics", headers={"X-API-Key": ADMIN_KEY}).text
        (line,) = [each for each in counted.splitlines() if "_seconds_count" in each and '"503"' in each]
        assert SEARCH in line and float(line.split()[-1]) == 6


def test_searches_that_do_not_end_their_body_keep_nobody_out(tmp_path: Path) -> None:
    head = make_head(SEARCH, "application/json", 10)
    with running(tmp_path, queue_limit=2, batch_size=1) as service, contextlib.ExitStack() as opened:
        for _ in range(4):
            opened.enter_context(connect(service)).sendall(head)
        wait_until(lambda: service.context.metrics.connections._value.get() >= 4)  # counted ten times a second
        assert service.search("cat").status_code == 200


def answer_on(connection: socket.socket, *parts: bytes) -> httpx.Response:
    """Send these parts one by one, and return the next answer on the connection."""
    for part in parts:
        connection.sendall(part)
        time.sleep(0.05)  # else the system may send them as one
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[tuple[Program, httpx.Client]]:
    """A service of its own with 512 descriptors, of which it begins with 128, and a client that has searched in it."""
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 512))"
    with start_service(tmp_path, constants=few, LOG_LEVEL="warning") as started:
        yield started


def test_more_open_heads_than_descriptors_keep_nobody_out_and_cost_no_log(
    cramped: tuple[Program, httpx.Client],
) -> None:
    process, client = cramped
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (512, 512)
    address = (client.base_url.host, client.base_url.port)
    with contextlib.ExitStack() as crowd:
        for number in range(612):
            crowd.enter_context(socket.create_connection(address, timeout=PATIENCE)).sendall(LIVE[:-2])
            if number % 50 == 0:
                assert client.post(SEARCH, json={"text": "cat"}).status_code == 200
        assert httpx.get(f"{client.base_url}/livez", timeout=PATIENCE).status_code == 200
        assert psutil.Process(process.pid).num_fds() < 450
        assert _count_crowded(client) > 0, "those who had waited longest, before they were late"
        # when all others are taken, by what else a process opens, those who only wait give theirs
        _leave_no_descriptor(process.pid)
        assert httpx.get(f"{client.base_url}/livez", timeout=PATIENCE).status_code == 200
    process.terminate()
    log = process.communicate(timeout=PATIENCE)[1]
    crowded = [line for line in map(json.loads, log.splitlines()) if line["message"] == "crowded"]
    assert len(crowded) == 1 and len(log) < 4_096, log[:4_096]


def _count_crowded(client: httpx.Client) -> float:
    """Count the connections that were closed because there were too many."""
    (line,) = [each for each in client.get("/metrics").text.splitlines() if 'closed_total{reason="crowded"}' in each]
    return float(line.rpartition(" ")[2])


def test_without_any_descriptor_left_connections_wait_and_the_log_stays_short(
    cramped: tuple[Program, httpx.Client],
) -> None:
    process, client = cramped
    client.close()
    wait_until(lambda: not psutil.Process(process.pid).net_connections("tcp")[1:])
    _leave_no_descriptor(process.pid)
    before = psutil.Process(process.pid).cpu_times()
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=PATIENCE) as waiting:
        waiting.sendall(LIVE)
        waiting.settimeout(3.0)  # three tries to take it
        with pytest.raises(TimeoutError):
            waiting.recv(1)
        spent = psutil.Process(process.pid).cpu_times()
        assert spent.user + spent.system - before.user - before.system < 0.75  # no busy loop, of two busy cores either
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (512, 512))
        waiting.settimeout(PATIENCE)
        assert b"200 OK" in waiting.recv(65_536)
    process.terminate()
    log = process.communicate(timeout=PATIENCE)[1]
    assert log.count("crowded") == 1 and "Too many open files" in log and len(log) < 4_096, log[:4_096]


def _leave_no_descriptor(pid: int) -> None:
    """Lower the limit to the least number that no open file has: the next one would get it."""
    used = {int(file.name) for file in Path(f"/proc/{pid}/fd").iterdir()}
    least = next(number for number in itertools.count() if number not in used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (least, 512))


CHUNKED = b"Transfer-Encoding: chunked\r\n"
HIDDEN = b"0\r\n\r\n" + LIVE
AMBIGUOUS = {
    "length and chunks": b"Content-Length: 5\r\n" + CHUNKED,
    "chunks and length": CHUNKED + b"Content-Length: 5\r\n",
    "length and chunks in a folded line": b"Content-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "two lengths in one": b"Content-Length: 5, 6\r\n",
    "a length with a sign": b"Content-Length: +5\r\n",
    "a negative length": b"Content-Length: -5\r\n",
    "a length in hexadecimal": b"Content-Length: 0x5\r\n",
    "a length of blanks": b"Content-Length: 5 5\r\n",
    "an empty length": b"Content-Length:\r\n",
    "chunks twice": CHUNKED * 2,
    "chunks and identity": b"Transfer-Encoding: chunked, identity\r\n",
    "identity": b"Transfer-Encoding: identity\r\n",
    "chunks that are compressed": b"Transfer-Encoding: gzip, chunked\r\n",
    "another coding": b"Transfer-Encoding: xchunked\r\n",
    "chunks in quotes": b'Transfer-Encoding: "chunked"\r\n',
    "chunks after a vertical tab": b"Transfer-Encoding: \x0bchunked\r\n",
    "a blank before the colon": b"Transfer-Encoding : chunked\r\n",
    "a blank before the name": b" Transfer-Encoding: chunked\r\n",
    "a name of two lines": b"Transfer-\r\n Encoding: chunked\r\n",
    "a line without a colon": b"Transfer-Encoding chunked\r\n",
    "a bare carriage return": b"X: 1\rTransfer-Encoding: chunked\r\n",
    "a null byte": b"X: 1\x00\r\n" + CHUNKED,
    "two hosts": b"Host: y\r\n",
}
_HEAD = b"POST /v1/search/pictures HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.row("F12")
@pytest.mark.parametrize("form", AMBIGUOUS)
def test_a_request_with_two_ends_has_one_answer_which_is_400(service: Service, form: str) -> None:
    _assert_refused(service, _HEAD + AMBIGUOUS[form] + b"\r\n" + HIDDEN)


@pytest.mark.row("F12")
@pytest.mark.parametrize(
    "request_",
    [
        _HEAD.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + HIDDEN,
        b"POST  /v1/search/pictures HTTP/1.1\r\nHost: x\r\n\r\n" + LIVE,
        b"POST /v1/search/pictures\r\nHost: x\r\n\r\n" + LIVE,
        b"POST /v1/search/pictures HTTP/1.1\r\n\r\n" + LIVE,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + LIVE,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + LIVE,
    ],
    ids=["chunks in HTTP/1.0", "two blanks", "no version", "no host", "TLS", "HTTP/2"],
)
def test_what_is_no_request_has_one_answer_which_is_400(service: Service, request_: bytes) -> None:
    _assert_refused(service, request_)


@pytest.mark.row("F12")
@pytest.mark.parametrize("size", [b"+5", b"0x5", b"5 5", b"-1", b"", b"f" * 30, b"5\x0b"])
@pytest.mark.parametrize("key", [ADMIN_KEY, "wrong"])
def test_a_chunk_with_two_sizes_has_one_answer_and_leaves_no_trace_in_the_log(
    service: Service, size: bytes, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    head = make_head(SEARCH, "application/json", 0).replace(b"Content-Length: 0\r\n", CHUNKED)
    answer = _read_whole_answer(service, head.replace(ADMIN_KEY.encode(), key.encode()), size + b"\r\n{}\r\n" + HIDDEN)
    assert answer.count(b"HTTP/1.1 4") == 1 and b"connection: close" in answer.lower()
    assert answer.split(b" ")[1] == b"400" or key == "wrong"
    assert not [record for record in caplog.records if record.exc_info]


def _assert_refused(service: Service, request: bytes) -> None:
    answer = _read_whole_answer(service, request)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert answer.count(b"HTTP/1.1 4") == 1 and head.startswith(b"HTTP/1.1 400 "), answer
    assert b"connection: close" in head.lower() and b"application/problem+json" in head
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (400, "malformed_request")
    assert f"x-request-id: {problem['request_id']}".encode() in head.lower()


def _read_whole_answer(service: Service, *parts: bytes) -> bytes:
    with connect(service) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
        return receive_all(connection)
