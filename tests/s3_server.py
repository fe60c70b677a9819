"""A real server that speaks S3, in a process of its own on a free port, for tests that fill, damage and kill it."""

import socket
import subprocess
import sys
import time
from contextlib import suppress
from uuid import uuid4

import httpx

from tests.launcher import find_free_port
from tests.patience import PATIENCE


class S3Server:
    """moto's server; everything in it is gone when it is killed."""

    def __init__(self) -> None:
        self.port = find_free_port()
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(3_600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def create_bucket(self) -> str:
        """Return the URL of a place in a new bucket."""
        name = f"b{uuid4().hex}"
        answer = httpx.put(f"{self.environment['AWS_ENDPOINT_URL']}/{name}", timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        return f"s3://{name}/some/place"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
