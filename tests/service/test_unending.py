"""What a client never ends is cut off, and what comes behind a body is no header: `service/http.py`."""

import socket
from threading import Thread
from typing import Any

import psutil
import pytest
import uvicorn

from service.http import BoundedHttp
from tests.service.harness import Service, wait_until
from tests.service.test_http import SEARCH, head_of

CHUNKED = head_of(SEARCH, "application/json", 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")


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
def test_what_does_not_end_is_cut_off(service: Service, begun: bytes) -> None:  # H10
    sent, memory = 0, psutil.Process().memory_info().rss
    address = ("127.0.0.1", service.port)
    with socket.create_connection(address, timeout=5) as connection, pytest.raises(ConnectionError):
        connection.sendall(begun)
        while sent < 64 << 20:
            connection.sendall(b"x" * 65_536)
            sent += 65_536
    assert sent < 16 << 20 and psutil.Process().memory_info().rss - memory < 16 << 20


def test_a_trailer_is_no_header() -> None:
    """A key is checked before the body: what comes behind that must not look like a header to who reads one then."""

    async def names(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        told = b" ".join(name for name, _ in scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": told})

    config = uvicorn.Config(names, port=0, http=BoundedHttp, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(CHUNKED + b"2\r\n{}\r\n0\r\nX-Trailer: 1\r\n\r\n")
        with connection.makefile("rb") as answer:
            told = answer.read()
    server.should_exit = True
    thread.join(20)
    assert b"content-type" in told and b"x-trailer" not in told
