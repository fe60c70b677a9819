"""Phase `evaluate`: recall of the new language, what the new shared table costs earlier ones, language-ID confusion.

The held-out sets, and the candidates that they are ranked among, are those of `worker.validation`.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.detection import Detector, count, evidence
from model.encoder import VersionFolder
from model.evaluation import average_accuracy, forgetting, gain, ranks, recalls
from model.languages import ENGLISH
from model.segmentation import spaced
from model.table import View
from model.version import Learned, read
from store.errors import VersionCorrupt
from store.versions import Version
from worker.attempt import TrainingContext
from worker.gate import gained, informative
from worker.prepare import TrainingData
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

UNSURE = "shared"  # the table that reads a text whose language is not sure
_FIGURE = "R@1"
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
        self.validation = held_out(context, data)
        if data.fresh != data.rows:  # the language is measured on all that it was taught from
            self.validation = kept_of(self.attempt.root, [each.id for each in data.taught]) or self.validation
        self.earlier = self._earlier()

    def report(self) -> dict[str, Any]:
        among = candidates(self.context, self.data, self.validation)
        own = measure(self.context, self.view, self.validation, among)
        base = self._of_english()
        report = {
            **described(self.view, self.validation, among, own),
            "dataset": self.data.report.as_dict(),
            "english": base,
            "shared": {"parent": self.context.parent, **self._shared(base)},
            "detected": self._detected(),
        }
        if own and self.attempt.expansion.kind != "rebuild":
            report["gain"] = self._gain(own, among)
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

    def _of_english(self) -> dict[str, Any]:
        view, validation = self.context.encoder.base_view, self.earlier[ENGLISH]
        among = candidates(self.context, self.data, validation)
        return described(view, validation, among, measure(self.context, view, validation, among))

    def _gain(self, new: Measured, among: Candidates) -> dict[str, Any]:
        """Compare with the version that has served the language so far, or else with the base.

        Where that one is damaged, its language is read by the base too, until this one serves. In a move, the new base
        has served none.
        """
        version = self.served.get(self.data.language, self.context.base)
        try:
            view = self.context.views.of(version)
        except VersionCorrupt:
            version, view = self.context.base, self.context.encoder.base_view
        before = measure(self.context, view, self.validation, among)
        assert before is not None  # the same captions and candidates as of `new`
        ks, forced = informative(len(among.places)), bool(self.attempt.expansion.settings.get("force"))
        change = gain(before.ranks, new.ranks, new.owner, ks)
        return gained(self.data.language, version, before.figures, change, ks, forced=forced)

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


def fertility(tokens: Sequence[Sequence[int]], captions: Sequence[str]) -> dict[str, float | None]:
    """Tokens a word and a character; None where nothing was counted, and a word where scripts put no spaces."""
    count = sum(map(len, tokens))
    words = sum(len(caption.split()) for caption in captions)
    characters = sum(len(word) for caption in captions for word in caption.split())
    return {
        "per_word": count / words if words and spaced(captions) else None,
        "per_character": count / characters if characters else None,
    }


def confusion(detector: Detector, captions: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
    """The language-ID confusion matrix: for each language, how many of its captions are taken for which one.

    One row a language, the most frequent first. The detector chooses among all its languages, as in a search.
    """
    matrix: dict[str, dict[str, int]] = {}
    for language, texts in captions.items():
        guesses = (detector.guess(text, detector.counts).language for text in texts)
        matrix[language] = dict(Counter(guess or UNSURE for guess in guesses).most_common())
    return matrix


def so_far(chain: Sequence[Version], language: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """AA and F of t2i R@1 over the shared table's `chain` (oldest first) and the language that `report` adds to it.

    It counts the languages that the chain has learned and that could be measured now. A past figure is the one in the
    report of that step. English is measured on other texts with every dataset, so its past figures are those of this
    report alone: of the base, of the table before, of the table after.
    """
    now = report["shared"]["languages"]
    turns = {version.language: version for version in chain if version.language != language}  # the newest turn counts
    steps = sorted((turns[tag] for tag in now if tag in turns and _learned(turns[tag], now)), key=lambda v: v.number)
    if not report["t2i"]:
        return {"languages": [], "AA": None, "F": None}
    triangle: list[list[float]] = []
    for place, step in enumerate(steps):
        last = place == len(steps) - 1
        past = [_past(step, other, now, triangle[-1][at], last) for at, other in enumerate(steps[:place])]
        triangle.append([*past, _learned(step, now)[_FIGURE]])
    triangle.append([*(now[step.language]["after"][_FIGURE] for step in steps), report["t2i"][_FIGURE]])
    counted = [*(step.language for step in steps), language]
    return {"languages": counted, "AA": average_accuracy(triangle), "F": forgetting(triangle)}


def _learned(step: Version, now: Mapping[str, Any]) -> Mapping[str, float]:
    """Recall of a language right after its own turn; a base has no report, so of English as measured now."""
    recall: Mapping[str, float] = step.report.get("t2i") or now.get(step.language, {}).get("learned") or {}
    return recall


def _past(step: Version, other: Version, now: Mapping[str, Any], before: float, last: bool) -> float:
    """The figure of `other` after an earlier `step`; where no comparable one was measured, the one before."""
    if other.parent is None:
        return float(now[other.language]["before"][_FIGURE]) if last else before
    measured = step.report.get("shared", {}).get("languages", {}).get(other.language)
    return float(measured["after"][_FIGURE]) if measured else before
