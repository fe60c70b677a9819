"""One attempt at one expansion: its folder, its progress, whether it shall stop, and what all its phases work with.

Progress is written to the registry at most once a second. Anything newly durable (a part of the teacher's features, a
checkpoint, a version) counts as progress made. Repeating what an earlier attempt had done does not: an expansion ends
after three attempts without progress, or twenty that ended with their worker.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any

import torch

from index.gallery import Gallery
from index.set_states import open_engine
from index.sets import VectorSets
from model.backend import open_encoder
from model.dataset import MAX_ROWS
from model.encoder import Encoder, View, Views
from model.processes import pulse
from store import files
from store.data_root import EXPANSIONS, DataRoot
from store.errors import BaseMoved, DatasetInvalid, PictoglotError, RegistryUnavailable, StorageFull
from store.expansions import Expansion
from store.leases import Lease
from store.logs import open_span
from store.registry import Registry
from worker.settings import WorkerSettings

PROGRESS_SECONDS = 1.0  # between two writes of progress
_STEPS_OF_SET = 1000  # parts of one vector set, for the progress
# where each phase stands in the whole, from measured expansions: training is most of it
_SHARES = {
    "prepare": (0.0, 0.15), "train": (0.15, 0.85), "evaluate": (0.85, 0.92), "package": (0.92, 0.93),
    "encode": (0.93, 0.98), "promote": (0.98, 1.0),
}  # fmt: skip
# of a round of a move to another base: all pictures, then each language, then all captions and old against new
_MOVING = {
    "prepare": (0.0, 0.1), "train": (0.1, 0.75), "evaluate": (0.75, 0.85), "package": (0.85, 1.0),
    "pictures": (0.0, 1.0), "encode": (0.0, 0.6), "compare": (0.6, 0.95), "promote": (0.95, 1.0),
}  # fmt: skip
_BY_KIND = {"assess": {"prepare": (0.0, 0.2), "evaluate": (0.2, 1.0)}, "base": _MOVING}


class Stopped(Exception):
    """The attempt was asked to stop; all that is needed to go on is on disk."""


class Attempt:
    """One attempt at one expansion, in the child process; it ends soon after `stop` is set."""

    def __init__(self, settings: WorkerSettings, registry: Registry, lease: Lease, stop: Event) -> None:
        self.settings, self.registry, self.lease, self.stop = settings, registry, lease, stop
        self.root = DataRoot(settings.home, settings.store)
        self.gallery = Gallery(registry, self.root, settings.bound_collections)
        self.expansion: Expansion = registry.expansions.get(lease.expansion)
        self.name = f"{EXPANSIONS}/{lease.expansion}"  # of its folder under the data root
        self.folder = self.root.locate(self.name)
        self.part = (0, 1)  # this round of the phases, of so many: a rebuild or a move has one for each language
        self._phase = "prepare"
        self._written_at = 0.0  # when progress was written last
        self._first, self._began_at = -1, 0.0  # the parts done when this attempt began the phase, and when that was
        self._steps = (0, 0)  # of the training; they stay when it is over
        self._share = 0.0  # of the current phase that is done
        self._eta: float | None = None

    @cached_property
    def sets(self) -> VectorSets:
        """Return the vector sets, in files under the data root or in an engine."""
        return VectorSets(self.gallery, open_engine(self.settings.index, self.registry))

    def fetch_dataset(self, expansion: Expansion) -> Path:
        """Return the path of this or an earlier expansion's dataset, copied from the store if need be."""
        path = self.root.open(expansion.dataset_path or "")
        if not path.is_file():
            raise DatasetInvalid("the dataset file no longer exists", kind="missing")
        return path

    def decide_once(self, name: str, decide: Callable[[], Any]) -> Any:
        """Return what the first attempt decided, on whatever machine; it is file `name` in the expansion's folder."""
        path = f"{self.name}/{name}"
        return json.loads(self.root.read_or_create(path, lambda: files.format_json(decide())))

    def compute_once(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return a result from file `name` in the expansion's folder on this machine, computed if it is not there."""
        path = self.folder / name
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        value = compute()
        files.write_json(path, value)
        self.record_durable_progress()
        return value

    def check_stop(self) -> None:
        """Raise `Stopped` if the attempt shall end here; to be called between two parts of any long work."""
        pulse()
        if self.stop.is_set():
            raise Stopped

    def pause(self, code: str, seconds: float) -> None:
        """Wait for what is missing and report it where possible; raises `Stopped` when asked to stop meanwhile."""
        pulse()
        with suppress(RegistryUnavailable, StorageFull):
            self._write_progress(paused=code)
        if self.stop.wait(seconds):
            raise Stopped

    @contextmanager
    def enter_phase(self, name: str) -> Iterator[None]:
        """Begin a phase; raises `Stopped` instead when asked to stop."""
        self.check_stop()
        files.pass_fault_point(f"phase.{name}")
        self._phase, self._first, self._share, self._eta = name, -1, 0.0, None
        self._write_progress()
        with open_span(name):
            yield

    def record_durable_progress(self) -> None:
        """Record at once, since this attempt may die any moment, that something is newly durable."""
        self._write_progress(made_progress=True)

    def report_step(self, step: int, steps: int) -> None:
        """Record that `step` of `steps` of the training are done."""
        self._steps = (step, steps)
        self.report_progress(step, steps)

    def report_progress(self, done: int, parts: int) -> None:
        """Record that `done` of the `parts` of this phase are done; an absent registry stops nothing."""
        pulse()
        now = time.monotonic()
        if self._first < 0:
            self._first, self._began_at = done, now
        done_here = done - self._first
        self._share = done / parts if parts else 0.0
        self._eta = (now - self._began_at) / done_here * (parts - done) if done_here else None
        if now - self._written_at >= PROGRESS_SECONDS:
            with suppress(RegistryUnavailable, StorageFull):
                self._write_progress()

    def make_progress_callback(self, encoder: Encoder, number: int = 0, sets: int = 1) -> Callable[[int, int], None]:
        """Return what `index.indexer` calls after each shard of vector set `number` of `sets`; it raises `Stopped`."""
        encoded = encoder.encoded_count

        def on_progress(done: int, count: int) -> None:
            nonlocal encoded
            self.report_progress(number * _STEPS_OF_SET + round(_STEPS_OF_SET * done / count), sets * _STEPS_OF_SET)
            if encoder.encoded_count > encoded:  # not only read again
                encoded = encoder.encoded_count
                self.record_durable_progress()
            self.check_stop()

        return on_progress

    def fail(self, error: PictoglotError) -> None:
        """End the expansion as failed, with the report that the error may carry."""
        report: Any = error.extra.get("report")
        self.registry.expansions.fail(self.lease, error.code, error.detail, report)

    def _write_progress(self, *, made_progress: bool = False, paused: str = "") -> None:
        self._written_at = time.monotonic()
        shares = _BY_KIND.get(self.expansion.kind, _SHARES)
        (start, end), (part, parts), (step, steps) = shares[self._phase], self.part, self._steps
        self.registry.expansions.record_progress(
            self.lease,
            phase=f"paused_{paused}" if paused else self._phase,
            step=step,
            steps=steps,
            progress=(part + start + (end - start) * self._share) / parts,
            eta_seconds=self._eta,
            made_progress=made_progress,
        )


@dataclass(frozen=True)
class TrainingContext:
    """What all phases need: the attempt, the opened base, the gallery, and the shared version to train further."""

    attempt: Attempt
    encoder: Encoder
    gallery: Gallery
    parent: int  # the shared version; `view` reads it, `views` opens any other one
    view: View
    views: Views
    moved_versions: Mapping[str, int] | None = None  # in a move: what it has taught so far, by language
    earlier_expansions: tuple[Expansion, ...] = ()  # whose datasets are taught again beside the new one
    replaced_count: int = 0  # earlier expansions that are not, because the new dataset replaces theirs
    imported: tuple[str, ...] = ()  # expansions by whose files the language came; it goes on from what they brought
    is_apart: bool = False  # from the shared table: what is made upon `parent` cannot become it

    @property
    def base_version(self) -> int:
        return self.encoder.base_view.version

    @property
    def proof_view(self) -> View:
        """Return the view of the parent before its languages were taught what is held out."""
        return self.views.proofs.open(self.parent)

    @property
    def served_versions(self) -> Mapping[str, int]:
        """Return by language what a move has taught so far, or else what serves."""
        if self.moved_versions is not None:
            return self.moved_versions
        return self.attempt.registry.releases.get_serving().languages


def open_context(attempt: Attempt) -> TrainingContext:
    """Open base, gallery, parent and earlier expansions, in every attempt those of the first one.

    Raises `BaseMoved` when another base, or vectors of another encoding, serve by now.
    """
    settings, registry = attempt.settings, attempt.registry
    encoder = open_encoder(settings, registry, training=True)
    torch.use_deterministic_algorithms(encoder.base.device.type == "cpu")  # on a GPU some products have none
    first = attempt.decide_once("encoding.json", lambda: str(encoder.encoding))
    if first != str(encoder.encoding):
        raise BaseMoved(f"{encoder.encoding} makes the vectors now, not {first} as when this began: begin anew.")
    plan = attempt.decide_once("plan.json", lambda: _make_plan(attempt))
    parent = int(plan["parent"])
    if registry.versions.trace_lineage(parent)[-1].number != encoder.base_view.version:
        raise BaseMoved("Another base serves now than when this began: begin anew.")
    views, earlier = Views(encoder, registry, attempt.root), tuple(map(registry.expansions.get, plan["before"]))
    plans = None, earlier, plan["replaced"], tuple(plan.get("imported", ())), plan.get("apart", False)
    return TrainingContext(attempt, encoder, attempt.gallery, parent, views.open(parent), views, *plans)


def _make_plan(attempt: Attempt) -> dict[str, Any]:
    """Choose the parent and the expansions, oldest first, whose datasets are taught again, or how many are replaced.

    They are all that the serving version was taught from, unless the new dataset is to `replace` them; one made of all
    words or captions takes the place of earlier ones. Of very many rows the newest are chosen, as many as one dataset
    may have beside those of the new one.

    What a file brought cannot be taught again. Where the shared version lacks it, that which serves is the parent.
    """
    registry, expansion = attempt.registry, attempt.expansion
    release, before, rows = registry.releases.get_serving(), list[str](), 0
    serves = expansion.kind == "learn" and expansion.language in release.languages
    serving = registry.versions.get(release.languages[expansion.language]) if serves else None
    sources = () if serving is None else serving.dataset_expansions
    if expansion.settings.get("replace"):
        replaced = registry.expansions.list_with_datasets(sources)
        return {"parent": release.shared, "before": [], "replaced": len(replaced)}
    imported = [id for id in sources if registry.expansions.get(id).kind == "import"]
    known = {version.expansion for version in registry.versions.trace_lineage(release.shared)}
    apart = serving is not None and not known.issuperset(imported)
    parent = serving.number if serving is not None and apart else release.shared
    kept, own = registry.expansions.list_with_datasets, expansion.dataset_sha256
    for earlier in reversed(kept(sources, excluding_sha256=own, without_made_of=expansion.made_of)):
        rows += (earlier.report or {}).get("dataset", {}).get("usable", 0)
        if rows > MAX_ROWS:
            break
        before.insert(0, earlier.id)
    return {"parent": parent, "before": before, "replaced": 0, "imported": imported, "apart": apart}
