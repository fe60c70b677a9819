"""Held-out set and ranking candidates: chosen once, kept beside the expansion, and used by every later one.

A caption with a picture is ranked against the gallery, as in a search. A dataset without pictures is ranked against its
own pivots, those of its training rows included: among the few held-out ones, chance alone does well. The single words
of a dictionary are a kind of their own, since a proof knows nothing of one that is held out: the others are asked, too.
"""

import json
import random
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from heapq import nsmallest
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save

from index.sources import ensure_picture_vectors
from index.vectors import Matrix
from model.dataset import has_mostly_pictures
from model.dataset.formats import SHEET
from model.dataset.rows import Pivot, Row
from model.encoder import EncodedTexts, View
from model.languages import ENGLISH, can_read
from model.text import is_spaced
from store.data_root import EXPANSIONS, DataRoot
from store.errors import VersionCorrupt
from worker.attempt import TrainingContext
from worker.prepare import TrainingData

VALIDATION = "validation.json"  # in an expansion's folder
MAX_CAPTIONS = 1_000  # a share of 0.2 is then known to 0.025 (95 %)
MAX_CANDIDATES = 5_000  # the size of COCO's test set; more candidates would only measure the size of the gallery
HELD_OUT = "held-out.safetensors"  # beside the rows of a version
LEAST_CAPTIONS = 20  # by which the chance of a hit is fitted for a language of which nothing else is known
_BATCH_SIZE = 128
_SHORT = 4  # letters below which an English word without an entry is one of grammar, and stays out
_LONGEST_ENTRY = 3  # words of an equivalent that is looked for in a caption
_MOSTLY_WORDS = 0.75  # share of rows

CandidateKind = Literal["pictures", "english", "pivots", "words"]  # pivots: where not all of them are English
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Validation:
    """A held-out set: captions; for each the id of its picture, or its pivot by name; the `others` ranked beside those.

    The others are kept as well: two figures that were measured among different candidates cannot be compared.
    """

    against: CandidateKind
    captions: list[str]
    targets: list[str]
    others: list[str]
    pivots: dict[str, int] = field(default_factory=dict)  # versions by language of a pivot; the base reads the others


@dataclass(frozen=True)
class CandidateSet:
    """Pictures or texts that captions are ranked against: unit vectors (count, dimension), and the row of each."""

    places: dict[str, int]
    vectors: NDArray[np.float32]


def decide_validation(context: TrainingContext, data: TrainingData) -> Validation:
    """Return the validation set of the own rows, against pictures where at least half of its captions have one.

    The first attempt of an expansion that learns, assesses or imports decides. A rebuild or a move, which has no
    dataset of its own, takes the sets of the expansions that it repeats, if any of their pictures is left.
    """
    if context.attempt.expansion.kind in ("learn", "assess", "import"):
        return Validation(**context.attempt.decide_once(VALIDATION, lambda: asdict(_choose_own_rows(context, data))))
    earlier = find_validation(context.attempt.root, [each.id for each in data.expansions])
    if earlier is None or (earlier.against == "pictures" and not context.gallery.find_known(earlier.targets)):
        return _choose_own_rows(context, data)
    return earlier


def load_validation(root: DataRoot, expansion: str) -> Validation | None:
    """Load the validation set of an expansion; returns None if it was not kept."""
    path = root.open(f"{EXPANSIONS}/{expansion}/{VALIDATION}")
    return Validation(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def find_validation(root: DataRoot, expansions: Sequence[str]) -> Validation | None:
    """Return the first of the sets of these expansions; None if none was kept."""
    return next(iter(load_validations(root, expansions)), None)


def load_validations(root: DataRoot, expansions: Sequence[str]) -> list[Validation]:
    """Load the sets of these expansions, joined to one for each kind of candidates.

    The one of most captions comes first; of two alike, the one of the last expansion; single words come last.
    """
    kinds = dict[CandidateKind, list[Validation]]()
    for expansion in reversed(expansions):
        if (each := load_validation(root, expansion)) is not None and each.captions:
            kinds.setdefault(each.against, []).insert(0, each)

    def rank(alike: list[Validation]) -> tuple[bool, int]:
        return alike[0].against == "words", -sum(len(each.captions) for each in alike)

    return [*map(_join, sorted(kinds.values(), key=rank))]


def collect_validations(context: TrainingContext, data: TrainingData, earlier: Sequence[str]) -> list[Validation]:
    """Load what this dataset, those taught again and the `earlier` ones hold out: a set for each kind of candidates."""
    own = decide_validation(context, data)
    if context.attempt.expansion.kind not in ("learn", "import"):
        return [own]
    ids = [*dict.fromkeys([*earlier, *(each.id for each in data.expansions)])]
    return load_validations(context.attempt.root, ids) or [own]


def _join(alike: Sequence[Validation]) -> Validation:
    if len(alike) == 1:
        return alike[0]
    pairs = [pair for each in alike for pair in zip(each.captions, each.targets, strict=True)]
    names = {name for each in alike for name in (*each.targets, *each.others)}
    pivots = {language: number for each in alike for language, number in each.pivots.items()}
    return replace(choose_validation(alike[-1].against, pairs, names), pivots=pivots)


def choose_english(context: TrainingContext, data: TrainingData) -> Validation:
    """Choose texts to measure what English loses: those of the validation rows or, without any, the gallery's."""
    rows = [row for row in data.rows if row.split == "val" and row.english is not None]
    if not rows:
        return choose_gallery_english(context)
    if has_mostly_pictures(rows):
        described = [(row.english or "", row.picture) for row in rows if row.picture is not None]
        return choose_validation("pictures", described, context.gallery.list_ids())
    known = {row.english for row in data.rows if row.english is not None}
    return choose_validation("english", [(row.english or "", row.english or "") for row in rows], known)


def choose_gallery_english(context: TrainingContext) -> Validation:
    """Choose English captions of the gallery, to be ranked against its pictures."""
    pictures = nsmallest(2 * MAX_CAPTIONS, context.gallery.list_captioned("en", ()), key=_hash)
    captions = context.gallery.group_captions(pictures, ["en"])
    described = [(text, picture) for picture, by_tag in captions.items() for text in by_tag.get("en", ())]
    return choose_validation("pictures", described, context.gallery.list_ids())


def _choose_own_rows(context: TrainingContext, data: TrainingData) -> Validation:
    rows = [row for row in data.own_rows if row.split == "val"]
    if not rows:  # a few rows beside earlier datasets
        return Validation("english", [], [], [])
    if has_mostly_pictures(rows):
        described = [(row.caption, row.picture) for row in rows if row.picture is not None]
        return choose_validation("pictures", described, context.gallery.list_ids())
    languages = {row.pivot.language for row in data.rows if row.pivot is not None}
    against: CandidateKind = "english" if languages == {ENGLISH} else "pivots"
    is_of_words = context.attempt.expansion.is_of_words or data.report.format == SHEET
    is_of_words |= sum(row.is_word for row in rows) >= _MOSTLY_WORDS * len(rows)  # as a list for a class
    return _choose_pairs(data, rows, "words" if is_of_words else against)


def choose_taught(data: TrainingData) -> Validation:
    """Choose captions that the proof was taught with a text, to be ranked against the texts of all rows."""
    return _choose_pairs(data, data.proof_rows, "words")


def _choose_pairs(data: TrainingData, rows: Sequence[Row], against: CandidateKind) -> Validation:
    names = {_name_pivot(row.pivot) for row in data.rows if row.pivot is not None}
    paired = [(row.caption, _name_pivot(row.pivot)) for row in rows if row.pivot is not None]
    return replace(choose_validation(against, paired, names), pivots=dict(data.pivot_versions))


def choose_validation(against: CandidateKind, pairs: Pairs, names: Collection[str]) -> Validation:
    """Choose captions with their targets, and others among `names`, by hash: the order in the file does not matter."""
    unique = sorted(dict.fromkeys(pairs), key=lambda pair: _hash("\0".join(pair)))[:MAX_CAPTIONS]
    captions, targets = [caption for caption, _ in unique], [target for _, target in unique]
    others = sorted(set(names) - set(targets), key=_hash)[: max(0, MAX_CANDIDATES - len(set(targets)))]
    return Validation(against, captions, targets, others)


def encode_candidates(context: TrainingContext, data: TrainingData | None, validation: Validation) -> CandidateSet:
    """Encode the set's targets and others, except deleted pictures; takes the features that `data` has."""
    names = list(dict.fromkeys([*validation.targets, *validation.others]))
    if validation.against == "pictures":
        by_id = ensure_picture_vectors(context.encoder, context.gallery, names)
        vectors = np.stack([*by_id.values()]) if by_id else np.empty((0, context.encoder.dimension), dtype=np.float32)
        return CandidateSet({name: place for place, name in enumerate(by_id)}, vectors)
    own: dict[str, int] = {}
    foreign: dict[str, tuple[View, str]] = {}
    readers = _open_readers(context, validation, {_parse_pivot(name).language for name in names})
    for name in names:
        language, text = _parse_pivot(name)
        place = None if data is None else data.pivot_places.get(Pivot(language, text))
        if (
            data is not None
            and place is not None
            and data.pivot_versions[language] == validation.pivots.get(language, context.base_version)
        ):
            own[name] = place
        elif language in readers:
            foreign[name] = (readers[language], text)
    vectors = encode_texts(context, [*foreign.values()]).vectors
    if data is not None:
        features = torch.nn.functional.normalize(data.features, dim=-1).numpy()  # of the dataset's own texts
        vectors = np.concatenate([vectors, features[[*own.values()]]])
    return CandidateSet({name: place for place, name in enumerate((*foreign, *own))}, vectors)


def _open_readers(context: TrainingContext, validation: Validation, languages: Collection[str]) -> dict[str, View]:
    """Open the view that reads pivots in each of these languages: of the version that did when the set was chosen.

    If that is pruned, damaged or of another base, it is the version that serves the language now, or else a base that
    reads it untaught. A language that nothing reads is missing in the answer.
    """
    served, readers = context.served_versions, dict[str, View]()
    for language in languages:
        built_in = context.base_version if can_read(context.encoder.languages, language) else None
        for version in (validation.pivots.get(language, context.base_version), served.get(language), built_in):
            if language not in readers and version is not None:
                with suppress(VersionCorrupt):
                    readers[language] = context.views.open(version)
    return readers


def _name_pivot(pivot: Pivot) -> str:
    """Write a pivot as one text: English as it is; another one behind its language. A clean text has no tab."""
    return pivot.text if pivot.language == ENGLISH else f"{pivot.language}\t{pivot.text}"


def _parse_pivot(name: str) -> Pivot:
    language, _, text = name.rpartition("\t")
    return Pivot(language or ENGLISH, text)


def encode_texts(context: TrainingContext, items: Sequence[tuple[View, str]]) -> EncodedTexts:
    """Encode texts, and look before each batch whether to stop: a large tower takes a second for one."""
    parts = []
    for start in range(0, max(1, len(items)), _BATCH_SIZE):
        context.attempt.check_stop()
        parts.append(context.encoder.encode_texts(items[start : start + _BATCH_SIZE]))
    return EncodedTexts(
        np.concatenate([part.vectors for part in parts]),
        [cut for part in parts for cut in part.truncated],
        [count for part in parts for count in part.tokens],
    )


def _hash(name: str) -> bytes:
    return sha256(name.encode()).digest()


@dataclass(frozen=True)
class HeldOut:
    """What a version's proof makes of held-out captions: what serves has been taught them, and tells nothing."""

    pairs: list[tuple[str, str]]  # picture and text
    vectors: Matrix  # unit vectors (n, dimension) of these texts
    texts: Matrix  # of captions (m, dimension) beside other texts
    meanings: Matrix  # and of those (m, dimension)

    def dump(self) -> bytes:
        tensors = {name: torch.from_numpy(getattr(self, name)) for name in ("vectors", "texts", "meanings")}
        return save(tensors, {"pairs": json.dumps(self.pairs)})

    @staticmethod
    def read(path: Path) -> "HeldOut":
        with safe_open(path, "np") as file:
            pairs = [(picture, text) for picture, text in json.loads(file.metadata()["pairs"])]
            return HeldOut(pairs, *map(file.get_tensor, ("vectors", "texts", "meanings")))


def encode_held_out(context: TrainingContext, view: View, expansions: Sequence[str], proof: Sequence[Row]) -> HeldOut:
    """Encode what the datasets of these expansions hold out, by the `view` of a proof, which was taught these rows.

    Of single words a proof was not taught it knows nothing. Where no other text is held out, captions of the gallery
    are, as the words that it was taught render them.
    """
    pairs, words, rendered = list[tuple[str, str]](), list[str](), list[tuple[str, NDArray[np.float32]]]()
    for validation in load_validations(context.attempt.root, expansions):
        if validation.against == "pictures":
            pairs += zip(validation.targets, validation.captions, strict=True)
        elif validation.against == "words":
            words += validation.captions
        else:
            among = encode_candidates(context, None, replace(validation, others=[]))
            paired = zip(validation.captions, validation.targets, strict=True)
            rendered += [
                (text, among.vectors[among.places[target]]) for text, target in paired if target in among.places
            ]
    if words and proof and len(rendered) < LEAST_CAPTIONS and len(pairs) < LEAST_CAPTIONS:
        english = choose_gallery_english(context).captions
        goals = encode_texts(context, [(context.encoder.base_view, text) for text in english]).vectors
        rendered += [
            (text, meaning) for text, meaning in zip(Glosser(proof, words).render(english), goals, strict=True) if text
        ]
    texts = [text for text, _ in rendered]
    meanings = np.array([vector for _, vector in rendered], np.float32).reshape(-1, context.encoder.dimension)
    vectors, of_texts = (
        encode_texts(context, [(view, text) for text in some]).vectors for some in ([text for _, text in pairs], texts)
    )
    return HeldOut(pairs, vectors, of_texts, meanings)


class Glosser:
    """A reader of English captions in another language, word by word, as someone would who has its dictionary.

    What the dictionary lacks, somebody says in words that were not taught: one of the `unknown` stands for it.
    """

    def __init__(self, rows: Iterable[Row], unknown: Sequence[str]) -> None:
        self._captions, self._unknown = dict[str, list[str]](), unknown
        for row in rows:
            if row.english is not None:
                self._captions.setdefault(row.english.lower(), []).append(row.caption)
        self._blank = " " if is_spaced(chain(*self._captions.values())) else ""

    def render(self, captions: Sequence[str]) -> list[str]:
        """Return each of the English captions in the language; empty ones where nothing is known of English."""
        draw = random.Random(0)
        if not self._captions:
            return ["" for _ in captions]
        return [self._blank.join(self._render_words(re.findall(r"[\w'-]+", text.lower()), draw)) for text in captions]

    def _render_words(self, words: Sequence[str], draw: random.Random) -> Iterator[str]:
        place = 0
        while place < len(words):
            for end in range(min(place + _LONGEST_ENTRY, len(words)), place, -1):
                if found := self._find(" ".join(words[place:end])):
                    yield draw.choice(found)
                    break
            else:
                end = place + 1
                if len(words[place]) >= _SHORT:
                    yield draw.choice(self._unknown)
            place = end

    def _find(self, english: str) -> list[str]:
        """Find the captions of a word, or of what it is a form of."""
        forms = [english, *(english.removesuffix(ending) for ending in ("s", "es", "ed", "ing"))]
        return next((self._captions[form] for form in forms if form in self._captions), [])
