"""PostgreSQL behind a proxy that loses COMMITs, and an object store behind one that stalls, breaks and lies."""

import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from tests.commit_proxy import CommitProxy
from tests.postgresql_server import PostgreSQLServer, find_programs
from tests.s3_server import S3Server

PATIENCE = 600.0  # seconds: a busy machine may be many times slower, and only a failure waits for it
SMALL = 512  # bytes: what is shorter is a head, and a lie in a head is noticed by the client's library


class Database(PostgreSQLServer):
    """`proxy` is where the services connect; raises OSError or SubprocessError if it cannot start."""

    def __init__(self) -> None:
        super().__init__()
        self.proxy = CommitProxy(self.url)

    def dump(self, file: Path) -> None:
        """Write an archive of `pg_dump`."""
        command = [f"{find_programs()}/pg_dump", "--format=custom", f"--host={self.folder}", "--username=postgres"]
        with file.open("wb") as written:
            subprocess.run([*command, "postgres"], check=True, stdout=written, timeout=PATIENCE)

    def create_database(self, name: str) -> str:
        """Create an empty database; returns its URL."""
        where = [f"--host={self.folder}", "--username=postgres"]
        subprocess.run([f"{find_programs()}/createdb", *where, name], check=True, timeout=PATIENCE)
        return self.url.replace("/postgres?", f"/{name}?")

    def stop(self) -> None:
        """End it, whoever still uses it, and remove its folder."""
        if hasattr(self, "proxy"):
            self.proxy.close()
        super().stop()


class ObjectStore(S3Server):
    """With one bucket, behind `proxy`."""

    def __init__(self) -> None:
        super().__init__()
        self.url = self.create_bucket()
        self.proxy = StoreProxy(self.port)
        self.environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{self.proxy.port}"

    def stop(self) -> None:
        """End it."""
        self.proxy.stop()
        self.kill()


class StoreProxy:
    """Forwards connections. While `mode` is `stall` nothing moves, `break` closes, `lie` flips bits of what is read."""

    def __init__(self, server: int) -> None:
        self.mode = ""
        self._server, self._ended = server, Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(0.5)
        self.port: int = self._listening.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError):  # nobody came, or it was closed
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                Thread(target=self._pump, args=(client, server, False), daemon=True).start()
                Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with source, suppress(OSError):
            while data := source.recv(65_536):
                while self.mode == "stall" and not self._ended.is_set():
                    time.sleep(0.05)
                if self.mode == "break" or self._ended.is_set():
                    break
                if self.mode == "lie" and is_answer and len(data) > SMALL:
                    data = data[:-1] + bytes([data[-1] ^ 1])
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Take no more connections, and end those that are there."""
        self._ended.set()
        self._listening.close()
