"""What a language is asked, and among what: chosen once, kept beside its expansion, and asked by every later one.

A caption with a picture is scored against the gallery, as in a search; a dataset without pictures is scored against its
own English texts, taught ones included: among the few that are held out anything would be found.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from model.encoder import EncodedTexts
from model.table import View
from worker.attempt import EXPANSIONS, VALIDATION, Attempt
from worker.prepare import TrainingContext, TrainingData

MAX_CAPTIONS = 1_000  # a share of 0.2 is then known to 0.025 (95 %)
MAX_CANDIDATES = 5_000  # the size of COCO's test set; a million pictures would only measure the million
_BATCH = 128

Against = Literal["pictures", "english"]
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Validation:
    """Held-out captions, for each the id of its picture or its English text, and the `others` ranked beside those.

    The others are kept, too: of two figures that were taken among different candidates nobody could say what was lost.
    """

    against: Against
    captions: list[str]
    targets: list[str]
    others: list[str] = field(default_factory=list)  # the first sets kept none


@dataclass(frozen=True)
class Candidates:
    """What captions are ranked among: unit vectors (count, dimension), and the row of each picture or text."""

    places: dict[str, int]
    vectors: NDArray[np.float32]


def held_out(attempt: Attempt, context: TrainingContext, data: TrainingData) -> Validation:
    """The lesson's validation set, on pictures where half of its captions have one.

    The first attempt of the expansion that teaches it decides; a rebuild asks the same, if it was kept and any of its
    pictures is left.
    """
    if attempt.expansion.kind == "learn":
        return Validation(**attempt.decided(VALIDATION, lambda: asdict(_held_out(context, data))))
    earlier = kept(attempt, data.expansion.id)
    if earlier is None or (earlier.against == "pictures" and not context.gallery.known(earlier.targets)):
        return _held_out(context, data)
    return earlier


def kept(attempt: Attempt, expansion: str | None) -> Validation | None:
    """The validation set of an expansion, if it was kept."""
    path = attempt.root.path(f"{EXPANSIONS}/{expansion}/{VALIDATION}")
    return Validation(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def english(context: TrainingContext, data: TrainingData) -> Validation:
    """English texts, which the base must go on finding: those beside the validation set or, if none, the gallery's."""
    rows = [row for row in data.rows if row.split == "val" and row.english is not None]
    pictured = [(row.english or "", row.picture) for row in rows if row.picture is not None]
    if not rows:
        pictures = context.gallery.captioned("en", ())
        said = context.gallery.captions_for(pictures[: 2 * MAX_CAPTIONS], ["en"])
        pictured = [(text, picture) for picture, found in said.items() for text in found.get("en", ())]
    if 2 * len(pictured) >= len(rows):
        return _chosen("pictures", pictured, context.gallery.ids())
    return _chosen("english", [(row.english or "", row.english or "") for row in rows], data.english_texts)


def _held_out(context: TrainingContext, data: TrainingData) -> Validation:
    rows = [row for row in data.rows if row.split == "val"]
    pictured = [(row.caption, row.picture) for row in rows if row.picture is not None]
    if 2 * len(pictured) >= len(rows):
        return _chosen("pictures", pictured, context.gallery.ids())
    translated = [(row.caption, row.english) for row in rows if row.english is not None]
    return _chosen("english", translated, data.english_texts)


def _chosen(against: Against, pairs: Pairs, known: Collection[str]) -> Validation:
    """As many as are needed, chosen by hash so that no order in the file decides."""
    unique = sorted(dict.fromkeys(pairs), key=lambda pair: _hash("\0".join(pair)))[:MAX_CAPTIONS]
    captions, targets = [caption for caption, _ in unique], [target for _, target in unique]
    others = sorted(set(known) - set(targets), key=_hash)[: max(0, MAX_CANDIDATES - len(set(targets)))]
    return Validation(against, captions, targets, others)


def candidates(attempt: Attempt, context: TrainingContext, data: TrainingData, validation: Validation) -> Candidates:
    """The set's own targets and the others beside them, but for pictures that were deleted meanwhile."""
    names = list(dict.fromkeys([*validation.targets, *validation.others]))
    if validation.against == "pictures":
        found = context.gallery.picture_vectors(names, context.encoder.image_fingerprint)
        vectors = np.stack([*found.values()]) if found else np.empty((0, context.encoder.dimension), dtype=np.float32)
        return Candidates({name: place for place, name in enumerate(found)}, vectors)
    taught = torch.nn.functional.normalize(data.english, dim=-1).numpy()  # the teacher has read the lesson's own
    unread = [name for name in names if name not in data.english_texts]
    read = [name for name in names if name in data.english_texts]
    by_base = encoded(attempt, context, [(context.encoder.base_view, name) for name in unread])
    vectors = np.concatenate([by_base.vectors, taught[[data.english_texts[name] for name in read]]])
    return Candidates({name: place for place, name in enumerate((*unread, *read))}, vectors)


def encoded(attempt: Attempt, context: TrainingContext, items: Sequence[tuple[View, str]]) -> EncodedTexts:
    """All of them, with a look at the wish to stop before each batch: a large tower takes a second for one."""
    parts = []
    for start in range(0, max(1, len(items)), _BATCH):
        attempt.check()
        parts.append(context.encoder.texts(items[start : start + _BATCH]))
    return EncodedTexts(
        np.concatenate([part.vectors for part in parts]),
        [cut for part in parts for cut in part.truncated],
        [count for part in parts for count in part.tokens],
    )


def _hash(name: str) -> bytes:
    return sha256(name.encode()).digest()
