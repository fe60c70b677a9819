"""Phase `evaluate`: recall of the new language, what the new shared table costs earlier ones, language-ID confusion.

An assessment measures how well a language is read already, and makes no version.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.coverage import Vocabulary, find_nearest_words, find_taught_stems
from model.checkpoint import read_version
from model.encoder import VersionFolder, View
from model.evaluation import compute_average_accuracy, compute_forgetting, compute_ranks, measure_gain, measure_recalls
from model.languages import ENGLISH
from model.lexicon import Detector, count_ngrams, select_ngrams
from model.text import is_spaced
from store.errors import NothingHeldOut, VersionCorrupt
from store.versions import Version
from worker.attempt import Attempt, TrainingContext, open_context
from worker.gate import (
    CAPTION_KINDS,
    choose_recall_ranks,
    describe_gain,
    describe_in_sample,
    describe_reading,
    describe_test,
)
from worker.prepare import TrainingData, prepare
from worker.validation import (
    MAX_CANDIDATES,
    CandidateSet,
    Validation,
    choose_english,
    choose_taught,
    collect_validations,
    decide_validation,
    encode_candidates,
    encode_texts,
    find_validation,
    load_validations,
)

UNSURE = "shared"  # the table that reads a text whose language is not sure
_FIGURE = "R@1"
MOST_NEW = 24  # captions that a report offers to try
MAX_DETECTED = 250  # captions a language in the confusion matrix; each is scored for every served language


@dataclass(frozen=True)
class Measurement:
    """How one view reads one validation set."""

    figures: dict[str, Any]  # recall and truncation, as in the report
    targets: NDArray[np.int64]  # (n,), of each caption the place of its target among the candidates
    ranks: NDArray[np.int64]  # (n,), of that target


def measure(context: TrainingContext, view: View, validation: Validation, among: CandidateSet) -> Measurement | None:
    """Measure how a view reads a set; returns None when all of its pictures were deleted."""
    pairs = zip(validation.captions, validation.targets, strict=True)
    queries = [(caption, among.places[target]) for caption, target in pairs if target in among.places]
    if not queries:
        return None
    texts = encode_texts(context, [(view, caption) for caption, _ in queries])
    targets = np.array([place for _, place in queries], dtype=np.int64)
    figures = {
        **measure_recalls(texts.vectors, among.vectors, targets),
        "truncated": sum(texts.truncated) / len(queries),
    }
    return Measurement(figures, targets, compute_ranks(texts.vectors, among.vectors, targets))


def describe(view: View, validation: Validation, among: CandidateSet, result: Measurement | None) -> dict[str, Any]:
    """Return the figures of one view, among how many candidates they are, and the fertility of its tokenizer."""
    return {
        **(result.figures if result else {"t2i": {}, "i2t": {}, "pairs": 0, "truncated": 0.0}),
        "against": validation.against,
        "candidates": len(among.places),
        "fertility": measure_fertility(view.tokenize(validation.captions), validation.captions),
    }


def assess(attempt: Attempt) -> None:
    """Measure the held-out part of the dataset as it is read now, and end with the report."""
    with attempt.enter_phase("prepare"):
        context = open_context(attempt)
        data = prepare(context, attempt.expansion)
    with attempt.enter_phase("evaluate"):
        report = attempt.compute_once(f"evaluation/{data.language}.json", lambda: _assess(context, data))
    attempt.registry.expansions.succeed(attempt.lease, None, None, report)


def _assess(context: TrainingContext, data: TrainingData) -> dict[str, Any]:
    """Measure the held-out captions as read by the base, by the shared table and, where taught, by the own version.

    The report names the base, so that nobody takes the figures for those of another one. Raises `NothingHeldOut` when
    all pictures of the captions were deleted.
    """
    validation, base = decide_validation(context, data), context.encoder.base_view
    among = encode_candidates(context, data, validation)
    by_base = measure(context, base, validation, among)
    if by_base is None:
        raise NothingHeldOut("no held-out caption can be measured: the pictures that they describe were deleted")
    own_version = context.attempt.registry.releases.get_serving().languages.get(data.language, context.base_version)
    sources = context.attempt.registry.versions.get(own_version).dataset_expansions
    held_out = {text for each in load_validations(context.attempt.root, sources) for text in each.captions}
    # what serves was taught what these datasets hold out: found by that it would tell nothing
    views = context.views if held_out.isdisjoint(validation.captions) else context.views.proofs

    def describe_version(version: int, *, shared: bool = False) -> dict[str, Any] | None:
        try:
            view = views.open(version)
        except VersionCorrupt:  # damaged: nothing serves these texts by it now
            return None
        result = measure(context, view.shared if shared else view, validation, among)
        return None if result is None else {"version": version, **result.figures}

    report: dict[str, Any] = {
        **describe(base, validation, among, by_base),
        "base": context.encoder.base_fingerprint,
        "version": context.base_version,
        "shared": describe_version(context.parent, shared=True),
        "taught": describe_version(own_version) if own_version != context.base_version else None,
        "dataset": data.report.dump(),
    }
    return {**report, **describe_reading(data.language, report, context.attempt.settings.min_recall)}


def evaluate(context: TrainingContext, data: TrainingData, view: View) -> dict[str, Any]:
    """Measure one language beside those of one release, read once: a language may be rolled back meanwhile."""
    attempt, versions, served = context.attempt, context.attempt.registry.versions, context.served_versions
    made_of, get = attempt.expansion.made_of, attempt.registry.expansions.get
    replaces, sources = attempt.expansion.settings.get("replace"), tuple[str, ...]()
    if attempt.expansion.kind in ("learn", "import") and data.language in served:
        sources = versions.get(served[data.language]).dataset_expansions
    kept_sources = [id for id in sources if made_of is None or get(id).made_of != made_of]
    sets = collect_validations(context, data, () if replaces else kept_sources)
    kinds = [CAPTION_KINDS[each.against] if len(sets) > 1 else "" for each in sets]
    parts = [_measure_gain(context, data, view, *each, served) for each in zip(sets, kinds, strict=True)]
    # of a kind nothing may be left: pictures were imported under other ids, or nothing reads the paired texts
    first, *more_parts = [each for each in parts if each["pairs"]] or parts[:1]
    validation = sets[parts.index(first)]
    earlier = {ENGLISH: choose_english(context, data)}
    for tag, number in sorted(served.items()):
        kept = find_validation(attempt.root, versions.get(number).dataset_expansions)
        if kept is not None and tag not in (ENGLISH, data.language):
            earlier[tag] = kept
    own = measure(context, view.shared, validation, encode_candidates(context, data, validation))
    base, candidates = context.encoder.base_view, encode_candidates(context, data, earlier[ENGLISH])
    english = describe(base, earlier[ENGLISH], candidates, measure(context, base, earlier[ENGLISH], candidates))
    about, taught = data.report.dump(), data.training_rows
    words = sum(row in data.listed_rows or row.is_word for row in taught)
    report = {
        **first,
        **({"dictionary": about.pop("dictionary")} if "dictionary" in about else {}),
        "dataset": about,
        "english": english,
        "rows": {"captions": len(taught) - words, "words": words},  # of all datasets together
        "new": _choose_new(context, data, served),
        "shared": {
            "parent": context.parent,
            "own": own.figures["t2i"] if own else {},
            **_measure_shared(context, data, view, earlier, served, english),
        },
        "detected": _count_detected(context, data.language, view, {data.language: validation, **earlier}, served),
    }
    if attempt.expansion.is_of_answers:
        report["covered"] = _measure_coverage(context, data, sources)
    if more_parts:
        report["others"] = more_parts
        report["gain"] = next((each["gain"] for each in more_parts if not each["gain"]["enough"]), first["gain"])
    if context.earlier_expansions:
        more, datasets = len(data.rows) - len(data.own_rows), len(context.earlier_expansions)
        report["joined"] = {"datasets": datasets, "rows": more, "train": len(taught)}
    if context.replaced_count:
        sets = load_validations(attempt.root, sources)
        kinds = [f"{CAPTION_KINDS[each.against]} from the replaced datasets" for each in sets]
        parts = [_measure_gain(context, data, view, *each, served) for each in zip(sets, kinds, strict=True)]
        sentences = [each["gain"]["sentence"] for each in parts if "gain" in each]
        report["replaced"] = {"datasets": context.replaced_count, "sentences": sentences}
    lineage = [*reversed(versions.trace_lineage(context.parent))]
    report["shared"]["so_far"] = measure_chain(lineage, data.language, report)
    return report


def _choose_new(context: TrainingContext, data: TrainingData, served: Mapping[str, int]) -> list[str]:
    """Choose captions of the own dataset for people to try: those with words that what served was not taught."""
    captions, new = dict.fromkeys(row.caption for row in data.own_rows), list[str]()
    with suppress(VersionCorrupt):
        if data.language in served:  # without a lexicon it calls no word unknown
            before = context.views.open(served[data.language])
            new = [caption for caption in captions if before.read(caption).unknown]
    return (new or [*captions])[:MOST_NEW]


def _measure_gain(
    context: TrainingContext,
    data: TrainingData,
    view: View,
    validation: Validation,
    kind: str,
    served: Mapping[str, int],
) -> dict[str, Any]:
    """Measure a set and, unless in a rebuild, the `gain` over the version that has served the language, or the base.

    A damaged version counts as the base, which reads its language until the new one serves. In a move, the new base has
    served none. The sentence about the gain says of which `kind` the captions are. Beside single words that are held
    out stand, as `in_sample`, those that were taught.
    """
    among = encode_candidates(context, data, validation)
    after = measure(context, view, validation, among)
    report = describe(view, validation, among, after)
    if validation.against == "words" and (words := choose_taught(data)).captions:
        known = encode_candidates(context, data, words)
        report["in_sample"] = describe_in_sample(describe(view, words, known, measure(context, view, words, known)))
    if after is None or context.attempt.expansion.kind == "rebuild":
        return report
    pairs = zip(validation.captions, validation.targets, strict=True)
    asked = [caption for caption, target in pairs if target in among.places]
    report["test"] = describe_test(validation.against, asked, after.ranks.tolist(), len(among.places))
    version = served.get(data.language, context.base_version)
    try:
        view = context.views.proofs.open(version)
    except VersionCorrupt:
        version, view = context.base_version, context.encoder.base_view
    before = measure(context, view, validation, among)
    assert before is not None  # the same captions and candidates as of `after`
    ks, forced = choose_recall_ranks(len(among.places)), bool(context.attempt.expansion.settings.get("force"))
    change = measure_gain(before.ranks, after.ranks, after.targets, ks)
    described = describe_gain(data.language, version, before.figures, change, ks, forced=forced, kind=kind)
    return {**report, "gain": described}


def _measure_shared(
    context: TrainingContext,
    data: TrainingData,
    view: View,
    earlier: Mapping[str, Validation],
    served: Mapping[str, int],
    english: Mapping[str, Any],
) -> dict[str, Any]:
    """Measure each earlier language by the shared table as it is and as it would be, beside when it was learned.

    `unmeasured` are languages in that table without any figure: no set was kept, or its pictures were deleted. Where
    this version is apart from the table, they are all that are served. `english` is how the base reads English.
    """
    measured: dict[str, Any] = {}
    for done, (language, validation) in enumerate(() if context.is_apart else earlier.items()):
        context.attempt.check_stop()
        context.attempt.report_progress(done, len(earlier))
        among = encode_candidates(context, data, validation)  # the same before and after
        before, after = (measure(context, each.shared, validation, among) for each in (context.proof_view, view))
        if before and after:
            own = english if language == ENGLISH else context.attempt.registry.versions.get(served[language]).report
            t2i = {"before": before.figures["t2i"], "after": after.figures["t2i"]}
            measured[language] = {**t2i, "learned": own.get("t2i", {})}
    chain = () if context.is_apart else context.attempt.registry.versions.trace_lineage(context.parent)
    concerned = set(served) if context.is_apart else set(served) & {version.language for version in chain}
    return {"languages": measured, "unmeasured": sorted(concerned - set(measured) - {data.language})}


def _count_detected(
    context: TrainingContext, language: str, view: View, sets: Mapping[str, Validation], served: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """Count as what the service's detector would take the held-out captions, once the new language is served too.

    It has each version's counts, those of English with the gallery's captions. Only the n-grams of these captions are
    loaded, so that a worker does not hold those of every language. A damaged version is left out.
    """
    attempt = context.attempt
    captions = {tag: validation.captions[:MAX_DETECTED] for tag, validation in sets.items()}
    grams = {gram for texts in captions.values() for text in texts for gram in select_ngrams(text)}
    texts = context.gallery.sample_captions(ENGLISH, (), MAX_CANDIDATES)
    of_english = Counter(context.encoder.base_view.ngrams) + count_ngrams(texts)
    detector = Detector().replace_counts(ENGLISH, of_english, grams)
    for tag, number in served.items():
        with suppress(VersionCorrupt):  # also of a base, which has no folder
            folder = VersionFolder.fetch(attempt.registry.versions.get(number), attempt.root)
            content, _ = read_version(folder.path, folder.manifest_sha256, proof=True)
            detector = detector.replace_counts(tag, content.ngrams, grams)
    detector = detector.replace_counts(language, view.ngrams, grams)
    return count_confusion(detector, captions, attempt.check_stop)


def measure_fertility(tokens: Sequence[Sequence[int]], captions: Sequence[str]) -> dict[str, float | None]:
    """Measure tokens a word and a character: None of an empty text, and of words in scripts without spaces."""
    count = sum(map(len, tokens))
    words = sum(len(caption.split()) for caption in captions)
    characters = sum(len(word) for caption in captions for word in caption.split())
    return {
        "per_word": count / words if words and is_spaced(captions) else None,
        "per_character": count / characters if characters else None,
    }


def count_confusion(
    detector: Detector, captions: Mapping[str, Sequence[str]], check_stop: Callable[[], None] = lambda: None
) -> dict[str, dict[str, int]]:
    """Count for each language how many of its captions are taken for which one, the most frequent first.

    The detector chooses among all its languages, as in a search. `check_stop` runs before each of them.
    """
    matrix: dict[str, dict[str, int]] = {}
    for language, texts in captions.items():
        check_stop()
        guesses = (detector.guess(text, detector.counts).language for text in texts)
        matrix[language] = dict(Counter(guess or UNSURE for guess in guesses).most_common())
    return matrix


def measure_chain(chain: Sequence[Version], language: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """Measure AA and F of t2i R@1 over the shared table's `chain` (oldest first) and the language that `report` adds.

    It counts the languages that the chain has learned and that could be measured now. A past figure is the one in the
    report of that step; all are of the table, which reads by no lexicon. English is measured on other texts with every
    dataset, so its past figures are those of this report alone: of the base, of the table before, of the table after.
    """
    now = report["shared"]["languages"]
    turns = {version.language: version for version in chain if version.language != language}  # the newest turn counts
    steps = sorted((turns[tag] for tag in now if tag in turns and _get_recall(turns[tag], now)), key=lambda v: v.number)
    if not (own := report["shared"]["own"]):
        return {"languages": [], "AA": None, "F": None}
    triangle: list[list[float]] = []
    for place, step in enumerate(steps):
        last = place == len(steps) - 1
        past = [_get_past_recall(step, other, now, triangle[-1][at], last) for at, other in enumerate(steps[:place])]
        triangle.append([*past, _get_recall(step, now)[_FIGURE]])
    triangle.append([*(now[step.language]["after"][_FIGURE] for step in steps), own[_FIGURE]])
    counted = [*(step.language for step in steps), language]
    return {"languages": counted, "AA": compute_average_accuracy(triangle), "F": compute_forgetting(triangle)}


def _get_recall(step: Version, now: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the table's recall of a language right after its turn, of English as measured now; empty if unknown."""
    if step.parent is None:
        return dict(now.get(step.language, {}).get("learned", {}))
    return dict(step.report.get("shared", {}).get("own", {}))


def _get_past_recall(step: Version, other: Version, now: Mapping[str, Any], before: float, last: bool) -> float:
    """Return the figure of `other` after an earlier `step`; where no comparable one was measured, the one before."""
    if other.parent is None:
        return float(now[other.language]["before"][_FIGURE]) if last else before
    measured = step.report.get("shared", {}).get("languages", {}).get(other.language)
    return float(measured["after"][_FIGURE]) if measured else before


def _measure_coverage(context: TrainingContext, data: TrainingData, before: tuple[str, ...]) -> dict[str, Any]:
    """Return the share of the pictures that have a word with these datasets, and that with those of expansions before.

    None where there is no picture.
    """
    attempt, encoder = context.attempt, context.encoder
    expansions = attempt.registry.expansions.list_with_datasets(before)
    known, more = (find_taught_stems(attempt.root, each) for each in (expansions, data.expansions))
    vocabulary = Vocabulary(encoder, attempt.settings.home)
    nearest = find_nearest_words(
        attempt.gallery, encoder.image_fingerprint, vocabulary, sorted(known | more), check=attempt.check_stop
    )
    return {"before": nearest.measure_covered(known), "after": nearest.measure_covered(more)}
