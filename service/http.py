"""How the server reads HTTP: uvicorn's protocol over httptools, with a bound on what completes nothing.

httptools itself keeps heads and trailers of any size. Knows no route.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 64 << 10  # path, query and header fields


class BoundedHttp(HttpToolsProtocol):
    """Refuses, with status 400, a head, trailer or chunk size that has not ended after `MAX_HEADER_BYTES`.

    What came in one reading of the socket is parsed as a whole before it is counted. A trailer is dropped: the headers
    of a request do not change once its key was checked.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._incomplete = 0  # bytes since the last part of a request that was whole
        self._completed = self._in_head = False

    def data_received(self, data: bytes) -> None:
        self._completed = False
        super().data_received(data)
        self._incomplete = 0 if self._completed else self._incomplete + len(data)
        if self._incomplete > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("Headers without an end.")

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._completed = False, True
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """A chunk's size was read; also of the last one, which is followed by trailers."""
        self._completed = True

    def on_body(self, body: bytes) -> None:
        self._completed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._completed = True
        super().on_message_complete()
