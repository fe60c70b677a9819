"""The checks of this machine, the settings and the running service for `pictoglot doctor`. Repairs nothing."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import urlsplit

import httpx
import psutil

from client.api import LOOPBACK, Client, is_proxied
from client.settings import read_file
from client.terminal import format_count, load_client_settings
from service.commands.processes import is_port_taken
from service.settings import Settings
from store.bases import OPENVINO
from store.data_root import DataRoot
from store.errors import PictoglotError, RegistryOutdated, RegistryUnavailable, StoreUnavailable
from store.registry import Registry, open_registry
from store.settings import (
    ENV_FILE,
    PREFIX,
    CommonSettings,
    SettingsError,
    locate_env_file,
    read_env_file,
    read_environment,
)

if TYPE_CHECKING:
    from model.base import Base

T = TypeVar("T")
Outcome = Literal["ok", "note", "bad"]
Result = tuple[Outcome, str]
_SECONDS = 3.0  # to wait for a broker or for Immich's service
_PATIENCE = 10.0  # for pictoglot: on a busy machine an answer may take some seconds
_WAIT = 60.0  # of an expansion for a worker: one that is there looks every second
_MEMORY = 1 << 30  # bytes: the least for a ViT-B base with its gallery
_REDIS_PORT = 6379
_ORIGIN = "the environment"  # of settings
_CHANCE = 0.02  # recall below what was asked for that a hundred queries may show by chance


@dataclass(frozen=True)
class Finding:
    """The result of one check: `note` is worth knowing, `bad` keeps pictoglot from working."""

    what: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class RunningService:
    """A service that runs on this machine: its process, the folder it was started in, and its settings."""

    pid: int
    folder: Path
    variables: Mapping[str, str]

    @property
    def home(self) -> Path:
        """The data root, by the environment or the `.env` of that folder."""
        home = f"{PREFIX}HOME"
        named = self.variables.get(home) or read_file(self.folder / ENV_FILE).get(home)
        return self.folder / Path(named or CommonSettings.model_fields["home"].default).expanduser()


def find_running_service(url: str) -> RunningService | None:
    """Return the service that listens at `url` on this machine, if this user may look at its process."""
    with suppress(ValueError, psutil.Error, OSError):
        address = urlsplit(url)
        for each in psutil.net_connections("tcp") if address.hostname in LOOPBACK else ():
            if each.status == psutil.CONN_LISTEN and each.laddr.port == address.port and each.pid:
                process = psutil.Process(each.pid)
                own = {name: value for name, value in process.environ().items() if name.startswith(PREFIX)}
                if "service" in process.cmdline():
                    return RunningService(each.pid, Path(process.cwd()), own)
    return None


def follow_running_service() -> str:
    """Take the settings of the service that runs here, where this terminal names no data root; return their origin."""
    is_named = f"{PREFIX}HOME" in {**read_env_file(), **read_environment()}
    running = None if is_named else find_running_service(load_client_settings().address)
    if running is None:
        return _ORIGIN
    os.environ.update({**running.variables, **os.environ})
    os.chdir(running.folder)
    return f"{_ORIGIN} of the running service, process {running.pid}"


class Checkup:
    """The checks of these settings: each returns an outcome and a sentence, or None where there is nothing to say."""

    def __init__(self, settings: Settings, url: str = "", origin: str = _ORIGIN) -> None:
        """Look for the service at `url`, by default where the settings of the client say; `origin` is of `settings`."""
        self._settings, self._url, self._origin = settings, url, origin
        self._checks: dict[str, Callable[[], Result | None]] = {
            "settings": self._check_settings, "data root": self._check_data_root, "store": self._check_store,
            "database": self._check_database, "worker": self._check_worker, "index": self._check_index,
            "broker": self._check_broker, "machine": self._check_machine, "base": self._check_base,
            "vectors": self._check_vectors, "recall": self._check_recall, "service": self._check_service,
            "port": self._check_port, "immich": self._check_immich,
        }  # fmt: skip
        self._base: Base | None = None
        self._is_served = self._is_silent = False

    def run(self) -> Iterator[Finding]:
        """Yield the findings of all checks, in order."""
        yield from filter(None, map(self.check, self._checks))

    def check(self, what: str) -> Finding | None:
        """Return the finding of one check."""
        try:
            result = self._checks[what]()
        except SettingsError as error:
            result = "bad", str(error)
        except PictoglotError as error:
            result = "bad", error.full_detail
        return None if result is None else Finding(what, *result)

    def _check_settings(self) -> Result:
        count = len([name for name in read_env_file() if name.startswith("PICTOGLOT_")])
        if not locate_env_file().is_file():
            return "ok", f"{self._origin}; no .env in its folder"
        return "ok", f"{self._origin}, then {format_count(count, 'variable')} of {locate_env_file()}"

    def _check_data_root(self) -> Result:
        from index.picture_files import estimate_original_bytes

        home = self._settings.home
        there = home if home.exists() else next(parent for parent in home.parents if parent.exists())
        try:
            with tempfile.NamedTemporaryFile(dir=there):
                pass
        except OSError as error:
            return "bad", f"{there} cannot be written: {error.strerror}"
        free = shutil.disk_usage(there).free
        sized = f"{home}, {free / 1e9:.1f} GB free"
        if originals := estimate_original_bytes(home):
            sized += f", {originals / 1e9:.1f} GB of kept originals"
        if free < self._settings.free_bytes:
            return "bad", f"{sized}: less than PICTOGLOT_FREE_BYTES, writes are refused"
        sized = sized if home.exists() else f"{sized}; created at the first start"
        running = find_running_service(self._url or load_client_settings().address)
        if running is not None and running.home != home:
            return "note", f"{sized}. The service that runs here has another one: {running.home}"
        return "ok", sized

    def _check_store(self) -> Result:
        store = self._settings.store
        if not store:
            return "ok", "none: only the data root is used"
        try:
            DataRoot(self._settings.home, store).probe()
        except StoreUnavailable as error:
            return "bad", f"{store}: {error.detail}; searches work, changes do not"
        return "ok", f"{store}: writing, reading and deleting work"

    def _check_database(self) -> Result:
        kind = self._settings.database.split(":", 1)[0]
        if self._has_no_registry():
            return "ok", f"{kind}; created at the first start"
        with self._open_registry() as registry:
            migration = registry.describe_migration()
        if migration:
            return "note", f"{kind} answers; {migration}: back up first, there is no other way back"
        return "ok", f"{kind} answers"

    def _check_worker(self) -> Result | None:
        """Look whether somebody works on what is to be learned; a worker that has nothing to do leaves no trace."""

        def read(registry: Registry) -> tuple[int, int, int, float]:
            known = registry.expansions
            active, abandoned = known.count_by_state().get("running", 0), len(known.list_runnable("running"))
            return active - abandoned, abandoned, len(known.list_runnable()), known.measure_longest_wait()

        running, abandoned, waiting, longest = self._ask_registry(read) or (0, 0, 0, 0.0)
        if not running + waiting:
            return None
        detail = f"{format_count(running, 'expansion')} in work, {waiting} waiting for a worker"
        if abandoned:
            detail += f", of which {abandoned} had one that is silent"
        if waiting and not running and longest > _WAIT:
            return "bad", f"{detail}, for {longest:.0f} s: is `pictoglot worker` running?"
        return "note" if abandoned else "ok", detail

    def _check_index(self) -> Result:
        from index.set_states import FAISS, refuse_other_engine

        kind, _, address = self._settings.index.partition("+")  # the address may hold a password
        on_disk: Result = "ok", "faiss: files under the data root"
        if kind == FAISS and self._has_no_registry():
            return on_disk
        try:
            with self._open_registry() as registry:
                refuse_other_engine(self._settings.index, registry)
                if kind == FAISS:
                    return on_disk
                if kind == "pgvector":
                    from index.engine.pgvector import find_extension

                    if (found := find_extension(registry)) is None:
                        return "note", "pgvector: CREATE EXTENSION vector is tried at the first start"
                    return "ok", f"pgvector {found.release} in the database"
                from index.engine.milvus import Milvus

                with closing(Milvus(address)) as milvus:
                    return "ok", f"{milvus.describe()} answers"
        except PictoglotError as error:
            return on_disk if kind == FAISS else ("bad", f"{kind}: {error.detail}")  # of FAISS, `database` says it

    def _check_broker(self) -> Result:
        """Look whether something answers where Celery will look for the broker."""
        if not self._settings.broker_url:
            return "ok", "no server needed: each worker looks for itself"
        try:
            parts = urlsplit(self._settings.broker_url)
            socket.create_connection((parts.hostname or "localhost", parts.port or _REDIS_PORT), _SECONDS).close()
        except ValueError:
            return "bad", "PICTOGLOT_BROKER_URL has no valid port; write `/` and `#` in a password as %2F and %23"
        except OSError:
            return "bad", f"{parts.scheme} does not answer; expansions wait for it"
        return "ok", f"{parts.scheme} answers"

    def _check_machine(self) -> Result:
        cores, memory = len(psutil.Process().cpu_affinity() or []) or os.cpu_count() or 1, psutil.virtual_memory()
        detail = f"{cores} cores, {memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB memory free"
        threads = f"{format_count(self._settings.threads, 'thread')} per process"
        if memory.available < _MEMORY:
            return "note", f"{detail}: this may be too little for a base"
        if 2 * self._settings.threads > cores + 1:
            return "note", f"{detail}; with {threads}, training slows searches down"
        return "ok", f"{detail}; {threads}"

    def _check_base(self) -> Result:
        from model.base import open_base  # brings torch

        serving = self._ask_registry(lambda registry: registry.bases.find_serving())
        name = serving.name if serving else self._settings.base  # after a move, the settings may name the first base
        try:
            self._base = open_base(name)
        except PictoglotError as error:
            return "bad", f"{name.partition('@')[0]}: {error.detail}"
        return "ok", f"{name.partition('@')[0]}, {self._base.dimension} dimensions"

    def _check_vectors(self) -> Result | None:
        from model.backend import resolve_encoding

        if self._base is None:
            return None
        encoding = resolve_encoding(
            self._settings, self._base.device, self._ask_registry(lambda registry: registry.encodings.find_current())
        )
        if encoding.backend != OPENVINO and self._base.device.type == "cpu":
            faster = "`pictoglot base move --backend openvino`" if find_spec(OPENVINO) else "the extra `openvino`"
            return "note", f"made with {encoding}; {faster} is several times faster on a CPU"
        return "ok", f"made with {encoding}"

    def _check_recall(self) -> Result | None:
        """Measure how many of the nearest pictures searches find in what is sealed."""
        from index.ranking import measure
        from index.set_states import find_last_location
        from index.sets import open_sets

        if self._has_no_registry():
            return None
        try:
            with self._open_registry() as registry:
                if find_last_location(registry) is None:
                    return "ok", "nothing is sealed yet: searches compare all pictures"
                root = DataRoot(self._settings.home, self._settings.store)
                sets = open_sets(registry, root, self._settings.index, self._settings.recall)
                with closing(sets.engine) if sets.engine is not None else nullcontext():
                    numbers = {of: number for of, number in sets.list_newest().items() if of.kind == "pictures"}
                    if not numbers:
                        return None
                    identity = max(numbers, key=lambda of: numbers[of])
                    if problem := sets.describe_lost_rows(identity):
                        return "bad", f"{problem} They are sealed again when the service starts."
                    pictures, lost = sets.open_sealed(identity, sets.read_state(identity))
                    if lost:  # their rows, read from the tables, may not fit into memory
                        return "bad", " ".join(pictures.problems)
                    recall = measure(pictures, sets.gallery)
        except (PictoglotError, SettingsError):  # `database`, `index` and `store` say it
            return None
        if recall is None:
            return None
        method = f"{recall.queries} {'captions' if recall.captions else 'made-up texts'} against an exact scan"
        sealed = format_count(pictures.count, "picture")
        detail = f"{sealed} sealed; searches find {recall.share:.1%} of the ten nearest ({method})"
        if recall.depth is not None:
            detail += f", {recall.depth} {recall.unit} deep"
        return "ok" if recall.share >= self._settings.recall - _CHANCE else "note", detail

    def _check_service(self) -> Result:
        """Look whether pictoglot answers at the URL, and how well."""
        url = self._url or load_client_settings().address
        try:
            response = httpx.get(f"{url}/readyz", timeout=_PATIENCE, trust_env=is_proxied(url))
        except httpx.ReadTimeout:
            self._is_silent = True
            return "bad", f"what listens at {url} gives no answer within {_PATIENCE:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return "note", f"no service answers at {url}"
        try:
            body = response.json()
        except ValueError:
            return "bad", f"the server at {url} is not pictoglot"
        problems = ", ".join(body.get("degraded", [])).replace("_", " ")
        if not response.is_success:
            return "bad", f"{url} is not ready: {problems or 'it is starting'}"
        self._is_served = True
        serving = f"{url} serves release {body.get('release')}"
        return ("note", f"{serving}, degraded: {problems}") if problems else ("ok", serving)

    def _check_port(self) -> Result | None:
        if self._is_served or self._is_silent:
            return None
        if self._settings.port and is_port_taken(self._settings.host, self._settings.port):
            return "bad", f"{self._settings.port} is used by another program"
        return "ok", f"{self._settings.port} is free"

    def _check_immich(self) -> Result | None:
        """Look whether Immich's own service answers, and as this one does."""
        from service.commands import immich

        client = load_client_settings()
        if not (upstream := client.immich_upstream):
            return None
        try:
            httpx.get(
                f"{upstream.rstrip('/')}/ping", timeout=_SECONDS, trust_env=is_proxied(upstream)
            ).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = str(error).partition("\n")[0] or type(error).__name__
            return "bad", f"{upstream} does not answer: {why}; faces and pictures wait for it"
        if not (client.immich_model and self._is_served):
            return "ok", f"{upstream} answers"
        try:
            with Client(client.address, client.key) as service:
                least = min(cosine for _, cosine in immich.compare(upstream, client.immich_model, service))
        except (httpx.HTTPError, immich.ComparisonError) as error:
            return "bad", f"{upstream} answers, but cannot be compared: {str(error).partition(chr(10))[0]}"
        alike = f"the least cosine of both is {least:.4f}, {immich.LEAST_COSINE} is needed"
        return ("ok" if least >= immich.LEAST_COSINE else "bad"), f"{upstream} answers; {alike}"

    def _has_no_registry(self) -> bool:
        """Tell whether there is no SQLite file yet, which opening would make: a check changes nothing."""
        database = self._settings.database
        return database.startswith("sqlite") and not Path(database.partition(":///")[2]).exists()

    def _open_registry(self) -> "closing[Registry]":
        return closing(open_registry(self._settings.database, migrate=False))

    def _ask_registry(self, read: Callable[[Registry], T]) -> T | None:
        """Return what the registry says; None where there is none, or none that can be read: `database` says it."""
        if self._has_no_registry():
            return None
        try:
            with self._open_registry() as registry:
                return read(registry)
        except (RegistryOutdated, RegistryUnavailable):
            return None
