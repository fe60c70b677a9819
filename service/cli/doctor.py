"""`doctor`: checks this machine, the settings and the running service, one line each. Repairs nothing."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import httpx
import typer

from service.cli.client import client_settings, proxied
from service.cli.output import FAILED, AsJson, console, show_json
from service.cli.run import port_taken, settings_or_stop

if TYPE_CHECKING:
    from model.backends import Encoding
    from model.base import Base
    from service.settings import Settings

Outcome = Literal["ok", "note", "bad"]
_STYLE: dict[Outcome, str] = {"ok": "green", "note": "yellow", "bad": "bold red"}
_SECONDS = 3.0  # to wait for a broker or a service
_MEMORY = 1 << 30  # bytes: the least for a ViT-B base with its gallery
_REDIS_PORT = 6379


@dataclass(frozen=True)
class Finding:
    """The result of one check: `note` is worth knowing, `bad` keeps pictoglot from working."""

    what: str
    outcome: Outcome
    detail: str


def doctor(as_json: AsJson = False) -> None:
    """Check data root, store, database, broker, machine, base, service and port; exit status 1 for anything bad."""
    settings = settings_or_stop()
    findings = []
    for finding in _findings(settings):
        findings.append(finding)
        if not as_json:
            console.print(f"{finding.outcome:<5}", style=_STYLE[finding.outcome], end="")
            console.print(f"{finding.what:<11}{finding.detail}", markup=False, soft_wrap=True)
    if as_json:
        show_json({"findings": [asdict(finding) for finding in findings]})
    if any(finding.outcome == "bad" for finding in findings):
        raise typer.Exit(FAILED)


def _findings(settings: "Settings") -> Iterator[Finding]:
    yield _data_root(settings)
    yield _store(settings)
    yield _database(settings)
    yield broker_of(settings)
    yield _machine(settings)
    yield from _base(settings)
    service = service_at(client_settings().url)
    yield service
    if service.outcome != "ok":
        yield _port(settings)


def _data_root(settings: "Settings") -> Finding:
    home = settings.home
    there = home if home.exists() else next(parent for parent in home.parents if parent.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding("data root", "bad", f"{there} cannot be written: {error.strerror}")
    free = shutil.disk_usage(there).free
    sized = f"{home}, {free / 1e9:.1f} GB free"
    if free < settings.free_bytes:
        return Finding("data root", "bad", f"{sized}: less than PICTOGLOT_FREE_BYTES, writes are refused")
    return Finding("data root", "ok", sized if home.exists() else f"{sized}; created at the first start")


def _store(settings: "Settings") -> Finding:
    from model.data_root import DataRoot
    from model.errors import StoreUnavailable

    if not settings.store:
        return Finding("store", "ok", "none: only the data root is used")
    try:
        DataRoot(settings.home, settings.store).probe()
    except StoreUnavailable as error:
        return Finding("store", "bad", f"{settings.store}: {error.detail}; searches work, changes do not")
    return Finding("store", "ok", f"{settings.store}: writing, reading and deleting work")


def _database(settings: "Settings") -> Finding:
    from model.errors import PictoglotError
    from model.registry import open_registry

    kind = settings.database.split(":", 1)[0]
    file = settings.database.partition(":///")[2]
    if kind.startswith("sqlite") and not Path(file).exists():  # opening would create it, and a check changes nothing
        return Finding("database", "ok", f"{kind}; created at the first start")
    try:
        registry = open_registry(settings.database, migrate=False)
        registry.ping()
        registry.close()
    except PictoglotError as error:
        return Finding("database", "bad", f"{kind}: {error.detail}")
    return Finding("database", "ok", f"{kind} answers")


def broker_of(settings: "Settings") -> Finding:
    """Whether something answers where Celery will look for the broker."""
    if not settings.broker_url:
        return Finding("broker", "ok", "a folder under the data root; no server needed")
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
    from model.errors import PictoglotError

    name = settings.base.partition("@")[0]
    try:
        base = open_base(settings.base, settings.device or None)
    except PictoglotError as error:
        yield Finding("base", "bad", f"{name}: {error.detail}")
        return
    yield Finding("base", "ok", f"{name}, {base.dimension} dimensions")
    yield _encoding(settings, base)


def _encoding(settings: "Settings", base: "Base") -> Finding:
    from model.backends import OPENVINO
    from model.backends.choice import wanted
    from model.errors import PictoglotError

    try:
        encoding = wanted(settings, base.device, _recorded(settings))
    except PictoglotError as error:
        return Finding("vectors", "bad", error.detail)
    if encoding.backend != OPENVINO and base.device.type == "cpu":
        faster = "`pictoglot reencode` with OpenVINO" if find_spec(OPENVINO) else "the extra `openvino`"
        return Finding("vectors", "note", f"made with {encoding}; {faster} is several times faster on a CPU")
    return Finding("vectors", "ok", f"made with {encoding}")


def _recorded(settings: "Settings") -> "Encoding | None":
    """What made the vectors of the data root; None as long as it cannot be read, which `_database` tells."""
    from model.backends.choice import recorded
    from model.errors import RegistryUnavailable
    from model.registry import open_registry

    file = settings.database.partition(":///")[2]
    if settings.database.startswith("sqlite") and not Path(file).exists():
        return None
    try:
        with closing(open_registry(settings.database, migrate=False)) as registry:
            return recorded(registry)
    except RegistryUnavailable:
        return None


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
    serving = f"{address} serves release {body.get('release')}"
    return (
        Finding("service", "note", f"{serving}, degraded: {problems}")
        if problems
        else Finding("service", "ok", serving)
    )


def _port(settings: "Settings") -> Finding:
    if settings.port and port_taken(settings.host, settings.port):
        return Finding("port", "bad", f"{settings.port} is used by another program")
    return Finding("port", "ok", f"{settings.port} is free")
