"""A data root with real worker processes on it: tiny base, toy languages, quick expansions."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import numpy as np
import psutil
from sqlalchemy import Executable, update

from index.gallery import Gallery, NewPicture
from model.backend import open_encoder
from model.base import measure_base
from model.encoder import Encoder
from store import files
from store.clock import now
from store.data_root import DataRoot
from store.errors import RegistryUnavailable
from store.expansions import Expansion, ExpansionKind, make_expansion_id
from store.registry import Registry, open_registry
from store.settings import CommonSettings
from store.tables import ExpansionRow
from tests.doubles import Vectors
from tests.forked import Forked, run_attempt
from tests.launcher import Launcher, is_program, start_module
from tests.patience import PATIENCE, insist
from tests.registries import make_registry
from worker.attempt import Attempt, open_context
from worker.child import run
from worker.prepare import TrainingData, prepare
from worker.settings import WorkerSettings

ENGLISH = ("apple", "dog", "house", "sea", "sun", "cat", "ship", "flower", "star", "bread")
COLOURS = ("red", "green", "blue", "old", "big", "small", "white", "black", "new", "cold")
TOY = {  # invented words, one a letter-swap of the other, so that two languages share sub-words
    "cy": ("afal", "ci", "tŷ", "môr", "haul", "cath", "llong", "blodyn", "seren", "bara"),
    "br": ("aval", "ki", "ti", "mor", "heol", "kazh", "lestr", "bleuñv", "stered", "bara"),
}
PICTURES = 120
# nothing is to be gained among pictures that show nothing, and the gate would say so
QUICK = {"epochs": 4, "batch_size": 16, "vocabulary": 300, "checkpoint_every": 5, "force": True}
T = TypeVar("T")
FINISHED = ("succeeded", "failed", "cancelled")


def pairs(language: str, *, picture: bool = False, count: int = 100) -> list[dict[str, str]]:
    """`count` captions of a toy language with their English and, with `picture`, one picture each."""
    words = TOY[language]
    rows = [
        {"caption": f"{word} {colour[::-1]}", "english": f"{colour} {english}"}
        for word, english in zip(words, ENGLISH, strict=True)
        for colour in COLOURS
    ][:count]
    return [{**row, "picture": f"p{number}"} for number, row in enumerate(rows)] if picture else rows


def with_welsh(language: str = "br", count: int = 100) -> list[dict[str, Any]]:
    """Captions of a toy language beside the Welsh of the same things."""
    welsh = [row["caption"] for row in pairs("cy", count=count)]
    return [
        {"caption": row["caption"], "pivot": {"language": "cy", "text": text}}
        for row, text in zip(pairs(language, count=count), welsh, strict=True)
    ]


@dataclass
class Site:
    """One deployment: its data root, its environment, its worker processes."""

    home: Path
    base: str
    broker: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    pictures: int = PICTURES
    processes: list[subprocess.Popen[bytes] | Forked] = field(default_factory=list)
    launcher: Launcher | None = None

    def __post_init__(self) -> None:
        self.home.mkdir(exist_ok=True)
        self.log_file = self.home / "worker.log"
        compiled = self._kept / "compiled"
        compiled.mkdir(parents=True, exist_ok=True)
        (self.home / "compiled").symlink_to(compiled)  # shared by all sites with this base: a trace takes seconds
        self._open()
        self.begun_at = 0
        self.begin_with("new", self._fill)
        encoding, base = self.registry.encodings.find_current(), self.registry.bases.find_serving()
        assert encoding is not None and base is not None
        self.image_fingerprint = encoding.compute_fingerprint(base.image_fingerprint)
        self.text_fingerprint = encoding.compute_fingerprint(base.text_fingerprint)
        self.dimension, _ = measure_base(self.base)
        self.begun_at = self.gallery.read_last_change()

    @property
    def _kept(self) -> Path:
        """The folder that all sites with this base share."""
        return Path(self.base.partition("@")[2]).parent / "kept"

    def _open(self) -> None:
        here = self.settings.get("DATABASE_URL") or make_registry(self.home / "registry.db")
        self.registry: Registry = open_registry(here)
        self.gallery = Gallery(self.registry, DataRoot(self.home))

    def _fill(self) -> None:
        """Put the pictures, and record the encoding."""
        # in a precision of our choice: a trial may decide otherwise for the next site, and bits are compared
        encoder = self.open_encoder()
        self.image_fingerprint = encoder.image_fingerprint
        vectors = np.random.default_rng(0).standard_normal((self.pictures, encoder.dimension), dtype=np.float32)
        self.fill("p", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    def begin_with(self, name: str, work: Callable[[], object]) -> None:
        """Do the work, or take over what came of it on another site, if both were new."""
        if self.settings or self.registry.expansions.list() or self.gallery.read_last_change() != self.begun_at:
            work()
            return
        made_by = self.registry.encodings.find_current() or os.environ.get("PICTOGLOT_BACKEND")
        kept = self._kept / sha256(f"{name} {self.base} {self.pictures} {made_by}".encode()).hexdigest()
        is_kept = kept.exists()
        if not is_kept:
            work()
        self.registry.close()
        source, target = (kept, self.home) if is_kept else (self.home, kept)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("compiled"), dirs_exist_ok=True)
        self._open()

    def open_encoder(self) -> Encoder:
        """Open the base as every process of this site does."""
        return open_encoder(CommonSettings(home=self.home, base=self.base, precision="float32"), self.registry)

    def fill(self, prefix: str, vectors: Vectors, first: int = 0) -> None:
        """Put pictures with these vectors, all at once; the contents are numbered from `first`."""
        pictures = [
            NewPicture(f"{prefix}{number}", f"{first + number:064x}", 64, 64, {}, vector)
            for number, vector in enumerate(vectors)
        ]
        self.gallery.put(pictures, self.image_fingerprint)

    def start(self, **more: str) -> subprocess.Popen[bytes]:
        """A worker process in a group of its own."""
        return self.process("worker", **more)

    def process(self, module: str, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        """A process of one of our modules, under this site's settings."""
        process = start_module([module, *arguments], self.environment(**more), self.log_file, self.launcher)
        self.processes.append(process)
        return process

    def environment(self, **more: str) -> dict[str, str]:
        own = {
            "HOME": str(self.home),
            "BASE": self.base,
            "BROKER_URL": self.broker,
            "MIN_RECALL": "0",
            "FORGETTING_BUDGET": "1",
            "LEASE_SECONDS": "600",  # a loaded machine must not lose it; `abandon` ends it
            **self.settings,
        }
        return {**os.environ, **{f"PICTOGLOT_{name}": value for name, value in own.items()}, **more}

    def submit(
        self, rows: Sequence[dict[str, Any]], language: str = "cy", kind: ExpansionKind = "learn", **settings: Any
    ) -> str:
        """What the service does when a dataset is posted."""
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        identity = make_expansion_id()
        path = Path("expansions", identity, "dataset")
        files.write_bytes(self.home / path, data)
        submitting = partial(
            self.registry.expansions.submit,
            id=identity,
            kind=kind,
            language=language,
            settings={**QUICK, **settings},
            dataset_path=str(path),
            dataset_sha256=files.hash_file(self.home / path),
            dataset_bytes=len(data),
            actor="test",
        )
        return insist(submitting)[0].id

    def wait_until(self, condition: Callable[[], T | None], seconds: float = PATIENCE) -> T:
        """Return what `condition` does, as soon as that is true; fails with the workers' log when it never is."""
        deadline = time.monotonic() + seconds
        while not (result := condition()):
            assert time.monotonic() < deadline, self.log()[-6000:]
            time.sleep(0.02)
        return result

    def wait(self, expansion: str, until: Callable[[Expansion], bool], seconds: float = PATIENCE) -> Expansion:
        get = self.registry.expansions.get
        return self.wait_until(lambda: current if until(current := get(expansion)) else None, seconds)

    def finish(self, expansion: str, seconds: float = PATIENCE) -> Expansion:
        return self.wait(expansion, lambda e: e.state in FINISHED, seconds)

    def training(self, expansion: str) -> Expansion:
        """The expansion when it has a checkpoint and trains on."""
        return self.wait(expansion, lambda e: e.phase == "train" and self.checkpoints(expansion) != [])

    def checkpoints(self, expansion: str) -> list[Path]:
        """Its checkpoints, newest last."""
        folders = (self.home / "expansions" / expansion / "checkpoints").rglob("step-*")
        return sorted(folders, key=lambda path: int(path.name.partition("-")[2]))

    def attempt(self, expansion: str, **more: str) -> Forked:
        """A child process under a lease of its own, as a worker would start it."""
        forked = Forked(run_attempt, expansion, environment=self.environment(**more), log=self.log_file)
        self.processes.append(forked)
        return forked

    def abandon(self, expansion: str) -> None:
        """What is left when a worker dies: a lease that runs out."""
        expired = update(ExpansionRow).where(ExpansionRow.id == expansion).values(lease_expires=now() - 1)
        insist(lambda: self._write(expired))

    def child(self, worker: subprocess.Popen[bytes]) -> psutil.Process:
        """Return the process that trains for this worker, as soon as it has started."""

        def find() -> psutil.Process | None:
            for child in psutil.Process(worker.pid).children():
                with suppress(psutil.Error):
                    if is_program(child, "worker.child"):
                        return child
            return None

        return self.wait_until(find)

    def weights(self, expansion: str) -> dict[str, str]:
        """Hashes of what was learned, also before it was taught what is held out."""
        folder = self.home / "versions" / expansion
        names = ("rows.safetensors", "proof-rows.safetensors", "held-out.safetensors", "tokenizer.json")
        return {name: files.hash_file(folder / name) for name in names}

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def kill(self, process: subprocess.Popen[bytes] | Forked, sent: signal.Signals = signal.SIGKILL) -> None:
        """A signal to the worker's whole group."""
        os.killpg(process.pid, sent)

    def freeze(self, process: subprocess.Popen[bytes]) -> None:
        """Stop the worker's group, not in the midst of a write: with SQLite that would lock everybody out."""
        while True:
            self.kill(process, signal.SIGSTOP)
            while not _stopped(process.pid):  # each thread runs on until it is its turn: it may begin a write
                time.sleep(0.001)
            with suppress(RegistryUnavailable):
                return self._write()
            self.kill(process, signal.SIGCONT)
            insist(self._write)  # it has ended that write: stopped again at once, it would stand there for ever

    def _write(self, *statements: Executable) -> None:
        with self.registry.begin() as session:
            for statement in statements:
                session.execute(statement)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                self.kill(process)
            process.wait()
        self.registry.close()


def _stopped(worker: int) -> bool:
    """Whether no thread of a worker and of its children runs any more."""
    try:
        tree = [psutil.Process(worker), *psutil.Process(worker).children(recursive=True)]
        tasks = [task for process in tree for task in Path(f"/proc/{process.pid}/task").glob("*/stat")]
        return all(task.read_text().rpartition(")")[2].split()[0] in "TZ" for task in tasks)
    except (OSError, psutil.Error):  # one has just ended
        return False


def attempt_at(
    site: Site, expansion: str, *, kind: type[Attempt] = Attempt, stop: Event | None = None, **settings: Any
) -> Attempt:
    """The expansion under a lease of this process, with a gate that every language passes."""
    lease = site.registry.expansions.take_lease(expansion, "test:1", 600)
    assert lease is not None
    own = {"home": site.home, "base": site.base, "min_recall": 0.0, "forgetting_budget": 1.0, **settings}
    return kind(WorkerSettings(**own), site.registry, lease, stop or Event())


def carry_out(
    site: Site, rows: Sequence[dict[str, Any]], language: str = "cy", kind: ExpansionKind = "learn", **settings: Any
) -> Expansion:
    """Carry out an expansion in this process, from its submission to its end."""
    expansion = site.submit(rows, language, kind, **settings)
    run(attempt_at(site, expansion))
    return site.registry.expansions.get(expansion)


def teach(site: Site, *languages: str, picture: bool = False) -> Expansion:
    """Teach toy languages in this process, Welsh if none is named; returns the last expansion."""
    taught = languages or ("cy",)
    site.begin_with(
        f"{taught} {picture}",
        lambda: [carry_out(site, pairs(each, picture=picture), each) for each in taught],
    )
    return site.registry.expansions.list()[0]


def report_of(site: Site, expansion: str) -> dict[str, Any]:
    report = site.registry.expansions.get(expansion).report
    assert report is not None
    return report


def prepare_data(site: Site, rows: Sequence[dict[str, Any]], language: str = "cy", **settings: Any) -> TrainingData:
    """Return what an expansion would teach; it ends there."""
    attempt = attempt_at(site, site.submit(rows, language, **settings))
    context = open_context(attempt)
    try:
        return prepare(context, *context.earlier_expansions, attempt.expansion)
    finally:
        site.registry.expansions.fail(attempt.lease, "gate_failed", "ended by the test", None)


def assert_once(site: Site, expansion: Expansion) -> None:
    """It succeeded, and it is the only one that made a version and a release, one of each."""
    assert expansion.state == "succeeded", f"{expansion}\n{site.log()[-4000:]}"
    assert [version.expansion for version in site.registry.versions.list()] == [expansion.id, None]
    assert [release.number for release in site.registry.releases.list()] == [2, 1]
