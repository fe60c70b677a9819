"""Phase `evaluate`: recall of the new language, what the new shared table costs earlier ones, language-ID confusion.

An assessment measures how well a language is read already, and makes no version.

The held-out sets, and the candidates that they are ranked among, are those of `worker.validation`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
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
from store.errors import NothingHeldOut, VersionCorrupt
from store.versions import Version
from worker.attempt import Attempt, TrainingContext, open_context
from worker.gate import OF, describe_gain, describe_reading, informative
from worker.prepare import TrainingData, prepare
from worker.validation import (
    MAX_CANDIDATES,
    Candidates,
    Validation,
    candidates,
    collect_held_out,
    decide_held_out,
    encode_texts,
    english,
    find_kept,
    join_kept,
)

UNSURE = "shared"  # the table that reads a text whose language is not sure
_FIGURE = "R@1"
MAX_DETECTED = 250  # captions a language in the confusion matrix; each is scored for every served language


@dataclass(frozen=True)
class Measured:
    """One view on one validation set: recall and truncation as in the report; of each caption the place (n,) of its own
    target among the candidates, `owner`, and the rank (n,) of that."""

    figures: dict[str, Any]
    owner: NDArray[np.int64]
    ranks: NDArray[np.int64]


def measure(context: TrainingContext, view: View, validation: Validation, among: Candidates) -> Measured | None:
    """Measure a view on a set; None when no target is left, because the pictures were deleted."""
    pairs = zip(validation.captions, validation.targets, strict=True)
    queries = [(caption, among.places[target]) for caption, target in pairs if target in among.places]
    if not queries:
        return None
    texts = encode_texts(context, [(view, caption) for caption, _ in queries])
    owner = np.array([place for _, place in queries], dtype=np.int64)
    figures = {**recalls(texts.vectors, among.vectors, owner), "truncated": sum(texts.truncated) / len(queries)}
    return Measured(figures, owner, ranks(texts.vectors, among.vectors, owner))


def describe(view: View, validation: Validation, among: Candidates, measured: Measured | None) -> dict[str, Any]:
    """Return the figures of one view, among how many candidates they are, and the fertility of its tokenizer."""
    return {
        **(measured.figures if measured else {"t2i": {}, "i2t": {}, "pairs": 0, "truncated": 0.0}),
        "against": validation.against,
        "candidates": len(among.places),
        "fertility": fertility(view.tokens(validation.captions), validation.captions),
    }


def assess(attempt: Attempt) -> None:
    """Measure the held-out part of the dataset as it is read now, and end with the report."""
    with attempt.phase("prepare"):
        context = open_context(attempt)
        data = prepare(context, attempt.expansion)
    with attempt.phase("evaluate"):
        report = attempt.computed(f"evaluation/{data.language}.json", lambda: _assess(context, data))
    attempt.registry.expansions.succeed(attempt.lease, None, None, report)


def _assess(context: TrainingContext, data: TrainingData) -> dict[str, Any]:
    """Measure the held-out captions as read by the base, by the shared table and, where taught, by the own version.

    All are ranked among the same candidates. `base` names the base, so that the figures of another one are never taken
    for its. Raises `NothingHeldOut` when all that they describe was deleted meanwhile.
    """
    validation, base = decide_held_out(context, data), context.encoder.base_view
    among = candidates(context, data, validation)
    by_version = {context.base: measure(context, base, validation, among)}
    if by_version[context.base] is None:
        raise NothingHeldOut("no held-out caption can be measured: the pictures that they describe were deleted")
    taught = context.attempt.registry.releases.get_serving().languages.get(data.language, context.base)
    for version in (context.parent, taught):
        if version not in by_version:
            try:
                by_version[version] = measure(context, context.views.of(version), validation, among)
            except VersionCorrupt:  # damaged: nothing serves these texts by it now
                continue

    def figures(version: int) -> dict[str, Any] | None:
        measured = by_version.get(version)
        return None if measured is None else {"version": version, **measured.figures}

    report: dict[str, Any] = {
        **describe(base, validation, among, by_version[context.base]),
        "base": context.encoder.base_fingerprint,
        "version": context.base,
        "shared": figures(context.parent),
        "taught": figures(taught) if taught != context.base else None,
        "dataset": data.report.as_dict(),
    }
    return {**report, **describe_reading(data.language, report, context.attempt.settings.min_recall)}


def evaluate(context: TrainingContext, data: TrainingData, view: View, learned: Learned) -> dict[str, Any]:
    """Return the report of what was learned, which `view` reads; computed once, then read from the disk."""
    name = f"evaluation/{data.language}-{learned.digest[:12]}.json"  # an earlier attempt may have learned other rows
    report: dict[str, Any] = context.attempt.computed(name, lambda: _evaluate(context, data, view))
    return report


def _evaluate(context: TrainingContext, data: TrainingData, view: View) -> dict[str, Any]:
    """Measure one language beside the languages of one release.

    That is read once: a language may be rolled back while the others are measured.
    """
    attempt, versions, served = context.attempt, context.attempt.registry.versions, context.served
    replaces, learned = attempt.expansion.settings.get("replace"), tuple[str, ...]()
    if attempt.expansion.kind == "learn" and data.language in served:
        learned = versions.get(served[data.language]).dataset_expansions
    sets = collect_held_out(context, data, () if replaces else learned)
    kinds = [OF[each.against] if len(sets) > 1 else "" for each in sets]
    parts = [_measure_gain(context, data, view, *each, served) for each in zip(sets, kinds, strict=True)]
    # of a kind nothing may be left: pictures were imported under other ids, or nothing reads the paired texts
    own, *others = [each for each in parts if each["pairs"]] or parts[:1]
    validation = sets[parts.index(own)]
    earlier = {ENGLISH: english(context, data)}
    for tag, number in sorted(served.items()):
        if tag not in (ENGLISH, data.language) and (
            kept := find_kept(attempt.root, versions.get(number).dataset_expansions)
        ):
            earlier[tag] = kept
    base, of_english = context.encoder.base_view, candidates(context, data, earlier[ENGLISH])
    of_base = describe(base, earlier[ENGLISH], of_english, measure(context, base, earlier[ENGLISH], of_english))
    report = {
        **own,
        "dataset": data.report.as_dict(),
        "english": of_base,
        "shared": {"parent": context.parent, **_measure_shared(context, data, view, earlier, served, of_base)},
        "detected": _count_detected(context, data.language, view, {data.language: validation, **earlier}, served),
    }
    if others:
        report["others"] = others
        report["gain"] = next((each["gain"] for each in others if not each["gain"]["enough"]), own["gain"])
    if context.before:
        more = len(data.rows) - len(data.fresh)
        report["joined"] = {"datasets": len(context.before), "rows": more, "train": len(data.trained)}
    if context.replaced:
        asked = [(each, f"{OF[each.against]} from the replaced datasets") for each in join_kept(attempt.root, learned)]
        answers = [_measure_gain(context, data, view, *each, served) for each in asked]
        sentences = [each["gain"]["sentence"] for each in answers if "gain" in each]
        report["replaced"] = {"datasets": context.replaced, "sentences": sentences}
    report["shared"]["so_far"] = so_far([*reversed(versions.trace_lineage(context.parent))], data.language, report)
    return report


def _measure_gain(
    context: TrainingContext,
    data: TrainingData,
    view: View,
    validation: Validation,
    of: str,
    served: Mapping[str, int],
) -> dict[str, Any]:
    """Measure a set, and unless in a rebuild its `gain` over the version that has served the language, or the base.

    Where that one is damaged, its language is read by the base too, until this one serves. In a move, the new base has
    served none. The sentence about it says `of` which kind the captions are.
    """
    among = candidates(context, data, validation)
    new = measure(context, view, validation, among)
    report = describe(view, validation, among, new)
    if new is None or context.attempt.expansion.kind == "rebuild":
        return report
    version = served.get(data.language, context.base)
    try:
        view = context.views.of(version)
    except VersionCorrupt:
        version, view = context.base, context.encoder.base_view
    before = measure(context, view, validation, among)
    assert before is not None  # the same captions and candidates as of `new`
    ks, forced = informative(len(among.places)), bool(context.attempt.expansion.settings.get("force"))
    change = gain(before.ranks, new.ranks, new.owner, ks)
    return {**report, "gain": describe_gain(data.language, version, before.figures, change, ks, forced=forced, of=of)}


def _measure_shared(
    context: TrainingContext,
    data: TrainingData,
    view: View,
    earlier: Mapping[str, Validation],
    served: Mapping[str, int],
    of_base: Mapping[str, Any],
) -> dict[str, Any]:
    """Measure each earlier language by the shared table as it is and as it would be, beside when it was learned.

    `unmeasured` are served languages without any figure: no set was kept, or its pictures were deleted. English was
    read `of_base` when it was learned.
    """
    measured: dict[str, Any] = {}
    for done, (language, validation) in enumerate(earlier.items()):
        context.attempt.check()
        context.attempt.done(done, len(earlier))
        among = candidates(context, data, validation)  # the same before and after
        before, after = (measure(context, table, validation, among) for table in (context.view, view))
        if before and after:
            own = of_base if language == ENGLISH else context.attempt.registry.versions.get(served[language]).report
            t2i = {"before": before.figures["t2i"], "after": after.figures["t2i"]}
            measured[language] = {**t2i, "learned": own.get("t2i", {})}
    return {"languages": measured, "unmeasured": sorted(set(served) - set(measured) - {data.language})}


def _count_detected(
    context: TrainingContext,
    language: str,
    view: View,
    sets: Mapping[str, Validation],
    served: Mapping[str, int],
) -> dict[str, dict[str, int]]:
    """Return the language-ID confusion matrix of held-out captions, once the new language is served too.

    The detector is the service's own (`index.snapshot`): each version's counts, English by the gallery besides. It
    counts only the n-grams of these captions, so that a worker does not hold those of every language. A version that
    cannot be read is left out: its damage concerns its own language.
    """
    attempt = context.attempt
    captions = {tag: validation.captions[:MAX_DETECTED] for tag, validation in sets.items()}
    grams = {gram for texts in captions.values() for text in texts for gram in evidence(text)}
    texts = context.gallery.sample_captions(ENGLISH, (), MAX_CANDIDATES)
    of_english = Counter(context.encoder.base_view.ngrams) + count(texts)
    detector = Detector().with_counts(ENGLISH, of_english, grams)
    for tag, number in served.items():
        with suppress(VersionCorrupt):  # also of a base, which has no folder
            folder = VersionFolder.of(attempt.registry.versions.get(number), attempt.root)
            detector = detector.with_counts(tag, read(folder.path, folder.manifest_sha256)[0].ngrams, grams)
    detector = detector.with_counts(language, view.ngrams, grams)
    matrix: dict[str, dict[str, int]] = {}
    for tag, said in captions.items():
        attempt.check()
        matrix |= confusion(detector, {tag: said})
    return matrix


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
    """Return the language-ID confusion matrix: for each language, how many of its captions are taken for which one.

    One row a language, the most frequent first. The detector chooses among all its languages, as in a search.
    """
    matrix: dict[str, dict[str, int]] = {}
    for language, texts in captions.items():
        guesses = (detector.guess(text, detector.counts).language for text in texts)
        matrix[language] = dict(Counter(guess or UNSURE for guess in guesses).most_common())
    return matrix


def so_far(chain: Sequence[Version], language: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """Return AA and F of t2i R@1 over the shared table's `chain` (oldest first) and the language that `report` adds.

    It counts the languages that the chain has learned and that could be measured now. A past figure is the one in the
    report of that step. English is measured on other texts with every dataset, so its past figures are those of this
    report alone: of the base, of the table before, of the table after.
    """
    now = report["shared"]["languages"]
    turns = {version.language: version for version in chain if version.language != language}  # the newest turn counts
    steps = sorted((turns[tag] for tag in now if tag in turns and _get_recall(turns[tag], now)), key=lambda v: v.number)
    if not report["t2i"]:
        return {"languages": [], "AA": None, "F": None}
    triangle: list[list[float]] = []
    for place, step in enumerate(steps):
        last = place == len(steps) - 1
        past = [_get_past(step, other, now, triangle[-1][at], last) for at, other in enumerate(steps[:place])]
        triangle.append([*past, _get_recall(step, now)[_FIGURE]])
    triangle.append([*(now[step.language]["after"][_FIGURE] for step in steps), report["t2i"][_FIGURE]])
    counted = [*(step.language for step in steps), language]
    return {"languages": counted, "AA": average_accuracy(triangle), "F": forgetting(triangle)}


def _get_recall(step: Version, now: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the recall of a language right after its own turn; a base has no report, so of English as measured now."""
    recall: Mapping[str, float] = step.report.get("t2i") or now.get(step.language, {}).get("learned") or {}
    return recall


def _get_past(step: Version, other: Version, now: Mapping[str, Any], before: float, last: bool) -> float:
    """Return the figure of `other` after an earlier `step`; where no comparable one was measured, the one before."""
    if other.parent is None:
        return float(now[other.language]["before"][_FIGURE]) if last else before
    measured = step.report.get("shared", {}).get("languages", {}).get(other.language)
    return float(measured["after"][_FIGURE]) if measured else before
