"""`doctor`: checks this machine, the settings and the running service, one line each. Repairs nothing."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import urlsplit

import httpx
import typer

from client.client import client_settings, proxied
from client.output import FAILED, AsJson, console, counted, say, show_json
from service.commands.run import port_taken, settings_or_stop

if TYPE_CHECKING:
    from model.base import Base
    from service.settings import Settings
    from store.registry import Registry
    from store.settings import CommonSettings

T = TypeVar("T")
Outcome = Literal["ok", "note", "bad"]
SERVES = "serves release"
_STYLE: dict[Outcome, str] = {"ok": "green", "note": "yellow", "bad": "bold red"}
_SECONDS = 3.0  # to wait for a broker or a service
_WAIT = 60.0  # of an expansion for a worker: one that is there looks every few seconds
_MEMORY = 1 << 30  # bytes: the least for a ViT-B base with its gallery
_REDIS_PORT = 6379
_CHANCE = 0.02  # recall below what was asked for that a hundred queries may show by chance


@dataclass(frozen=True)
class Finding:
    """The result of one check: `note` is worth knowing, `bad` keeps pictoglot from working."""

    what: str
    outcome: Outcome
    detail: str


def doctor(as_json: AsJson = False) -> None:
    """Check data root, store, database, worker, index, broker, machine, base, service, port; status 1 if any is bad."""
    settings = settings_or_stop()
    findings = []
    for finding in _findings(settings):
        findings.append(finding)
        if not as_json:
            console.print(f"{finding.outcome:<5}", style=_STYLE[finding.outcome], end="")
            say(f"{finding.what:<11}{finding.detail}")
    if as_json:
        show_json({"findings": [asdict(finding) for finding in findings]})
    if any(finding.outcome == "bad" for finding in findings):
        raise typer.Exit(FAILED)


def _findings(settings: "Settings") -> Iterator[Finding]:
    yield describe_settings()
    yield _data_root(settings)
    yield _store(settings)
    yield _database(settings)
    yield from worker_of(settings)
    yield index_of(settings)
    yield broker_of(settings)
    yield _machine(settings)
    yield from _base(settings)
    yield from recall_of(settings)
    url = client_settings().url
    service = service_at(url)
    yield service
    if service.outcome != "ok" and not (SERVES in service.detail and url == settings.reachable()):
        yield _port(settings)


def describe_settings() -> Finding:
    """Where the settings are from."""
    from store.settings import env_file, read_env_file

    count = len([name for name in read_env_file() if name.startswith("PICTOGLOT_")])
    if not env_file().is_file():
        return Finding("settings", "ok", "the environment; no .env in this folder")
    return Finding("settings", "ok", f"the environment, then {counted(count, 'variable')} of {env_file()}")


def _data_root(settings: "Settings") -> Finding:
    from index.files import bytes_of_originals

    home = settings.home
    there = home if home.exists() else next(parent for parent in home.parents if parent.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding("data root", "bad", f"{there} cannot be written: {error.strerror}")
    free = shutil.disk_usage(there).free
    sized = f"{home}, {free / 1e9:.1f} GB free"
    if originals := bytes_of_originals(home):
        sized += f", {originals / 1e9:.1f} GB of kept originals"
    if free < settings.free_bytes:
        return Finding("data root", "bad", f"{sized}: less than PICTOGLOT_FREE_BYTES, writes are refused")
    return Finding("data root", "ok", sized if home.exists() else f"{sized}; created at the first start")


def _store(settings: "Settings") -> Finding:
    from store.data_root import DataRoot
    from store.errors import StoreUnavailable

    if not settings.store:
        return Finding("store", "ok", "none: only the data root is used")
    try:
        DataRoot(settings.home, settings.store).probe()
    except StoreUnavailable as error:
        return Finding("store", "bad", f"{settings.store}: {error.detail}; searches work, changes do not")
    return Finding("store", "ok", f"{settings.store}: writing, reading and deleting work")


def _database(settings: "Settings") -> Finding:
    from store.errors import PictoglotError
    from store.registry import open_registry

    kind = settings.database.split(":", 1)[0]
    if _no_registry(settings):
        return Finding("database", "ok", f"{kind}; created at the first start")
    try:
        with closing(open_registry(settings.database, migrate=False)) as registry:
            outdated = registry.outdated
    except PictoglotError as error:
        return Finding("database", "bad", f"{kind}: {error.told}")
    if outdated:
        return Finding("database", "note", f"{kind} answers; {outdated}: back up first, there is no other way back")
    return Finding("database", "ok", f"{kind} answers")


def worker_of(settings: "Settings") -> Iterator[Finding]:
    """Whether somebody works on what is to be learned; nothing where no expansion is queued or running.

    A worker that has nothing to do writes nothing, so nobody can tell whether there is one.
    """

    def read(registry: "Registry") -> tuple[int, int, int, float]:
        known = registry.expansions
        running, abandoned = known.counts().get("running", 0), len(known.abandoned())
        return running - abandoned, abandoned, len(known.runnable()), known.longest_wait()

    held, abandoned, waiting, longest = _told(settings, read) or (0, 0, 0, 0.0)
    if not held + waiting:
        return
    detail = f"{counted(held, 'expansion')} in work, {waiting} waiting for a worker"
    if abandoned:
        detail += f", of which {abandoned} had one that is silent"
    if waiting and not held and longest > _WAIT:
        yield Finding("worker", "bad", f"{detail}, for {longest:.0f} s: is `pictoglot worker` running?")
    else:
        yield Finding("worker", "note" if abandoned else "ok", detail)


def index_of(settings: "CommonSettings") -> Finding:
    """Whether what the settings name can search vectors."""
    from index.states import FAISS, refuse_other
    from store.errors import PictoglotError
    from store.registry import open_registry
    from store.settings import SettingsError

    on_disk = Finding("index", "ok", "faiss: files under the data root")
    if settings.index == FAISS and _no_registry(settings):
        return on_disk
    try:
        with closing(open_registry(settings.database, migrate=False)) as registry:
            refuse_other(settings.index, registry)
            if settings.index == FAISS:
                return on_disk
            if settings.index == "pgvector":
                from index.engine.extension import installed

                found = installed(registry)
                if found is None:
                    return Finding("index", "note", "pgvector: CREATE EXTENSION vector is tried at the first start")
                return Finding("index", "ok", f"pgvector {found.release} in the database")
            from index.engine.milvus import Milvus

            milvus = Milvus(settings.index.partition("+")[2])
            with closing(milvus):
                return Finding("index", "ok", f"{milvus.about()} answers")
    except SettingsError as error:
        return Finding("index", "bad", str(error))
    except PictoglotError as error:
        if settings.index == FAISS:  # `_database` tells
            return on_disk
        kind = settings.index.partition("+")[0]  # the address may hold a password
        return Finding("index", "bad", f"{kind}: {error.detail}")


def _no_registry(settings: "CommonSettings") -> bool:
    """Whether there is no SQLite file yet, which opening would make: a check changes nothing."""
    return settings.database.startswith("sqlite") and not Path(settings.database.partition(":///")[2]).exists()


def broker_of(settings: "Settings") -> Finding:
    """Whether something answers where Celery will look for the broker."""
    if not settings.broker_url:
        return Finding("broker", "ok", "no server needed: each worker looks for itself")
    try:
        parts = urlsplit(settings.broker_url)
        socket.create_connection((parts.hostname or "localhost", parts.port or _REDIS_PORT), _SECONDS).close()
    except ValueError:
        return Finding(
            "broker", "bad", "PICTOGLOT_BROKER_URL has no valid port; write `/` and `#` in a password as %2F and %23"
        )
    except OSError:
        return Finding("broker", "bad", f"{parts.scheme} does not answer; expansions wait for it")
    return Finding("broker", "ok", f"{parts.scheme} answers")


def _machine(settings: "Settings") -> Finding:
    import psutil

    cores, memory = len(psutil.Process().cpu_affinity() or []) or os.cpu_count() or 1, psutil.virtual_memory()
    detail = f"{cores} cores, {memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB memory free"
    threads = f"{settings.threads} thread{'s' if settings.threads > 1 else ''} per process"
    if memory.available < _MEMORY:
        return Finding("machine", "note", f"{detail}: this may be too little for a base")
    if 2 * settings.threads > cores + 1:
        return Finding("machine", "note", f"{detail}; with {threads}, training slows searches down")
    return Finding("machine", "ok", f"{detail}; {threads}")


def _base(settings: "Settings") -> Iterator[Finding]:
    from model.base import open_base  # brings torch
    from store.errors import PictoglotError

    serving = _told(settings, lambda registry: registry.bases.serving())
    served = serving.name if serving else settings.base  # after a move, the settings may go on naming the first base
    name = served.partition("@")[0]
    try:
        base = open_base(served)
    except PictoglotError as error:
        yield Finding("base", "bad", f"{name}: {error.detail}")
        return
    yield Finding("base", "ok", f"{name}, {base.dimension} dimensions")
    yield _encoding(settings, base)


def _told(settings: "Settings", read: "Callable[[Registry], T | None]") -> "T | None":
    """What the registry says; None where there is none, or it cannot be read or has no tables: `_database` tells."""
    from store.errors import RegistryOutdated, RegistryUnavailable
    from store.registry import open_registry

    if _no_registry(settings):
        return None
    try:
        with closing(open_registry(settings.database, migrate=False)) as registry:
            return read(registry)
    except (RegistryOutdated, RegistryUnavailable):
        return None


def _encoding(settings: "Settings", base: "Base") -> Finding:
    from model.backends.choice import recorded, wanted
    from store.encodings import OPENVINO
    from store.errors import PictoglotError

    try:
        encoding = wanted(settings, base.device, _told(settings, recorded))
    except PictoglotError as error:
        return Finding("vectors", "bad", error.detail)
    if encoding.backend != OPENVINO and base.device.type == "cpu":
        faster = "`pictoglot reencode` with OpenVINO" if find_spec(OPENVINO) else "the extra `openvino`"
        return Finding("vectors", "note", f"made with {encoding}; {faster} is several times faster on a CPU")
    return Finding("vectors", "ok", f"made with {encoding}")


def recall_of(settings: "Settings") -> Iterator[Finding]:
    """How many of the nearest pictures searches find in what is sealed, or that some is lost."""
    from index.engine.choice import open_engine
    from index.gallery import Gallery
    from index.recall import measure
    from index.sets import VectorSets
    from index.sources import PictureSource, mended
    from index.states import sealed_in
    from store.data_root import DataRoot
    from store.errors import PictoglotError
    from store.registry import open_registry
    from store.settings import SettingsError

    if _no_registry(settings):
        return
    try:
        with closing(open_registry(settings.database, migrate=False)) as registry:
            if sealed_in(registry) is None:
                yield Finding("recall", "ok", "nothing is sealed yet: searches compare all pictures")
                return
            root = DataRoot(settings.home, settings.store)
            engine = open_engine(settings.index, registry, settings.recall)
            with closing(engine) if engine is not None else nullcontext():
                sets = VectorSets(Gallery(registry, root), engine, settings.recall)
                numbers = {of: number for of, number in sets.numbers().items() if of.kind == "pictures"}
                if not numbers:
                    return
                identity = max(numbers, key=lambda of: numbers[of])
                if problem := sets.problem(identity):
                    yield Finding("recall", "bad", f"{problem} They are sealed again when the service starts.")
                    return
                readable = sets.readable(identity, sets.state(identity))
                pictures = mended(PictureSource(sets.gallery, identity), *readable)
                recall = measure(pictures, sets.gallery)
    except (PictoglotError, SettingsError):  # told by the findings about database, index and store
        return
    if recall is not None:
        asked = f"{recall.queries} {'captions' if recall.captions else 'made-up texts'} against an exact scan"
        sealed = counted(pictures.count, "picture")
        detail = f"{sealed} sealed; searches find {recall.share:.1%} of the ten nearest ({asked})"
        if recall.depth is not None:
            detail += f", {recall.depth} {recall.unit} deep"
        yield Finding("recall", "ok" if recall.share >= settings.recall - _CHANCE else "note", detail)


def service_at(address: str) -> Finding:
    """Whether pictoglot answers at this URL, and how well."""
    try:
        response = httpx.get(f"{address}/readyz", timeout=_SECONDS, trust_env=proxied(address))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return Finding("service", "note", f"no service answers at {address}")
    try:
        body = response.json()
    except ValueError:
        return Finding("service", "bad", f"the server at {address} is not pictoglot")
    problems = ", ".join(body.get("degraded", [])).replace("_", " ")
    if not response.is_success:
        return Finding("service", "bad", f"{address} is not ready: {problems or 'it is starting'}")
    serving = f"{address} {SERVES} {body.get('release')}"
    return (
        Finding("service", "note", f"{serving}, degraded: {problems}")
        if problems
        else Finding("service", "ok", serving)
    )


def _port(settings: "Settings") -> Finding:
    if settings.port and port_taken(settings.host, settings.port):
        return Finding("port", "bad", f"{settings.port} is used by another program")
    return Finding("port", "ok", f"{settings.port} is free")
