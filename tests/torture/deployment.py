"""Two API processes and two workers on one data root: started, signalled, started again, watched.

Each runs in a session of its own under a clock that can be moved; a service manager's part is `tend`.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.launcher import HELPER, Launcher, Program, find_free_port, is_program, start_module
from tests.redis_server import RedisServer
from tests.torture.client import ADMIN_KEY, Api
from tests.torture.servers import PATIENCE, Database, ObjectStore

APIS, WORKERS = ("api1", "api2"), ("worker1", "worker2")
LEASE = 3.0  # seconds
DISK = 192  # MiB
ROOT = Path(__file__).parents[2]
SETTINGS = {
    "ENVIRONMENT": "production",
    "ADMIN_KEY": ADMIN_KEY,
    "PRECISION": "float32",  # of a new data root, a trial would decide
    "MIN_RECALL": "0",
    "FORGETTING_BUDGET": "1",
    "LEASE_SECONDS": str(LEASE),
    "PURGE_DAYS": "0",
    "FREE_BYTES": str(4 << 20),
    "REQUEST_SECONDS": "120",  # nothing is refused because this machine is slow
    "LOG_LEVEL": "info",
}
FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"  # of Debian's package faketime


@dataclass
class Member:
    """A process of the deployment; `process` is None before its first start."""

    name: str
    module: str
    environment: dict[str, str]
    log: Path
    clock: Path
    launcher: Launcher
    process: Program | None = None
    is_meant_to_end: bool = False  # we killed it, or asked it to stop
    was_ready: bool = False  # since its start

    def start(self) -> None:
        """Start it; it is ready some seconds later."""
        self.is_meant_to_end = self.was_ready = False
        self.process = start_module([self.module], self.environment, self.log, self.launcher, self.log.parent)

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def set_clock(self, offset: str) -> None:
        """Move its clock by `offset`, such as +3600. In one step: faketime ends a process whose file it finds empty."""
        temporary = self.clock.with_suffix(".new")
        temporary.write_text(f"{offset}\n")
        temporary.replace(self.clock)

    def signal(self, sent: signal.Signals, whole: bool = True) -> None:
        """Send a signal to it and, if `whole`, to everything that it started."""
        assert self.process is not None
        self.is_meant_to_end |= sent in (signal.SIGKILL, signal.SIGTERM)
        with suppress(ProcessLookupError):
            if whole:
                os.killpg(self.process.pid, sent)
            else:
                self.process.send_signal(sent)

    def list_children(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            assert self.process is not None
            found = psutil.Process(self.process.pid).children(recursive=True)
            return [process for process in found if not is_program(process, HELPER)]
        return []


class Deployment:
    """All processes under a folder: data root, logs, clocks. `database` None: SQLite.

    With an object store there are two data roots, as on two machines, and a broker between them.
    """

    def __init__(
        self,
        folder: Path,
        base: str,
        database: Database | None = None,
        store: ObjectStore | None = None,
        broker: RedisServer | None = None,
    ) -> None:
        self.folder, self.base = folder, base
        self.database, self.store, self.broker = database, store, broker
        self.home = folder / "home"
        self.home.mkdir()
        size = f"size={DISK}m"
        mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(self.home)]
        self.is_small_disk = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
        self._faketime = next(iter(sorted(map(str, Path("/").glob(FAKETIME[1:])))), None)
        self.launcher = Launcher(self._build_clock(folder / "launcher.clock"))
        self.members = {name: self._make_member(name) for name in (*APIS, *WORKERS)}
        self.apis = {name: Api(name, f"http://127.0.0.1:{self.get_port(name)}") for name in APIS}
        self.unexpected: list[str] = []  # processes that ended by themselves

    @property
    def has_clocks(self) -> bool:
        """Whether clocks can be moved here."""
        return self._faketime is not None

    def get_port(self, name: str) -> int:
        return int(self.members[name].environment["PICTOGLOT_PORT"])

    def build_environment(self, **more: str) -> dict[str, str]:
        """Return the settings of every process, and nothing of the person who runs this."""
        settings = {**SETTINGS, "HOME": str(self.home), "BASE": self.base, **more}
        if self.database is not None:
            settings.setdefault("DATABASE_URL", self.database.proxy.url)
        if self.store is not None and self.broker is not None:
            settings = {"STORE": self.store.url, "BROKER_URL": self.broker.url, **settings}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PICTOGLOT_")}
        clean |= {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "SEAL_AT": "20",
            **(self.store.environment if self.store else {}),
        }
        return {**clean, **{f"PICTOGLOT_{name}": value for name, value in settings.items()}}

    def _make_member(self, name: str) -> Member:
        home = self.folder / "home2" if self.store is not None and name.endswith("2") else self.home
        port = {"PORT": str(find_free_port())} if name in APIS else {}
        environment = self.build_environment(HOME=str(home), **port)
        clock = self.folder / f"{name}.clock"
        environment |= self._build_clock(clock)
        module = "service" if name in APIS else "tests.eager_worker"
        return Member(name, module, environment, self.folder / f"{name}.log", clock, self.launcher)

    def _build_clock(self, file: Path) -> dict[str, str]:
        """Return settings of a process whose clock is what this file says."""
        file.write_text("+0\n")
        if self._faketime is None:
            return {}
        return {
            "LD_PRELOAD": self._faketime,
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",  # a process that is killed would leave its lock to the others
        }

    def start(self) -> None:
        """Start all; returns when both APIs are ready. The first one makes the registry."""
        for names in (APIS[:1], (*APIS[1:], *WORKERS)):
            for name in names:
                self.members[name].start()
            self.wait_until_ready(names[:1])

    def tend(self) -> list[str]:
        """Start again what has ended, as a service manager does; returns the names.

        A process may give up at its start, with a sentence and a status, and a worker may end by itself with 0.
        """
        ended = [member for member in self.members.values() if member.process is not None and not member.is_running()]
        for member in ended:
            assert member.process is not None
            status = member.process.returncode
            if not member.is_meant_to_end and (status < 0 or (status > 0 and member.was_ready)):
                self.unexpected.append(f"{member.name} ended by itself with {status}")
            member.start()
        return [member.name for member in ended]

    def is_ready(self, name: str) -> bool:
        """Whether an API process answers `/readyz` with 200, now."""
        with suppress(httpx.HTTPError):
            is_ready = httpx.get(f"{self.apis[name].address}/readyz", timeout=10).status_code == 200
            self.members[name].was_ready |= is_ready
            return is_ready
        return False

    def wait_until_ready(self, names: Sequence[str] = APIS, seconds: float = PATIENCE) -> None:
        """Wait until these APIs are ready; raises TimeoutError."""
        until = time.monotonic() + seconds
        while not all(self.is_ready(name) for name in names):
            if time.monotonic() > until:
                raise TimeoutError(f"no API is ready after {seconds} s: {self.log_tail()}")
            self.tend()
            time.sleep(0.2)

    def log_tail(self) -> str:
        """Return the last lines of every log."""
        return "\n".join(f"{m.name}: {m.log.read_text(errors='replace')[-600:]}" for m in self.members.values())

    def stop(self) -> list[str]:
        """Return SIGTERM to all, SIGKILL to who does not end in time; returns what was wrong."""
        wrong = []
        for member in self.members.values():
            member.signal(signal.SIGCONT)
            member.signal(signal.SIGTERM, whole=False)
        for member in self.members.values():
            try:
                assert member.process is not None
                if status := member.process.wait(PATIENCE):
                    wrong.append(f"{member.name} ended with {status} after SIGTERM")
            except subprocess.TimeoutExpired:
                wrong.append(f"{member.name} did not end within {PATIENCE} s of SIGTERM")
                member.signal(signal.SIGKILL)
        until = time.monotonic() + 30
        while (left := list(self.list_processes())) and time.monotonic() < until:
            time.sleep(0.1)
        wrong += [f"a process is left: {' '.join(process.cmdline())}" for process in left]
        return wrong

    def list_processes(self) -> Iterator[psutil.Process]:
        """Yield every process that works in this folder, or has its data root in the environment."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                places = (process.cwd(), process.environ().get("PICTOGLOT_HOME", ""))
                if any(place.startswith(str(self.folder)) for place in places):
                    yield process

    def close(self) -> None:
        """Kill what is left, and unmount the data root; its files are lost then."""
        for process in self.list_processes():
            with suppress(psutil.Error):
                process.kill()
        for member in self.members.values():
            if member.process is not None:
                member.process.wait()
        self.launcher.close()
        for api in self.apis.values():
            api.close()
        if self.is_small_disk:
            subprocess.run(["umount", "-l", str(self.home)], check=True)

    def keep(self, target: Path) -> None:
        """Copy data root, logs and ledger to where they stay, and the registry's dump."""
        for home in self.folder.glob("home*"):
            shutil.copytree(home, target / home.name, ignore=shutil.ignore_patterns("filler"))
        for file in self.folder.glob("*.*"):
            if file.is_file():
                shutil.copy2(file, target)
        if self.database is not None:
            with suppress(subprocess.SubprocessError):
                self.database.dump(target / "registry.dump")


def find_program() -> list[str]:
    """Return the command line as it is installed; `PYTHONPATH` makes it run this source tree."""
    return [str(Path(sys.executable).with_name("pictoglot"))]
