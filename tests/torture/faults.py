"""The nemesis: what it does to processes, clocks, disk and database, and which refusals that excuses for how long."""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Lock
from typing import Any

import psutil

from tests.torture.deployment import APIS, LEASE, WORKERS, Deployment

GRACE = 8.0  # seconds after a fault within which its refusals are still excused: connections and locks time out
AWAY = frozenset({"registry_unavailable", "index_unavailable", "overloaded"})
# What a fault excuses: of the process that it hits, and of the others
EXCUSED: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "kill_api": (AWAY, frozenset({"registry_unavailable"})),  # a lock of SQLite is held until its process is gone
    "kill_worker": (frozenset(), frozenset({"registry_unavailable"})),
    "kill_child": (frozenset(), frozenset({"registry_unavailable"})),
    "stop_api": (AWAY | {"body_timeout"}, frozenset({"registry_unavailable"})),  # within a transaction of SQLite
    "stop_worker": (frozenset(), frozenset({"registry_unavailable"})),
    "stop_child": (frozenset(), frozenset({"registry_unavailable"})),
    "step_clock": (frozenset(), frozenset()),
    "strobe_clock": (frozenset(), frozenset()),
    "fill_disk": (frozenset({"storage_full"}) | AWAY, frozenset({"storage_full"}) | AWAY),
    "kill_database": (AWAY, AWAY),
    "lose_commits": (AWAY, AWAY),
    "kill_broker": (frozenset(), frozenset()),
    "break_store": (AWAY | {"store_unavailable"}, AWAY | {"store_unavailable"}),
    "restart_api": (AWAY, frozenset()),
}
NEEDS = {  # what a deployment needs to have for a fault
    "kill_database": "database",
    "lose_commits": "database",
    "kill_broker": "broker",
    "break_store": "store",
    "step_clock": "has_clocks",
    "strobe_clock": "has_clocks",
    "fill_disk": "is_small_disk",
}
STEPS = ("+3600", "-3600", "+400d", "-400d", "+3")


@dataclass(frozen=True)
class Window:
    """A fault from its begin to its end, grace included; `end` is infinite while it lasts."""

    kind: str
    process: str
    begin: float
    end: float = float("inf")


class Windows:
    """Which faults were on when. Threads may share it."""

    def __init__(self) -> None:
        self._windows: list[Window] = []
        self._lock = Lock()

    @contextmanager
    def open(self, kind: str, process: str = "") -> Iterator[None]:
        """Turn the fault on in this block."""
        end = self.begin(kind, process)
        try:
            yield
        finally:
            end()

    def begin(self, kind: str, process: str = "") -> Callable[[], None]:
        """Turn the fault on, and return what turns it off again."""
        window = Window(kind, process, time.monotonic())
        with self._lock:
            self._windows.append(window)

        def end() -> None:
            with self._lock:
                self._windows.remove(window)
                self._windows.append(Window(kind, process, window.begin, time.monotonic() + GRACE))

        return end

    def excuse(self, process: str, code: str, begun: float, ended: float) -> bool:
        """Whether a fault between these moments explains that this process refused with this code."""
        with self._lock:
            return any(
                code in EXCUSED[window.kind][0 if window.process in ("", process) else 1]
                for window in self._windows
                if window.begin <= ended and begun <= window.end
            )

    def explain_silence(self, process: str, begun: float, ended: float) -> bool:
        """Whether a fault between these moments explains that this process did not answer at all."""
        with self._lock:
            return any(
                window.kind in ("kill_api", "stop_api") and window.process == process
                for window in self._windows
                if window.begin <= ended and begun <= window.end
            )

    def are_open(self) -> bool:
        """Whether any fault is on, or was so lately."""
        with self._lock:
            return any(window.end > time.monotonic() for window in self._windows)


class Nemesis:
    """Does faults by name, and counts them. Each returns when it is over, but for a process that still starts."""

    def __init__(self, deployment: Deployment, windows: Windows, counts: Counter[str]) -> None:
        self._deployment, self._windows, self._counts = deployment, windows, counts
        self._starting: dict[str, Callable[[], None]] = {}
        self._lock = Lock()

    def strike(self, kind: str, target: int, seconds: float, detail: str = "") -> None:
        """Do a fault; where this deployment lacks what it needs, kill a worker."""
        if kind in NEEDS and not getattr(self._deployment, NEEDS[kind]):
            kind = "kill_worker"
        getattr(self, f"_{kind}")(target, seconds, detail)

    def tend(self) -> None:
        """Start again what has ended; end the windows of what is ready again."""
        with self._lock:
            self._deployment.tend()
            for name in [name for name in self._starting if self._deployment.is_ready(name)]:
                self._starting.pop(name)()

    def is_starting(self, name: str) -> bool:
        """Whether an API process was ended by a fault, and was not ready since."""
        with self._lock:
            return name in self._starting

    def _begin_start(self, kind: str, name: str) -> None:
        with self._lock:
            if name not in self._starting:
                self._starting[name] = self._windows.begin(kind, name)

    def _kill_api(self, target: int, seconds: float, detail: str) -> None:
        member = self._deployment.members[APIS[target % 2]]
        self._begin_start("kill_api", member.name)
        member.signal(signal.SIGKILL, whole=False)
        self._counts["kills"] += 1
        time.sleep(0.3)
        self.tend()

    def _restart_api(self, target: int, seconds: float, detail: str) -> None:
        """Send SIGTERM: it answers what it has received, ends in order, and comes again."""
        member = self._deployment.members[APIS[target % 2]]
        if member.is_meant_to_end:  # it ends already, and a second signal would end its requests
            return
        self._begin_start("restart_api", member.name)
        time.sleep(1)  # who was about to ask it has asked
        member.signal(signal.SIGTERM, whole=False)
        self._counts["restarts"] += 1

    def _kill_worker(self, target: int, seconds: float, detail: str) -> None:
        member = self._deployment.members[WORKERS[target % 2]]
        with self._windows.open("kill_worker", member.name):
            member.signal(signal.SIGKILL, whole=False)
            self._counts["kills"] += 1
            time.sleep(0.3)
            self.tend()

    def _kill_child(self, target: int, seconds: float, detail: str) -> None:
        children = [child for name in (*WORKERS, *APIS) for child in self._deployment.members[name].list_children()]
        if not children:
            return
        child = children[target % len(children)]
        with self._windows.open("kill_child"), suppress(psutil.Error):
            child.kill()
            self._counts["kills"] += 1
            self._counts["kills of children"] += 1

    def _stop_api(self, target: int, seconds: float, detail: str) -> None:
        self._stop("stop_api", APIS[target % 2], seconds)

    def _stop_worker(self, target: int, seconds: float, detail: str) -> None:
        self._stop("stop_worker", WORKERS[target % 2], seconds)

    def _stop(self, kind: str, name: str, seconds: float) -> None:
        member = self._deployment.members[name]
        with self._windows.open(kind, name):
            member.signal(signal.SIGSTOP)
            self._counts["stops"] += 1
            time.sleep(seconds)
            member.signal(signal.SIGCONT)

    def _stop_child(self, target: int, seconds: float, detail: str) -> None:
        children = [child for name in WORKERS for child in self._deployment.members[name].list_children()]
        if not children:
            return
        with self._windows.open("stop_child"), suppress(psutil.Error):
            children[target % len(children)].suspend()
            self._counts["stops"] += 1
            time.sleep(seconds)
            children[target % len(children)].resume()

    def _step_clock(self, target: int, seconds: float, detail: str) -> None:
        member = self._deployment.members[(*APIS, *WORKERS)[target % 4]]
        with self._windows.open("step_clock", member.name):
            member.set_clock(detail)
            self._counts["clock steps"] += 1
            time.sleep(seconds)
            member.set_clock("+0")

    def _strobe_clock(self, target: int, seconds: float, detail: str) -> None:
        member = self._deployment.members[(*APIS, *WORKERS)[target % 4]]
        until = time.monotonic() + seconds
        with self._windows.open("strobe_clock", member.name):
            while time.monotonic() < until:
                for moved in (detail, "+0"):
                    member.set_clock(moved)
                    self._counts["clock steps"] += 1
                    time.sleep(1)

    def _fill_disk(self, target: int, seconds: float, detail: str) -> None:
        filler = self._deployment.home / "filler"
        with self._windows.open("fill_disk"):
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
            self._counts["full disks"] += 1
            time.sleep(seconds)
            filler.unlink()

    def _kill_database(self, target: int, seconds: float, detail: str) -> None:
        """Kill it within a COMMIT of a change of the gallery, before or after it was carried out, if one comes."""
        database: Any = self._deployment.database
        is_killed, lock = Event(), Lock()

        def kill() -> None:
            with lock:
                if not is_killed.is_set():
                    database.kill()
                    is_killed.set()

        with self._windows.open("kill_database"):
            database.proxy.lose(committed=bool(target % 2), naming="gallery_changes", act=kill)
            self._counts["database kills within a COMMIT"] += is_killed.wait(2 * seconds)
            database.proxy.restore()
            kill()
            self._counts["database kills"] += 1
            time.sleep(seconds / 4)
            database.start()

    def _lose_commits(self, target: int, seconds: float, detail: str) -> None:
        proxy = self._deployment.database.proxy if self._deployment.database else None
        assert proxy is not None
        before, until = proxy.lost, time.monotonic() + seconds / 4
        with self._windows.open("lose_commits"):
            while time.monotonic() < until:
                proxy.lose(committed=True)
                time.sleep(0.01)
            proxy.restore()
        self._counts["lost commits"] += proxy.lost - before

    def _kill_broker(self, target: int, seconds: float, detail: str) -> None:
        broker: Any = self._deployment.broker
        with self._windows.open("kill_broker"):
            broker.kill()
            self._counts["broker kills"] += 1
            time.sleep(seconds)
            broker.start()

    def _break_store(self, target: int, seconds: float, detail: str) -> None:
        store: Any = self._deployment.store
        with self._windows.open("break_store"):
            store.proxy.mode = ("stall", "break", "lie")[target % 3]
            self._counts["stores that stall, break or lie"] += 1
            time.sleep(2 * seconds)
            store.proxy.mode = ""


def lease_of(kind: str) -> float:
    """Return for how many seconds a fault lasts: what is stopped stands still for two leases."""
    return 2 * LEASE if kind.startswith("stop") else LEASE
