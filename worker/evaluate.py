"""Phase `evaluate`: recall of the new language, what the new shared table costs earlier ones, language-ID confusion.

The held-out sets, and the candidates that they are ranked among, are those of `worker.validation`.
"""

from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.detection import Detector, count, evidence
from model.encoder import VersionFolder
from model.evaluation import gain, ranks, recalls
from model.languages import ENGLISH
from model.table import View
from model.version import Learned, read
from store.errors import VersionCorrupt
from worker.context import TrainingContext
from worker.figures import confusion, fertility, so_far
from worker.prepare import TrainingData
from worker.promotion import PROVING, gained, informative, retained
from worker.validation import (
    MAX_CANDIDATES,
    Candidates,
    Validation,
    candidates,
    encoded,
    english,
    held_out,
    kept_of,
)

MAX_DETECTED = 250  # captions a language in the confusion matrix; each is scored for every served language


def evaluate(context: TrainingContext, data: TrainingData, view: View, learned: Learned) -> dict[str, Any]:
    """The report of what was learned, which `view` reads; computed once, then read from the expansion's folder."""
    name = f"evaluation/{data.language}-{learned.digest[:12]}.json"  # an earlier attempt may have learned other rows
    report: dict[str, Any] = context.attempt.computed(name, lambda: _Evaluation(context, data, view).report())
    return report


@dataclass(frozen=True)
class Measured:
    """One view on one validation set: recall and truncation as in the report; of each caption the place (n,) of its own
    target among the candidates, `owner`, and the rank (n,) of that."""

    figures: dict[str, Any]
    owner: NDArray[np.int64]
    ranks: NDArray[np.int64]


def measure(context: TrainingContext, view: View, validation: Validation, among: Candidates) -> Measured | None:
    """None when no target is left, because the pictures were deleted."""
    pairs = zip(validation.captions, validation.targets, strict=True)
    queries = [(caption, among.places[target]) for caption, target in pairs if target in among.places]
    if not queries:
        return None
    texts = encoded(context, [(view, caption) for caption, _ in queries])
    owner = np.array([place for _, place in queries], dtype=np.int64)
    figures = {**recalls(texts.vectors, among.vectors, owner), "truncated": sum(texts.truncated) / len(queries)}
    return Measured(figures, owner, ranks(texts.vectors, among.vectors, owner))


def described(view: View, validation: Validation, among: Candidates, measured: Measured | None) -> dict[str, Any]:
    """The figures of one view, among how many candidates they are, and the fertility of its tokenizer."""
    return {
        **(measured.figures if measured else {"t2i": {}, "i2t": {}, "pairs": 0, "truncated": 0.0}),
        "against": validation.against,
        "candidates": len(among.places),
        "fertility": fertility(view.tokens(validation.captions), validation.captions),
    }


class _Evaluation:
    """One language learned as `view`, beside the languages of one release.

    The release is read once: a language may be rolled back while the others are measured.
    """

    def __init__(self, context: TrainingContext, data: TrainingData, view: View) -> None:
        self.context, self.data, self.view = context, data, view
        self.attempt, self.versions = context.attempt, context.attempt.registry.versions
        self.served = context.served
        self.fresh = self.validation = held_out(context, data)
        if data.fresh != data.rows:  # the language is measured on all that it was taught from
            self.validation = kept_of(self.attempt.root, [each.id for each in data.taught]) or self.fresh
        self.earlier = self._earlier()

    def report(self) -> dict[str, Any]:
        own, among = self._own(self.validation)
        new, beside = (own, among) if self.fresh is self.validation else self._own(self.fresh)
        base = self._of_english()
        report = {
            **described(self.view, self.validation, among, own if new else None),
            "dataset": self.data.report.as_dict(),
            "english": base,
            "shared": {"parent": self.context.parent, **self._shared(base)},
            "detected": self._detected(),
        }
        if own and new and self.attempt.expansion.kind != "rebuild":
            report["gain"] = self._gain(new, beside)
            report["earlier"] = self._own_earlier(report["gain"]["before"]["t2i"]["R@1"])
        if self.context.before:
            more = len(self.data.rows) - len(self.data.fresh)
            report["joined"] = {"datasets": len(self.context.before), "rows": more, "train": len(self.data.trained)}
        if self.context.replaced:
            report["replaced"] = {"datasets": self.context.replaced}
        chain = [*reversed(self.versions.lineage(self.context.parent))]
        report["shared"]["so_far"] = so_far(chain, self.data.language, report)
        return report

    def _earlier(self) -> dict[str, Validation]:
        """The validation sets of English and of each other language that is served, as far as they were kept."""
        sets = {ENGLISH: english(self.context, self.data)}
        for language, number in sorted(self.served.items()):
            earlier = language not in (ENGLISH, self.data.language)
            if earlier and (validation := kept_of(self.attempt.root, self.versions.get(number).learned)):
                sets[language] = validation
        return sets

    def _own(self, validation: Validation) -> tuple[Measured | None, Candidates]:
        """How the new version reads these captions of the language, and among what."""
        among = candidates(self.context, self.data, validation)
        return measure(self.context, self.view, validation, among), among

    def _of_english(self) -> dict[str, Any]:
        view, validation = self.context.encoder.base_view, self.earlier[ENGLISH]
        among = candidates(self.context, self.data, validation)
        return described(view, validation, among, measure(self.context, view, validation, among))

    def _gain(self, new: Measured, among: Candidates) -> dict[str, Any]:
        """What the new captions gain over the version that has served them so far, the language's or else the base.

        Where that one is damaged, its language is read by the base too, until this one serves. In a move, the new base
        has served none.
        """
        version = self.served.get(self.data.language, self.context.base)
        try:
            view = self.context.views.of(version)
        except VersionCorrupt:
            version, view = self.context.base, self.context.encoder.base_view
        before = measure(self.context, view, self.fresh, among)
        assert before is not None  # the same captions and candidates as of `new`
        ks = informative(len(among.places))
        forced = bool(self.attempt.expansion.settings.get("force"))
        change = gain(before.ranks, new.ranks, new.owner, ks)
        slack = self._slack(len(new.ranks), change.error) if version == self.served.get(self.data.language) else None
        return gained(self.data.language, version, before.figures, change, ks, slack=slack, forced=forced)

    def _slack(self, captions: int, error: float) -> float | None:
        """How much worse the new captions may be read where no gain is asked for; None where it is."""
        if self.context.replaced:
            return self.attempt.settings.forgetting_budget
        return error if captions < PROVING and self.context.before and not self._sent_before() else None

    def _sent_before(self) -> bool:
        """Whether the dataset is a file that the language was taught from already."""
        expansions, number = self.attempt.registry.expansions, self.served.get(self.data.language)
        learned = () if number is None else self.versions.get(number).learned
        return self.data.expansion.dataset_sha256 in {expansions.get(id).dataset_sha256 for id in learned}

    def _own_earlier(self, reads_now: float) -> dict[str, Any] | None:
        """What becomes of the language's own earlier held-out captions, by its serving version and as it would be.

        None where nothing is left to measure, or that version is damaged.
        """
        number = self.served.get(self.data.language)
        validation = None if number is None else kept_of(self.attempt.root, self.versions.get(number).learned)
        if number is None or validation is None:
            return None
        try:
            view = self.context.views.of(number)
        except VersionCorrupt:
            return None
        among = candidates(self.context, self.data, validation)
        before, after = (measure(self.context, each, validation, among) for each in (view, self.view))
        if before is None or after is None:
            return None
        change = gain(before.ranks, after.ranks, before.owner, (1,))
        first, second = before.figures["t2i"], after.figures["t2i"]
        return retained(number, len(before.ranks), first, second, change, reads_now)

    def _shared(self, base: dict[str, Any]) -> dict[str, Any]:
        """Recall of each earlier language by the shared table as it is and as it would be, and when it was learned.

        `unmeasured` are served languages without any figure: no set was kept, or its pictures were deleted.
        """
        measured: dict[str, Any] = {}
        for done, (language, validation) in enumerate(self.earlier.items()):
            self.attempt.check()
            self.attempt.done(done, len(self.earlier))
            among = candidates(self.context, self.data, validation)  # the same before and after
            tables = self.context.view, self.view
            before, after = (measure(self.context, table, validation, among) for table in tables)
            if before and after:
                own = base if language == ENGLISH else self.versions.get(self.served[language]).report
                learned = own.get("t2i", {})
                t2i = {"before": before.figures["t2i"], "after": after.figures["t2i"]}
                measured[language] = {**t2i, "learned": learned}
        return {"languages": measured, "unmeasured": sorted(set(self.served) - set(measured) - {self.data.language})}

    def _detected(self) -> dict[str, dict[str, int]]:
        """The language-ID confusion matrix of held-out captions, once the new language is served too."""
        sets = {self.data.language: self.validation, **self.earlier}
        captions = {language: validation.captions[:MAX_DETECTED] for language, validation in sets.items()}
        grams = {gram for texts in captions.values() for text in texts for gram in evidence(text)}
        detector = self._detector(grams).with_counts(self.data.language, self.view.ngrams, grams)
        matrix: dict[str, dict[str, int]] = {}
        for language, texts in captions.items():
            self.attempt.check()
            matrix |= confusion(detector, {language: texts})
        return matrix

    def _detector(self, grams: Collection[str]) -> Detector:
        """The service's own detector (`index.snapshot`): each version's counts; English by the gallery besides.

        It counts only `grams`, so that a worker does not hold the n-grams of every language. A version that cannot be
        read is left out: its damage concerns its own language.
        """
        gallery, encoder = self.context.gallery, self.context.encoder
        texts = gallery.some_captions("en", (), MAX_CANDIDATES)
        detector = Detector().with_counts("en", Counter(encoder.base_view.ngrams) + count(texts), grams)
        for language, number in self.served.items():
            with suppress(VersionCorrupt):  # also of a base, which has no folder
                folder = VersionFolder.of(self.versions.get(number), self.attempt.root)
                learned, _ = read(folder.path, folder.manifest_sha256)
                detector = detector.with_counts(language, learned.ngrams, grams)
        return detector
