"""What a client never ends is cut off, before it fills memory."""

import socket

import psutil
import pytest

from tests.patience import PATIENCE
from tests.service.harness import Service
from tests.service.test_http import SEARCH, head_of

CHUNKED = head_of(SEARCH, "application/json", 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")


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
