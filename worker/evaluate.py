"""Phase `evaluate`: how well the new language is found, what becomes of the earlier ones, and who is taken for whom.

A caption with a picture is scored against the gallery, as in a search; a dataset without pictures is scored against its
own English texts, taught ones included: among the few that are held out anything would be found. Validation sets are
kept beside each expansion, because every later one is measured on them.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from model import storage
from model.detection import Detector, count, evidence
from model.encoder import EncodedTexts
from model.errors import VersionCorrupt
from model.evaluation import Recalls, recalls
from model.table import View
from model.version import read
from worker.figures import confusion, fertility, so_far
from worker.prepare import Classroom, Lesson
from worker.work import Work

MAX_CAPTIONS = 1_000  # of a validation set: a share of 0.2 is then known to 0.025 (95 %)
MAX_CANDIDATES = 5_000  # candidates, the size of COCO's test set; a million pictures would only measure the million
MAX_DETECTED = 250  # captions a language whose language is guessed; each guess asks every served language
_BATCH = 128
_FILE = "validation.json"

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Validation:
    """Held-out captions and, for each, the id of its picture or its English text."""

    against: Literal["pictures", "english"]
    captions: list[str]
    targets: list[str]


@dataclass(frozen=True)
class Candidates:
    """What captions are ranked against: unit vectors (count, dimension), and the row of each picture or text."""

    places: dict[str, int]
    vectors: Vectors


@dataclass(frozen=True)
class Figures:
    """Recall of one view on one validation set, and the share of captions that its tokenizer cuts."""

    recalls: Recalls
    truncated: float


def held_out(lesson: Lesson) -> Validation:
    """The lesson's validation set, on pictures when at least half of its captions have one."""
    rows = [row for row in lesson.rows if row.split == "val"]
    pictured = [(row.caption, row.picture) for row in rows if row.picture is not None]
    if 2 * len(pictured) >= len(rows):
        return _chosen("pictures", pictured)
    return _chosen("english", [(row.caption, row.english) for row in rows if row.english is not None])


def held_out_english(lesson: Lesson) -> Validation:
    """The English texts beside the validation set: what the base itself must go on finding."""
    rows = [row for row in lesson.rows if row.split == "val" and row.english is not None]
    pictured = [(row.english or "", row.picture) for row in rows if row.picture is not None]
    if 2 * len(pictured) >= len(rows):
        return _chosen("pictures", pictured)
    return _chosen("english", [(row.english or "", row.english or "") for row in rows])


def _chosen(against: Literal["pictures", "english"], pairs: Sequence[tuple[str, str]]) -> Validation:
    """As many as are needed, chosen by hash so that no order in the file decides."""
    unique = sorted(dict.fromkeys(pairs), key=lambda pair: sha256("\0".join(pair).encode()).digest())[:MAX_CAPTIONS]
    return Validation(against, [caption for caption, _ in unique], [target for _, target in unique])


def candidates(work: Work, room: Classroom, lesson: Lesson, validation: Validation) -> Candidates:
    """The set's own targets and others beside them: pictures of the gallery, or English texts of the lesson."""
    own = list(dict.fromkeys(validation.targets))
    known = room.gallery.ids() if validation.against == "pictures" else lesson.english_texts
    others = sorted(set(known) - set(own), key=lambda name: sha256(name.encode()).digest())
    others = others[: max(0, MAX_CANDIDATES - len(own))]
    if validation.against == "pictures":
        found = room.gallery.picture_vectors([*own, *others], room.encoder.image_fingerprint)
        vectors = np.stack([*found.values()]) if found else np.empty((0, room.encoder.dimension), dtype=np.float32)
        return Candidates({name: place for place, name in enumerate(found)}, vectors)
    taught = torch.nn.functional.normalize(lesson.english, dim=-1).numpy()  # the teacher has read the lesson's own
    unread = [name for name in own if name not in lesson.english_texts]
    read = [name for name in (*own, *others) if name in lesson.english_texts]
    encoded = _encoded(work, room, [(room.encoder.base_view, name) for name in unread])
    vectors = np.concatenate([encoded.vectors, taught[[lesson.english_texts[name] for name in read]]])
    return Candidates({name: place for place, name in enumerate((*unread, *read))}, vectors)


def measure(work: Work, room: Classroom, view: View, validation: Validation, among: Candidates) -> Figures | None:
    """Recall and truncation; None when nothing is left to ask, because the pictures were deleted."""
    pairs = zip(validation.captions, validation.targets, strict=True)
    asked = [(caption, among.places[target]) for caption, target in pairs if target in among.places]
    if not asked:
        return None
    encoded = _encoded(work, room, [(view, caption) for caption, _ in asked])
    owner = np.array([place for _, place in asked], dtype=np.int64)
    return Figures(recalls(encoded.vectors, among.vectors, owner), sum(encoded.truncated) / len(asked))


def _encoded(work: Work, room: Classroom, items: Sequence[tuple[View, str]]) -> EncodedTexts:
    """All of them, with a look at the wish to stop before each batch: a large tower takes a second for one."""
    parts = []
    for start in range(0, max(1, len(items)), _BATCH):
        work.check()
        parts.append(room.encoder.texts(items[start : start + _BATCH]))
    return EncodedTexts(
        np.concatenate([part.vectors for part in parts]),
        [cut for part in parts for cut in part.truncated],
        [count for part in parts for count in part.tokens],
    )


def evaluate(work: Work, room: Classroom, lesson: Lesson, view: View) -> dict[str, Any]:
    """The report of a lesson learned as `view`; computed once, then read from its folder."""
    path = work.folder / "evaluation" / f"{lesson.language}.json"
    if path.exists():
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return report
    validation, earlier = held_out(lesson), _earlier(work, room, lesson)
    if work.expansion.kind == "learn":
        storage.write_json(work.folder / _FILE, asdict(validation))
    own = _measured(work, room, lesson, view, validation)
    english = _measured(work, room, lesson, room.encoder.base_view, earlier["en"])
    report = {
        **own,
        "dataset": lesson.report.as_dict(),
        "english": english,
        "shared": {"parent": room.parent, **_shared(work, room, lesson, view, earlier, english)},
        "detected": _detected(work, room, lesson, view, {lesson.language: validation, **earlier}),
    }
    chain = [*reversed(work.registry.versions.lineage(room.parent))]
    report["shared"]["so_far"] = so_far(chain, lesson.language, report)
    storage.write_json(path, report)
    work.saved()
    return report


def _earlier(work: Work, room: Classroom, lesson: Lesson) -> dict[str, Validation]:
    """The validation sets of English and of each language served but the lesson's, as far as they were kept.

    Where the dataset has no English, the English of the gallery is asked.
    """
    english = held_out_english(lesson)
    sets = {"en": english if english.captions else _english_of(room)}
    served = work.registry.releases.serving().languages
    for language, number in sorted(served.items()):
        if language not in ("en", lesson.language):
            version = work.registry.versions.get(number)
            path = work.settings.home / "expansions" / str(version.expansion) / _FILE
            if path.exists():
                sets[language] = Validation(**json.loads(path.read_text(encoding="utf-8")))
    return sets


def _english_of(room: Classroom) -> Validation:
    """English captions of the gallery's pictures."""
    pictures = room.gallery.captioned("en", ())
    said = room.gallery.captions_for(pictures[: 2 * MAX_CAPTIONS], ["en"])
    return _chosen("pictures", [(text, picture) for picture, found in said.items() for text in found.get("en", ())])


def _measured(work: Work, room: Classroom, lesson: Lesson, view: View, validation: Validation) -> dict[str, Any]:
    """How one view reads a validation set: recall both ways, what is cut, and into how many tokens it falls."""
    among = candidates(work, room, lesson, validation)
    found = measure(work, room, view, validation, among)
    return {
        **(found.recalls if found else {"t2i": {}, "i2t": {}, "pairs": 0}),
        "against": validation.against,
        "candidates": len(among.places),
        "truncated": found.truncated if found else 0.0,
        "fertility": fertility(view.tokens(validation.captions), validation.captions),
    }


def _shared(
    work: Work, room: Classroom, lesson: Lesson, view: View, earlier: Mapping[str, Validation], english: dict[str, Any]
) -> dict[str, Any]:
    """Recall of each earlier language through the shared table as it is and as it would be, and when it was learned.

    `unmeasured` are served languages of which nothing could be asked: no set was kept, or its pictures were deleted.
    """
    served = work.registry.releases.serving().languages
    found: dict[str, Any] = {}
    for done, (language, validation) in enumerate(earlier.items()):
        work.check()
        work.done(done, len(earlier))
        among = candidates(work, room, lesson, validation)  # the same before and after
        before, after = (measure(work, room, table, validation, among) for table in (room.view, view))
        if before and after:
            own = english if language == "en" else work.registry.versions.get(served[language]).report
            found[language] = {
                "before": before.recalls["t2i"],
                "after": after.recalls["t2i"],
                "learned": own.get("t2i", {}),
            }
    return {"languages": found, "unmeasured": sorted(set(served) - set(found) - {lesson.language})}


def _detected(
    work: Work, room: Classroom, lesson: Lesson, view: View, sets: Mapping[str, Validation]
) -> dict[str, dict[str, int]]:
    """As which language the service would read held-out captions of each, once it serves the lesson's too."""
    captions = {language: validation.captions[:MAX_DETECTED] for language, validation in sets.items()}
    asked = {gram for texts in captions.values() for text in texts for gram in evidence(text)}
    detector = _detector(work, room, asked).with_counts(lesson.language, view.ngrams, asked)
    found: dict[str, dict[str, int]] = {}
    for language, texts in captions.items():
        work.check()
        found.update(confusion(detector, {language: texts}))
    return found


def _detector(work: Work, room: Classroom, asked: Collection[str]) -> Detector:
    """What the service tells languages by (`index.detecting`): each version's counts, English by the gallery besides.

    Of the n-grams that are asked alone, so that a worker does not hold those of every language.

    A version that cannot be read is left out: its damage is for its own language to answer.
    """
    captioned = room.gallery.captioned("en", ())
    some = captioned[:: -(-len(captioned) // MAX_CANDIDATES) or 1]
    texts = [text for found in room.gallery.captions_for(some, ["en"]).values() for text in found["en"]]
    detector = Detector().with_counts("en", Counter(room.encoder.base_view.ngrams) + count(texts), asked)
    for language, number in work.registry.releases.serving().languages.items():
        version = work.registry.versions.get(number)
        if version.folder is not None:
            with suppress(VersionCorrupt):
                learned, _ = read(work.settings.home / version.folder, version.manifest_sha256)
                detector = detector.with_counts(language, learned.ngrams, asked)
    return detector
