"""Phase `evaluate`: how well the new language is found, what becomes of the earlier ones, and who is taken for whom.

What is asked, and among what, is `worker.validation`.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from model import storage
from model.detection import Detector, count, evidence
from model.errors import VersionCorrupt
from model.evaluation import Recalls, recalls
from model.table import View
from model.version import read
from worker.attempt import Attempt
from worker.figures import confusion, fertility, so_far
from worker.prepare import TrainingContext, TrainingData
from worker.validation import MAX_CANDIDATES, Candidates, Validation, candidates, encoded, english, held_out, kept

MAX_DETECTED = 250  # captions a language whose language is guessed; each guess asks every served language


@dataclass(frozen=True)
class Figures:
    """Recall of one view on one validation set, and the share of captions that its tokenizer cuts."""

    recalls: Recalls
    truncated: float


def measure(
    attempt: Attempt, context: TrainingContext, view: View, validation: Validation, among: Candidates
) -> Figures | None:
    """Recall and truncation; None when nothing is left to ask, because the pictures were deleted."""
    pairs = zip(validation.captions, validation.targets, strict=True)
    asked = [(caption, among.places[target]) for caption, target in pairs if target in among.places]
    if not asked:
        return None
    texts = encoded(attempt, context, [(view, caption) for caption, _ in asked])
    owner = np.array([place for _, place in asked], dtype=np.int64)
    return Figures(recalls(texts.vectors, among.vectors, owner), sum(texts.truncated) / len(asked))


def evaluate(attempt: Attempt, context: TrainingContext, data: TrainingData, view: View) -> dict[str, Any]:
    """The report of a lesson learned as `view`; computed once, then read from its folder."""
    path = attempt.folder / "evaluation" / f"{data.language}.json"
    if path.exists():
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return report
    validation, earlier = held_out(attempt, context, data), _earlier(attempt, context, data)
    own = _measured(attempt, context, data, view, validation)
    base = _measured(attempt, context, data, context.encoder.base_view, earlier["en"])
    report = {
        **own,
        "dataset": data.report.as_dict(),
        "english": base,
        "shared": {"parent": context.parent, **_shared(attempt, context, data, view, earlier, base)},
        "detected": _detected(attempt, context, data, view, {data.language: validation, **earlier}),
    }
    chain = [*reversed(attempt.registry.versions.lineage(context.parent))]
    report["shared"]["so_far"] = so_far(chain, data.language, report)
    storage.write_json(path, report)
    attempt.saved()
    return report


def _earlier(attempt: Attempt, context: TrainingContext, data: TrainingData) -> dict[str, Validation]:
    """The validation sets of English and of each language served but the lesson's, as far as they were kept."""
    sets = {"en": english(context, data)}
    served = attempt.registry.releases.serving().languages
    for language, number in sorted(served.items()):
        if language not in ("en", data.language):
            found = kept(attempt, attempt.registry.versions.get(number).expansion)
            if found is not None:
                sets[language] = found
    return sets


def _measured(
    attempt: Attempt, context: TrainingContext, data: TrainingData, view: View, validation: Validation
) -> dict[str, Any]:
    """How one view reads a validation set: recall both ways, what is cut, and into how many tokens it falls."""
    among = candidates(attempt, context, data, validation)
    found = measure(attempt, context, view, validation, among)
    return {
        **(found.recalls if found else {"t2i": {}, "i2t": {}, "pairs": 0}),
        "against": validation.against,
        "candidates": len(among.places),
        "truncated": found.truncated if found else 0.0,
        "fertility": fertility(view.tokens(validation.captions), validation.captions),
    }


def _shared(
    attempt: Attempt,
    context: TrainingContext,
    data: TrainingData,
    view: View,
    earlier: Mapping[str, Validation],
    base: dict[str, Any],
) -> dict[str, Any]:
    """Recall of each earlier language through the shared table as it is and as it would be, and when it was learned.

    `unmeasured` are served languages of which nothing could be asked: no set was kept, or its pictures were deleted.
    """
    served = attempt.registry.releases.serving().languages
    found: dict[str, Any] = {}
    for done, (language, validation) in enumerate(earlier.items()):
        attempt.check()
        attempt.done(done, len(earlier))
        among = candidates(attempt, context, data, validation)  # the same before and after
        before, after = (measure(attempt, context, table, validation, among) for table in (context.view, view))
        if before and after:
            own = base if language == "en" else attempt.registry.versions.get(served[language]).report
            found[language] = {
                "before": before.recalls["t2i"],
                "after": after.recalls["t2i"],
                "learned": own.get("t2i", {}),
            }
    return {"languages": found, "unmeasured": sorted(set(served) - set(found) - {data.language})}


def _detected(
    attempt: Attempt, context: TrainingContext, data: TrainingData, view: View, sets: Mapping[str, Validation]
) -> dict[str, dict[str, int]]:
    """As which language the service would read held-out captions of each, once it serves the lesson's too."""
    captions = {language: validation.captions[:MAX_DETECTED] for language, validation in sets.items()}
    asked = {gram for texts in captions.values() for text in texts for gram in evidence(text)}
    detector = _detector(attempt, context, asked).with_counts(data.language, view.ngrams, asked)
    found: dict[str, dict[str, int]] = {}
    for language, texts in captions.items():
        attempt.check()
        found.update(confusion(detector, {language: texts}))
    return found


def _detector(attempt: Attempt, context: TrainingContext, asked: Collection[str]) -> Detector:
    """What the service tells languages by (`index.detecting`): each version's counts, English by the gallery besides.

    Of the n-grams that are asked alone, so that a worker does not hold those of every language.

    A version that cannot be read is left out: its damage is for its own language to answer.
    """
    captioned = context.gallery.captioned("en", ())
    some = captioned[:: -(-len(captioned) // MAX_CANDIDATES) or 1]
    texts = [text for found in context.gallery.captions_for(some, ["en"]).values() for text in found["en"]]
    detector = Detector().with_counts("en", Counter(context.encoder.base_view.ngrams) + count(texts), asked)
    for language, number in attempt.registry.releases.serving().languages.items():
        version = attempt.registry.versions.get(number)
        if version.folder is not None:
            with suppress(VersionCorrupt):
                path = attempt.root.open(version.folder, version.manifest_sha256, VersionCorrupt)
                learned, _ = read(path, version.manifest_sha256)
                detector = detector.with_counts(language, learned.ngrams, asked)
    return detector
