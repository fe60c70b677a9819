"""The connections of the API: taken while there are descriptors, ended when a client keeps the service waiting.

uvicorn's own protocol waits for a head, and for a client that takes its answer, as long as they like; asyncio's own way
of accepting logs in a busy loop when descriptors run out. Reads no body and knows no route.
"""

import asyncio
import contextlib
import fcntl
import logging
import re
import resource
import secrets
import socket
import struct
import termios
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import cache

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from service.metrics import Metrics
from service.problems import MalformedRequest, make_problem_response
from store.errors import Unavailable

WAIT_SECONDS = 10.0  # from a connection's begin, or the end of an answer, to the end of a head; or for taking an answer
# An idle connection: longer than clients keep theirs (httpx 5 s), else their next request meets a closed door
KEEP_SECONDS = 8
_MOST = 8_192  # connections: each may hold a head of 64 KiB
_SHARE = 2  # of the descriptors one in so many is a connection's: others are for files, databases, uploads
_BACKLOG = 2_048  # connections that wait to be taken
_LOOK_SECONDS = 0.1  # seconds between two searches for late ones
_PAUSE_SECONDS = 1.0  # seconds without taking connections, where descriptors are missing and nothing can be closed
_LOG_SECONDS = 60.0  # seconds between two lines of the log about crowds
_BLANK_LINE = re.compile(rb"\n\r?\n")
_SEARCH = re.compile(
    rb"POST (/v1/search/(?:pictures|captions|batch)) HTTP/1\.1\r\n(?:[A-Za-z0-9-]+:[^\r\n\x00]*\r\n)*\r\n"
)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,4})[ \t]*\r\n")
_UNUSUAL = (b"transfer-encoding", b"expect:", b"connection: close")  # h11 knows what to do with them
_IDLE = {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE}
_ID = b"i" * 32
_log = logging.getLogger("pictoglot.connections")


class Connections(ServerState):
    """All open connections, `limit` at most, with those that the service waits for, the longest wait first.

    `searching` are those that wait for the answer to a search: with more than `most_searches` of them, later ones are
    refused here, before they cost what a search costs. `metrics` count these, and connections that are closed before
    the client does, by reason.
    """

    def __init__(self, metrics: Metrics, most_searches: int) -> None:
        super().__init__()
        self.searching = set[Connection]()
        self._most_searches = most_searches
        self.limit = min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE)
        self._metrics = metrics
        self._waits = OrderedDict[Connection, tuple[float, int]]()  # since when, and unsent bytes then
        # Seconds in which clients were listened to: while this process stands still, nobody is late
        self._clock, self._looked_at = 0.0, time.monotonic()
        self._logged_at = -_LOG_SECONDS

    @property
    def has_newcomers(self) -> bool:
        """Whether a connection has not sent its first request yet."""
        return any(connection.cycle is None for connection in self._waits)

    @property
    def is_full(self) -> bool:
        """Whether as many searches are being answered as may be."""
        return len(self.searching) >= self._most_searches

    def count_refusal(self, route: str) -> None:
        """Count a search that was refused; the log has no line for each."""
        self._metrics.requests.labels("POST", route, "503").observe(0.0)

    def start_wait(self, connection: "Connection") -> None:
        """Note that the service now waits for this client."""
        self._waits.pop(connection, None)
        self._waits[connection] = self._clock, connection.unsent_bytes

    def end_wait(self, connection: "Connection") -> None:
        """Note that the client has done its part, or has left."""
        self._waits.pop(connection, None)

    def make_room(self) -> None:
        """End the longest wait if there are too many connections: of a crowd of others, who sends a request stays."""
        if len(self.connections) > self.limit:
            self.abort_longest_wait("more connections than half of the descriptors, or than 8,192")

    def abort_longest_wait(self, why: str) -> bool:
        """End the longest wait because of a crowd; False when there is none. The log tells `why` once a minute."""
        if (now := time.monotonic()) - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            _log.warning("crowded", extra={"reason": why, "count": len(self.connections)})
        if not self._waits:
            return False
        self._abort(next(iter(self._waits)), "crowded")
        return True

    def watch(self) -> None:
        """Start to end what is late and to update the metrics, from time to time."""
        now = time.monotonic()
        self._clock += min(now - self._looked_at, 2 * _LOOK_SECONDS)
        self._looked_at = now
        self.abort_late()
        self.update_metrics()
        asyncio.get_running_loop().call_later(_LOOK_SECONDS, self.watch)

    def abort_late(self) -> None:
        """End the waits that took too long. A client that takes its answer slowly gets the same time again."""
        until = self._clock - WAIT_SECONDS
        while self._waits:
            connection, (since, unsent_bytes) = next(iter(self._waits.items()))
            if since > until:
                return
            if connection.transport.get_write_buffer_size() and connection.unsent_bytes < unsent_bytes:
                self.start_wait(connection)
            else:
                self._abort(connection, "late")

    def update_metrics(self, reason: str | None = None) -> None:
        """Set how many are open, and count one that is closed for a `reason`."""
        self._metrics.connections.set(len(self.connections))
        if reason:
            self._metrics.closed.labels(reason).inc()

    def _abort(self, connection: "Connection", reason: str) -> None:
        self.end_wait(connection)
        connection.transport.abort()  # closing it would wait until its answer is taken
        self.update_metrics(reason)


class Connection(H11Protocol):
    """One connection: uvicorn's protocol, which also says when it waits, and refuses what is not HTTP in a document."""

    server_state: Connections
    _held_back = b""  # a part of a search that will be refused, unless others are answered until the rest is here

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the client has not taken yet: ours, and those that the system has."""
        descriptor = self.transport.get_extra_info("socket").fileno()
        with contextlib.suppress(OSError):
            (unsent,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
            return self.transport.get_write_buffer_size() + int(unsent)
        return self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.server_state.start_wait(self)
        self.server_state.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.server_state.end_wait(self)
        self.server_state.searching.discard(self)

    def data_received(self, data: bytes) -> None:
        data, self._held_back = self._held_back + data, b""
        if not self.server_state.is_full or (found := self._find_search(data)) is None:
            return super().data_received(data)
        route, missing = found
        if missing:
            self._held_back = data
            return
        id = secrets.token_hex(16)
        self.transport.write(_make_refusal().replace(_ID, id.encode()))
        self.server_state.count_refusal(route)
        self.on_response_complete()

    def _find_search(self, data: bytes) -> tuple[str, int] | None:
        """Return the route of the search that begins here, and how many bytes are missing; None for all else."""
        if self.conn.states != _IDLE or self.conn.trailing_data[0] or not (head := _SEARCH.match(data)):
            return None
        fields = head[0].lower()
        length = _LENGTH.search(fields)
        if length is None or fields.count(b"content-length") != 1 or any(name in fields for name in _UNUSUAL):
            return None
        missing = head.end() + int(length[1]) - len(data)
        return (head[1].decode(), missing) if missing >= 0 else None

    def handle_events(self) -> None:
        if self.conn.their_state is h11.IDLE and _is_folded(self.conn.trailing_data[0]):
            return self.send_400_response("")
        super().handle_events()
        if self._answering and not self.flow.write_paused:
            self.server_state.end_wait(self)
            # one whose body trickles costs nothing yet, and must not keep others out
            if not self.cycle.more_body and self.scope["path"].startswith("/v1/search/"):
                self.server_state.searching.add(self)

    def on_response_complete(self) -> None:
        self.server_state.searching.discard(self)
        super().on_response_complete()
        if not self._answering:  # otherwise the next request was there already
            self.server_state.start_wait(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.server_state.start_wait(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answering:
            self.server_state.end_wait(self)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, unless an answer has begun, and close. What the request had begun is dropped."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            id = secrets.token_hex(16)
            answer = make_problem_response(id, MalformedRequest("this is not HTTP/1.1, as RFC 9112 has it"))
            headers = [*answer.raw_headers, (b"x-request-id", id.encode()), (b"connection", b"close")]
            for event in (
                h11.Response(status_code=answer.status_code, headers=headers, reason=b"Bad Request"),
                h11.Data(data=bytes(answer.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        if self._answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
        self.server_state.update_metrics("malformed")

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete


@cache
def _make_refusal() -> bytes:
    """Make a whole answer that refuses a search, with `_ID` in the places of the request's id."""
    answer = make_problem_response(_ID.decode(), Unavailable("too many searches are being answered"))
    headers = [*answer.raw_headers, (b"x-request-id", _ID), (b"x-content-type-options", b"nosniff")]
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"HTTP/1.1 503 Service Unavailable\r\n%s\r\n%s" % (lines, bytes(answer.body))


def _is_folded(data: bytes) -> bool:
    """Tell whether a header field goes on in a second line, which some take for a field of its own (RFC 9112, 5.2)."""
    head = _BLANK_LINE.split(data, maxsplit=1)[0]
    return b"\n " in head or b"\n\t" in head


class Listener:
    """A bound socket whose connections are taken one in a turn of the event loop: a flood leaves turns to others.

    While descriptors are missing, the connection that the service waits for longest gives its own.
    """

    def __init__(self, bound: socket.socket, connections: Connections, make: Callable[[], asyncio.Protocol]) -> None:
        self._bound, self._connections, self._make = bound, connections, make
        self._loop = asyncio.get_running_loop()
        self._newcomers = set[asyncio.Task[None]]()
        self._again: asyncio.TimerHandle | None = None
        bound.setblocking(False)
        bound.listen(_BACKLOG)
        self._open()

    @property
    def has_newcomers(self) -> bool:
        """Whether there are connections that were taken and that nobody else knows yet."""
        return bool(self._newcomers)

    def close(self) -> None:
        """Take those that wait already, and no more: later ones are refused."""
        while self._take():
            pass
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._bound)
        self._bound.close()

    def _open(self) -> None:
        self._loop.add_reader(self._bound, self._take)

    def _take(self) -> bool:
        """Take one connection; False when none was waiting."""
        try:
            client, _ = self._bound.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:  # too many open files, mostly
            if not self._connections.abort_longest_wait(error.strerror or type(error).__name__):
                self._loop.remove_reader(self._bound)
                self._again = self._loop.call_later(_PAUSE_SECONDS, self._open)
            return False
        task = self._loop.create_task(self._begin(client))
        self._newcomers.add(task)
        task.add_done_callback(self._newcomers.discard)
        return True

    async def _begin(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it has left
            await self._loop.connect_accepted_socket(self._make, client)
