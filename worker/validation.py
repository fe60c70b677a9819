"""Held-out set and ranking candidates: chosen once, kept beside the expansion, and used by every later one.

A caption with a picture is ranked against the gallery, as in a search. A dataset without pictures is ranked against its
own pivots, those of its training rows included: among the few held-out ones, chance alone does well.
"""

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from index.sources import ensure_picture_vectors
from model.dataset import pictured
from model.dataset.rows import Pivot
from model.encoder import EncodedTexts
from model.languages import ENGLISH, reads
from model.table import View
from store.data_root import EXPANSIONS, DataRoot
from store.errors import VersionCorrupt
from worker.attempt import TrainingContext
from worker.prepare import TrainingData

VALIDATION = "validation.json"  # in an expansion's folder
MAX_CAPTIONS = 1_000  # a share of 0.2 is then known to 0.025 (95 %)
MAX_CANDIDATES = 5_000  # the size of COCO's test set; more candidates would only measure the size of the gallery
_BATCH = 128

Against = Literal["pictures", "english", "pivots"]  # pivots: where not all of them are English
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Validation:
    """Held-out captions; for each the id of its picture, or its pivot by name; and the `others` ranked beside those.

    The others are kept as well: two figures that were measured among different candidates cannot be compared. So are
    the versions that read the pivots' languages.
    """

    against: Against
    captions: list[str]
    targets: list[str]
    others: list[str]
    pivots: dict[str, int] = field(default_factory=dict)  # the base reads what is not here


@dataclass(frozen=True)
class Candidates:
    """What captions are ranked against: unit vectors (count, dimension), and the row of each picture or text."""

    places: dict[str, int]
    vectors: NDArray[np.float32]


def decide_held_out(context: TrainingContext, data: TrainingData) -> Validation:
    """Return the validation set of the own rows, against pictures where at least half of its captions have one.

    The first attempt of the expansion that learns or assesses them decides; a rebuild or a move, which has none of its
    own, uses the same, if it was kept and any of its pictures is left.
    """
    if context.attempt.expansion.kind in ("learn", "assess"):
        return Validation(**context.attempt.decided(VALIDATION, lambda: asdict(_choose_held_out(context, data))))
    earlier = find_kept(context.attempt.root, [expansion.id for expansion in data.taught])
    if earlier is None or (earlier.against == "pictures" and not context.gallery.find_known(earlier.targets)):
        return _choose_held_out(context, data)
    return earlier


def read_kept(root: DataRoot, expansion: str | None) -> Validation | None:
    """Read the validation set of an expansion, if it was kept, on whatever machine."""
    if expansion is None:
        return None
    path = root.open(f"{EXPANSIONS}/{expansion}/{VALIDATION}")
    return Validation(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def find_kept(root: DataRoot, expansions: Sequence[str], against: Against | None = None) -> Validation | None:
    """Join the validation sets of these expansions, as far as they were kept and are ranked `against` the same.

    That is by default what most of their captions are ranked against, of two the one that came last.
    """
    return next((each for each in join_kept(root, expansions) if against in (None, each.against)), None)


def join_kept(root: DataRoot, expansions: Sequence[str]) -> list[Validation]:
    """Join the kept sets of these expansions that are ranked against the same: that of most captions, or else of the
    last, comes first."""
    kinds = dict[Against, list[Validation]]()
    for expansion in reversed(expansions):
        if (each := read_kept(root, expansion)) is not None:
            kinds.setdefault(each.against, []).insert(0, each)
    return [*map(_join, sorted(kinds.values(), key=lambda alike: -sum(len(each.captions) for each in alike)))]


def collect_held_out(context: TrainingContext, data: TrainingData, earlier: Sequence[str]) -> list[Validation]:
    """Return what this dataset, those taught again and the `earlier` ones hold out, one set for each kind of target."""
    own = decide_held_out(context, data)
    if context.attempt.expansion.kind != "learn":
        return [own]
    return join_kept(context.attempt.root, [*dict.fromkeys([*earlier, *(each.id for each in data.taught)])])


def _join(alike: Sequence[Validation]) -> Validation:
    if len(alike) == 1:
        return alike[0]
    pairs = [pair for each in alike for pair in zip(each.captions, each.targets, strict=True)]
    known = {name for each in alike for name in (*each.targets, *each.others)}
    pivots = {language: number for each in alike for language, number in each.pivots.items()}
    return replace(choose(alike[-1].against, pairs, known), pivots=pivots)


def english(context: TrainingContext, data: TrainingData) -> Validation:
    """Choose texts to measure what English loses: those of the validation rows or, without any, the gallery's."""
    rows = [row for row in data.rows if row.split == "val" and row.english is not None]
    if not rows:
        return english_of_gallery(context)
    if pictured(rows):
        described = [(row.english or "", row.picture) for row in rows if row.picture is not None]
        return choose("pictures", described, context.gallery.list_ids())
    known = {row.english for row in data.rows if row.english is not None}
    return choose("english", [(row.english or "", row.english or "") for row in rows], known)


def english_of_gallery(context: TrainingContext) -> Validation:
    """Choose English captions of the gallery, against its pictures."""
    pictures = context.gallery.list_captioned("en", ())
    captions = context.gallery.group_captions(pictures[: 2 * MAX_CAPTIONS], ["en"])
    described = [(text, picture) for picture, by_tag in captions.items() for text in by_tag.get("en", ())]
    return choose("pictures", described, context.gallery.list_ids())


def _choose_held_out(context: TrainingContext, data: TrainingData) -> Validation:
    rows = [row for row in data.fresh if row.split == "val"]
    if pictured(rows):
        described = [(row.caption, row.picture) for row in rows if row.picture is not None]
        return choose("pictures", described, context.gallery.list_ids())
    known = {row.pivot for row in data.rows if row.pivot is not None}
    paired = [(row.caption, _name(row.pivot)) for row in rows if row.pivot is not None]
    against: Against = "english" if {language for language, _ in known} == {ENGLISH} else "pivots"
    return replace(choose(against, paired, {_name(pivot) for pivot in known}), pivots=dict(data.pivots))


def choose(against: Against, pairs: Pairs, known: Collection[str]) -> Validation:
    """Choose as many as are needed, by hash, so that the order in the file does not matter."""
    unique = sorted(dict.fromkeys(pairs), key=lambda pair: _hash("\0".join(pair)))[:MAX_CAPTIONS]
    captions, targets = [caption for caption, _ in unique], [target for _, target in unique]
    others = sorted(set(known) - set(targets), key=_hash)[: max(0, MAX_CANDIDATES - len(set(targets)))]
    return Validation(against, captions, targets, others)


def candidates(context: TrainingContext, data: TrainingData | None, validation: Validation) -> Candidates:
    """Encode the set's own targets and the others beside them, except pictures that were deleted meanwhile.

    What `data` has the features of is not encoded again.
    """
    names = list(dict.fromkeys([*validation.targets, *validation.others]))
    if validation.against == "pictures":
        by_id = ensure_picture_vectors(context.encoder, context.gallery, names)
        vectors = np.stack([*by_id.values()]) if by_id else np.empty((0, context.encoder.dimension), dtype=np.float32)
        return Candidates({name: place for place, name in enumerate(by_id)}, vectors)
    own: dict[str, int] = {}
    foreign: dict[str, tuple[View, str]] = {}
    readers = _readers(context, validation, {_pivot(name).language for name in names})
    for name in names:
        language, text = _pivot(name)
        place = None if data is None else data.texts.get(Pivot(language, text))
        if (
            data is not None
            and place is not None
            and data.pivots[language] == validation.pivots.get(language, context.base)
        ):
            own[name] = place
        elif language in readers:
            foreign[name] = (readers[language], text)
    vectors = encode_texts(context, [*foreign.values()]).vectors
    if data is not None:
        features = torch.nn.functional.normalize(data.features, dim=-1).numpy()  # of the dataset's own texts
        vectors = np.concatenate([vectors, features[[*own.values()]]])
    return Candidates({name: place for place, name in enumerate((*foreign, *own))}, vectors)


def _readers(context: TrainingContext, validation: Validation, languages: Collection[str]) -> dict[str, View]:
    """Open the views that read pivots in these languages: of the versions that did when the set was chosen.

    Where one is pruned or damaged since, or made for another base, that of the version which serves its language now,
    or of a base that reads it untaught; without one, none.
    """
    served, readers = context.served, dict[str, View]()
    for language in languages:
        built_in = context.base if reads(context.encoder.languages, language) else None
        for version in (validation.pivots.get(language, context.base), served.get(language), built_in):
            if language not in readers and version is not None:
                with suppress(VersionCorrupt):
                    readers[language] = context.views.of(version)
    return readers


def _name(pivot: Pivot) -> str:
    """Write a pivot as one text: English as it is; another one behind its language. A clean text has no tab."""
    return pivot.text if pivot.language == ENGLISH else f"{pivot.language}\t{pivot.text}"


def _pivot(name: str) -> Pivot:
    language, _, text = name.rpartition("\t")
    return Pivot(language or ENGLISH, text)


def encode_texts(context: TrainingContext, items: Sequence[tuple[View, str]]) -> EncodedTexts:
    """Encode texts; looks before each batch whether to stop, since a large tower takes a second for one."""
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
