"""Old base against new: English and each language on the same held-out captions among the same candidates."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from model.evaluation import recalls
from store.errors import CheckpointMismatch, DatasetInvalid
from store.expansions import Expansion
from worker.attempt import TrainingContext
from worker.gate import exceeds
from worker.prepare import rows_of
from worker.validation import Candidates, Validation, candidates, chosen, encoded, english_of_gallery, kept_of


class Comparison:
    """The figures of one attempt to move; a pair of versions that was measured is not measured again.

    `old` opens the base that serves, when it is first needed: both are in memory then.
    """

    def __init__(self, new: TrainingContext, old: Callable[[], TrainingContext]) -> None:
        self._new, self._open_old = new, old
        self._old: TrainingContext | None = None

    def english(self, old: int, new: int, sources: Sequence[Expansion]) -> dict[str, Any] | None:
        """As `language`, of the bases themselves: on the gallery's English captions or, without any, the datasets'."""

        def validation() -> Validation:
            found = english_of_gallery(self._new)
            return found if found.captions else self._of_datasets(sources)

        return self._figures("en", old, new, validation)

    def language(self, tag: str, old: int, new: int, sources: Sequence[str]) -> dict[str, Any] | None:
        """Recall both ways by the old version and by the new one on what the datasets of these expansions hold out.

        None where nothing of that is left to measure.
        """
        return self._figures(tag, old, new, lambda: kept_of(self._new.attempt.root, sources))

    def _figures(
        self, tag: str, old: int, new: int, validation: Callable[[], Validation | None]
    ) -> dict[str, Any] | None:
        name = f"comparison/{tag}-{old}-{new}.json"
        figures: dict[str, Any] | None = self._new.attempt.computed(
            name, lambda: self._measured(old, new, validation())
        )
        return figures

    def _measured(self, old: int, new: int, validation: Validation | None) -> dict[str, Any] | None:
        if validation is None or not validation.captions:
            return None
        if self._old is None:
            self._old = self._open_old()
        sides = ((self._old, old), (self._new, new))
        among = _shared([candidates(context, None, validation) for context, _ in sides])
        pairs = zip(validation.captions, validation.targets, strict=True)
        queries = [(caption, among[0].places[target]) for caption, target in pairs if target in among[0].places]
        if not queries:
            return None
        owner = np.array([place for _, place in queries], dtype=np.int64)
        figures = []
        for (context, number), each in zip(sides, among, strict=True):
            view = context.views.of(number)
            texts = encoded(context, [(view, caption) for caption, _ in queries])
            figures.append(recalls(texts.vectors, each.vectors, owner))
        return {
            "before": {way: figures[0][way] for way in ("t2i", "i2t")},
            "after": {way: figures[1][way] for way in ("t2i", "i2t")},
            "pairs": len(queries),
            "candidates": len(among[0].places),
            "against": validation.against,
        }

    def _of_datasets(self, sources: Sequence[Expansion]) -> Validation:
        """English texts of held-out rows that have a picture."""
        pictured = []
        for source in sources:
            try:
                rows = rows_of(self._new.attempt, source).rows
            except (DatasetInvalid, CheckpointMismatch):  # what is left of it is no measure
                continue
            held_out = (row for row in rows if row.split == "val")
            pictured += [(row.english, row.picture) for row in held_out if row.english and row.picture]
        return chosen("pictures", pictured, self._new.gallery.ids())


def losses(report: Mapping[str, Any], budget: float) -> list[str]:
    """Why a move costs more than it may, a sentence for each language: too much R@1 lost, not measured, not taught.

    English alone may be unmeasured, where nothing is in English.
    """
    sentences = []
    for tag, figures in report["languages"].items():
        if "left_out" in figures:
            sentences.append(f"{tag} could not be taught again ({figures['left_out']})")
        elif figures.get("before") is None:
            if tag != "en":
                sentences.append(f"{tag} has no held-out captions left to compare")
        else:
            before, after = (figures[side]["t2i"]["R@1"] for side in ("before", "after"))
            if exceeds(before - after, budget):
                sentences.append(f"{tag} would go from t2i R@1 {before:.3f} to {after:.3f}")
    return sentences


def _shared(both: Sequence[Candidates]) -> Sequence[Candidates]:
    """The candidates that both have, in one order: a picture may have been deleted, or be readable for one alone."""
    names = [name for name in both[0].places if all(name in each.places for each in both)]
    return [
        Candidates(
            {name: place for place, name in enumerate(names)}, each.vectors[[each.places[name] for name in names]]
        )
        for each in both
    ]
