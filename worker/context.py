"""What every phase of an expansion works with: the opened base, the gallery, and the plan of its first attempt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from index.gallery import Gallery
from model.backend import open_encoder
from model.dataset import MAX_ROWS
from model.encoder import Encoder, Views
from model.table import View
from store.errors import BaseMoved
from store.expansions import Expansion
from worker.attempt import Attempt


@dataclass(frozen=True)
class TrainingContext:
    """What all phases need: the attempt, the opened base, the gallery, and the shared version that is trained further.

    `view` reads version `parent`; `views` opens any other one. `before` are the expansions whose datasets the language
    was taught from so far, where it is to be taught again; `replaced` is how many are not, because the new dataset
    replaces them.
    """

    attempt: Attempt
    encoder: Encoder
    gallery: Gallery
    parent: int
    view: View
    views: Views
    made: Mapping[str, int] | None = None
    before: tuple[Expansion, ...] = ()
    replaced: int = 0

    @property
    def base(self) -> int:
        """The version that the base is."""
        return self.encoder.base_view.version

    @property
    def served(self) -> Mapping[str, int]:
        """The languages beside it: those that a move has `made` so far, or else those that serve."""
        return self.attempt.registry.releases.serving().languages if self.made is None else self.made


def open_context(attempt: Attempt) -> TrainingContext:
    """Base, gallery, parent and earlier datasets: those of the first attempt, and the same in every later one.

    Raises `BaseMoved` when the parent is of another base than serves by now.
    """
    settings, registry = attempt.settings, attempt.registry
    encoder = open_encoder(settings, registry, training=True)
    torch.use_deterministic_algorithms(encoder.base.device.type == "cpu")  # on a GPU some products have none
    plan = attempt.decided("plan.json", lambda: _plan(attempt))
    parent = int(plan["parent"])
    if registry.versions.lineage(parent)[-1].number != encoder.base_view.version:
        raise BaseMoved("Another base serves now than when this began: begin anew.")
    views = Views(encoder, registry, attempt.root)
    before = tuple(map(registry.expansions.get, plan["before"]))
    return TrainingContext(
        attempt, encoder, attempt.gallery, parent, views.of(parent), views, before=before, replaced=plan["replaced"]
    )


def _plan(attempt: Attempt) -> dict[str, Any]:
    """The shared version, the expansions whose datasets are taught again beside the new one, how many it replaces.

    Oldest first, all that the version which serves the language was taught from, unless it is to `replace` them;
    of very many rows the newest, as many as one dataset may have. Those of the new one are not counted.
    """
    registry, asked = attempt.registry, attempt.expansion
    release, before, rows = registry.releases.serving(), list[str](), 0
    taught = asked.kind == "learn" and asked.language in release.languages
    learned = registry.versions.get(release.languages[asked.language]).learned if taught else ()
    if asked.settings.get("replace"):
        replaced = registry.expansions.with_datasets(learned)
        return {"parent": release.shared, "before": [], "replaced": len(replaced)}
    for expansion in reversed(registry.expansions.with_datasets(learned, but=asked.dataset_sha256)):
        rows += (expansion.report or {}).get("dataset", {}).get("usable", 0)
        if rows > MAX_ROWS:
            break
        before.insert(0, expansion.id)
    return {"parent": release.shared, "before": before, "replaced": 0}
