"""Held-out set and ranking candidates: chosen once, kept beside the expansion, and used by every later one.

A caption with a picture is ranked against the gallery, as in a search. A dataset without pictures is ranked against its
own English texts, those of its training rows included: among the few held-out ones, chance alone does well.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from index.sweep import EXPANSIONS
from index.sync import picture_vectors
from model.encoder import EncodedTexts
from model.table import View
from worker.attempt import Attempt
from worker.prepare import TrainingContext, TrainingData

VALIDATION = "validation.json"  # in an expansion's folder
MAX_CAPTIONS = 1_000  # a share of 0.2 is then known to 0.025 (95 %)
MAX_CANDIDATES = 5_000  # the size of COCO's test set; more candidates would only measure the size of the gallery
_BATCH = 128

Against = Literal["pictures", "english"]
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Validation:
    """Held-out captions; for each the id of its picture, or its English text; and the `others` ranked beside those.

    The others are kept as well: two figures that were measured among different candidates cannot be compared.
    """

    against: Against
    captions: list[str]
    targets: list[str]
    others: list[str] = field(default_factory=list)  # older files lack this field


@dataclass(frozen=True)
class Candidates:
    """What captions are ranked against: unit vectors (count, dimension), and the row of each picture or text."""

    places: dict[str, int]
    vectors: NDArray[np.float32]


def held_out(context: TrainingContext, data: TrainingData) -> Validation:
    """The validation set of the data, against pictures where at least half of its captions have one.

    The first attempt of the expansion that learns it decides; a rebuild uses the same, if it was kept and any of its
    pictures is left.
    """
    if context.attempt.expansion.kind == "learn":
        return Validation(**context.attempt.decided(VALIDATION, lambda: asdict(_held_out(context, data))))
    earlier = kept(context.attempt, data.expansion.id)
    if earlier is None or (earlier.against == "pictures" and not context.gallery.known(earlier.targets)):
        return _held_out(context, data)
    return earlier


def kept(attempt: Attempt, expansion: str | None) -> Validation | None:
    """The validation set of an expansion, if it was kept, on whatever machine."""
    if expansion is None:
        return None
    path = attempt.root.open(f"{EXPANSIONS}/{expansion}/{VALIDATION}")
    return Validation(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def english(context: TrainingContext, data: TrainingData) -> Validation:
    """English texts, to measure what English loses: those of the validation rows or, without any, the gallery's."""
    rows = [row for row in data.rows if row.split == "val" and row.english is not None]
    pictured = [(row.english or "", row.picture) for row in rows if row.picture is not None]
    if not rows:
        pictures = context.gallery.captioned("en", ())
        captions = context.gallery.captions_for(pictures[: 2 * MAX_CAPTIONS], ["en"])
        pictured = [(text, picture) for picture, by_tag in captions.items() for text in by_tag.get("en", ())]
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
    """As many as are needed, chosen by hash so that the order in the file does not matter."""
    unique = sorted(dict.fromkeys(pairs), key=lambda pair: _hash("\0".join(pair)))[:MAX_CAPTIONS]
    captions, targets = [caption for caption, _ in unique], [target for _, target in unique]
    others = sorted(set(known) - set(targets), key=_hash)[: max(0, MAX_CANDIDATES - len(set(targets)))]
    return Validation(against, captions, targets, others)


def candidates(context: TrainingContext, data: TrainingData, validation: Validation) -> Candidates:
    """The set's own targets and the others beside them, except pictures that were deleted meanwhile."""
    names = list(dict.fromkeys([*validation.targets, *validation.others]))
    if validation.against == "pictures":
        by_id = picture_vectors(context.encoder, context.gallery, names)
        vectors = np.stack([*by_id.values()]) if by_id else np.empty((0, context.encoder.dimension), dtype=np.float32)
        return Candidates({name: place for place, name in enumerate(by_id)}, vectors)
    features = torch.nn.functional.normalize(data.english, dim=-1).numpy()  # of the dataset's own texts
    own = [name for name in names if name in data.english_texts]
    foreign = [name for name in names if name not in data.english_texts]
    read = encoded(context, [(context.encoder.base_view, name) for name in foreign])
    vectors = np.concatenate([read.vectors, features[[data.english_texts[name] for name in own]]])
    return Candidates({name: place for place, name in enumerate((*foreign, *own))}, vectors)


def encoded(context: TrainingContext, items: Sequence[tuple[View, str]]) -> EncodedTexts:
    """All of them; checks before each batch whether to stop, since a large tower takes a second for one."""
    parts = []
    for start in range(0, max(1, len(items)), _BATCH):
        context.attempt.check()
        parts.append(context.encoder.texts(items[start : start + _BATCH]))
    return EncodedTexts(
        np.concatenate([part.vectors for part in parts]),
        [cut for part in parts for cut in part.truncated],
        [count for part in parts for count in part.tokens],
    )


def _hash(name: str) -> bytes:
    return sha256(name.encode()).digest()
