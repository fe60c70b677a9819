"""A TCP proxy in front of a real PostgreSQL that loses a COMMIT, or only the answer to one."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from sqlalchemy import make_url

_STARTUP = struct.Struct("!I")  # the first message has no type before its length
_FRAME = struct.Struct("!cI")
_PIECE = 1 << 16


@dataclass(frozen=True)
class _Loss:
    """What to lose: the COMMIT itself or only its answer; `away` refuses every connection afterwards."""

    committed: bool
    naming: bytes
    away: bool
    act: Callable[[], object]


@dataclass
class _Pair:
    """One connection of the service and ours to the server for it."""

    client: socket.socket
    server: socket.socket
    statements: bytearray = field(default_factory=bytearray)  # of the transaction
    prepared: dict[bytes, bytes] = field(default_factory=dict)
    loss: _Loss | None = None

    def close(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class CommitProxy:
    """Passes everything until `lose` is called; `url` names it in place of `server_url`."""

    def __init__(self, server_url: str) -> None:
        server = make_url(server_url)
        folder = server.query.get("host")
        self._unix = f"{folder}/.s.PGSQL.{server.port or 5432}" if folder else ""
        self._address = (server.host or "127.0.0.1", server.port or 5432)
        self._listening = socket.create_server(("127.0.0.1", 0))
        plain = {"sslmode": "disable", "gssencmode": "disable"}
        ours = server.difference_update_query(["host"]).update_query_dict(plain)
        port = self._listening.getsockname()[1]
        self.url = ours.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        self.lost = 0  # COMMITs that were lost, in either way
        self._lock = threading.Lock()
        self._pairs: list[_Pair] = []
        self._loss: _Loss | None = None
        self._away = False
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(
        self, *, committed: bool, naming: str = "", away: bool = False, act: Callable[[], object] = lambda: None
    ) -> None:
        """Cut the connection at the next COMMIT of a transaction of which a statement contains `naming`.

        With `committed` the server commits and only its answer is lost; otherwise it never hears of the COMMIT. With
        `away` every other connection is cut, too, and new ones are refused until `restore`. `act` is called at that
        moment, before the service hears of it.
        """
        with self._lock:
            self._loss = _Loss(committed, naming.encode(), away, act)

    def restore(self) -> None:
        with self._lock:
            self._loss, self._away = None, False

    def close(self) -> None:
        """Cut every connection and stop."""
        self._listening.close()
        self._cut_all()

    def _cut_all(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:  # closed
                return
            try:
                pair = _Pair(client, self._connect())
            except OSError:
                client.close()
                continue
            with self._lock:
                self._pairs.append(pair)
                away = self._away
            if away:
                pair.close()
                continue
            for end in (client, pair.server):
                if end.family == socket.AF_INET:
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for way in (self._pass_requests, self._pass_answers):
                threading.Thread(target=self._pass_until_closed, args=(way, pair), daemon=True).start()

    def _connect(self) -> socket.socket:
        if not self._unix:
            return socket.create_connection(self._address)
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self._unix)
        except OSError:
            server.close()
            raise
        return server

    def _pass_until_closed(self, way: Callable[[_Pair], None], pair: _Pair) -> None:
        with suppress(OSError, EOFError):
            way(pair)
        pair.close()
        with self._lock:
            if pair in self._pairs:
                self._pairs.remove(pair)

    def _pass_requests(self, pair: _Pair) -> None:
        head = _read(pair.client, _STARTUP.size)
        pair.server.sendall(head + _read(pair.client, _STARTUP.unpack(head)[0] - _STARTUP.size))
        for kind, frame in _read_frames(pair.client):
            self._note(pair, kind, frame)
            if kind == b"Q" and frame[_FRAME.size :] == b"COMMIT\0" and (loss := self._take_loss(pair)):
                if not loss.committed:
                    return self._lose(pair, loss)
                pair.loss = loss
            pair.server.sendall(frame)

    def _note(self, pair: _Pair, kind: bytes, frame: bytes) -> None:
        """Remember the text of a statement: a prepared one is named, and not sent again."""
        body = frame[_FRAME.size :]
        if kind == b"Q":
            if body.startswith(b"BEGIN"):
                pair.statements.clear()
            pair.statements += body
        elif kind == b"P":
            name, text, _ = body.split(b"\0", 2)
            pair.prepared[name] = text
        elif kind == b"B":
            _, name, _ = body.split(b"\0", 2)
            pair.statements += pair.prepared.get(name, b"")

    def _take_loss(self, pair: _Pair) -> _Loss | None:
        with self._lock:
            loss = self._loss
            if loss is None or loss.naming not in pair.statements:
                return None
            self._loss = None
            return loss

    def _pass_answers(self, pair: _Pair) -> None:
        while piece := pair.server.recv(_PIECE):
            if (loss := pair.loss) is not None:
                while not piece.endswith((b"Z\0\0\0\x05I", b"Z\0\0\0\x05E")):  # ready for the next query
                    piece += _read(pair.server, 1)
                return self._lose(pair, loss)
            pair.client.sendall(piece)

    def _lose(self, pair: _Pair, loss: _Loss) -> None:
        with self._lock:
            self._away = loss.away
            self.lost += 1
        loss.act()
        pair.close()
        if loss.away:
            self._cut_all()


def _read_frames(connection: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and all bytes of each message."""
    while True:
        head = _read(connection, _FRAME.size)
        kind, length = _FRAME.unpack(head)
        yield kind, head + _read(connection, length - 4)


def _read(connection: socket.socket, count: int) -> bytes:
    read = bytearray()
    while len(read) < count:
        piece = connection.recv(count - len(read))
        if not piece:
            raise EOFError
        read += piece
    return bytes(read)


@contextmanager
def open_commit_proxy(server_url: str) -> Iterator[CommitProxy]:
    """Run a proxy until the block ends."""
    proxy = CommitProxy(server_url)
    try:
        yield proxy
    finally:
        proxy.close()
