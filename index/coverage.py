"""Which words name what a gallery shows: the words nearest to its pictures, how far some reach, which to ask for.

No caption is needed. A word names a picture if it is among the nearest to it and stands out there: one that is as near
to every picture names none. Nearness is counted from what the word scores on average, or a few would be near to all.

The words are those of Unicode's names of pictographs, those of ImageNet's classes, and frequent words of CLIP's
vocabulary that have a plural there: most of these are things. Each has a weight: how likely it can be seen. A gallery
or a dataset adds words of its own.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from cachetools import LRUCache
from numpy.typing import NDArray
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from index.gallery import Gallery
from index.records import Collections
from index.vectors import Vector
from model.checkpoint import CachedResult, load_result, save_result
from model.dataset.formats import RawRecord, RowFault, read_entries, read_records
from model.encoder import Encoder, Vectors
from model.tokenizer import SUFFIX, read_clip_merges
from store.data_root import DataRoot
from store.expansions import Expansion

FOLDER = "words"  # under the data root
MOST_ADDED = 5_000  # words of a gallery and of datasets
_FREQUENT = 16_000  # merges of CLIP's that are looked at; behind them are mostly names of people and places
_LESS = 0.5  # weight of CLIP's words: on 570 photographs, half of those asked at a weight of 1 named nothing to be seen
_WORDS_AT_ONCE = 256  # words that are encoded at a time
_WORD = re.compile(r"[a-z]{3,30}")
_PICTOGRAPHS = (range(0x1F300, 0x1F650), range(0x1F680, 0x1F700), range(0x1F900, 0x1FB00))
_PLURALS = ((r"([^aeiou])ies$", r"\1y"), (r"(ch|sh|ss|x|z)es$", r"\1"), (r"([^sui])s$", r"\1"))
_ALWAYS_PLURAL = {
    *("binoculars", "glasses", "goggles", "jeans", "lens", "pants", "scissors"),
    *("series", "shorts", "species", "trousers"),
}
_UNSEEN = {
    *("and", "are", "for", "from", "has", "have", "her", "his", "its", "may", "non", "not", "off", "one", "other"),
    *("our", "out", "over", "right", "she", "that", "the", "their", "them", "there", "they", "this", "under", "was"),
    *("what", "with", "without", "you", "your"),
}
NEAREST = 8  # words of a picture
MOST_PICTURES = 10_000  # that are looked at, chosen by the hash of their content
SHOWN = 3  # pictures beside a word
_STANDS_OUT = 2.5  # standard deviations above what the word scores on average
_OF_MOST = 0.5  # of a few pictures, less: so much of what one of them can stand out at most
_PRIOR = 8  # pictures, beside which the average of a few counts little
_AGAIN = 0.5  # what a further word of the same picture is worth
_PICTURES_AT_ONCE = 500  # pictures at a time


def find_words(texts: Iterable[str]) -> Iterator[str]:
    """Yield the English words of texts, in lower case, without those of one or two letters and those of no thing."""
    words = chain.from_iterable(_WORD.findall(text.lower()) for text in texts)
    return (word for word in words if word not in _UNSEEN)


def read_pivot_texts(path: Path, language: str, *, dictionary: bool = False) -> Iterator[str]:
    """Yield what stands beside the captions of a file that was accepted as a dataset, or dictionary, as it is there."""
    for entry in read_entries(path) if dictionary else ():
        if not isinstance(entry, RowFault) and isinstance(entry.glosses, list):
            yield from (text for text in entry.glosses if isinstance(text, str))
    for record in () if dictionary else read_records(path, language=language)[1]:
        if isinstance(record, RawRecord):
            texts = [record.english, *(pivot.get("text") for pivot in record.pivots if isinstance(pivot, dict))]
            yield from (text for text in texts if isinstance(text, str))


def find_stem(word: str) -> str:
    """Return an English noun without the ending of its plural: it is asked once, and known in both forms."""
    for ending, stem in () if word in _ALWAYS_PLURAL else _PLURALS:
        if (singular := re.sub(ending, stem, word)) != word:
            return singular
    return word


@cache
def weigh_common_words() -> dict[str, float]:
    """Return the words of every base with their weights, 0 to 1."""
    ends = (left + right.removesuffix(SUFFIX) for left, right in read_clip_merges() if right.endswith(SUFFIX))
    whole = {word: rank for rank, word in enumerate(ends) if _WORD.fullmatch(word)}
    plurals = (word for word in whole if (stem := find_stem(word)) != word and whole.get(stem, _FREQUENT) < _FREQUENT)
    nouns = (find_stem(word) for word in plurals if not find_stem(word).endswith(("ing", "ed", "ly")))
    names = (unicodedata.name(chr(code), "") for codes in _PICTOGRAPHS for code in codes)
    seen = dict.fromkeys(find_words([*names, *IMAGENET_CLASSNAMES]), 1.0)
    return {**dict.fromkeys(find_words(nouns), _LESS), **seen}


class Vocabulary:
    """The words of one base and their vectors: each is encoded once, and the common ones are kept in a folder."""

    def __init__(self, encoder: Encoder, home: Path) -> None:
        self._encoder, self._folder = encoder, home / FOLDER
        self._added = LRUCache[str, Vectors](2 * MOST_ADDED)
        self._parts = list[Vectors]()  # of the common words, until all are encoded

    def read(self, added: Iterable[str], check: Callable[[], None]) -> tuple[dict[str, float], Vectors]:
        """Return the common words and those that are `added`, with weights, and their unit vectors (count, dimension).

        `check` runs before each part that is encoded; if it raises, the next call goes on from there.
        """
        words = weigh_common_words()
        more = [word for word in dict.fromkeys(added) if word not in words][:MOST_ADDED]
        vectors = self._read_common([*words], check)
        missing = [word for word in more if word not in self._added]
        for start in range(0, len(missing), _WORDS_AT_ONCE):
            check()
            part = missing[start : start + _WORDS_AT_ONCE]
            self._added.update(zip(part, self._encode(part), strict=True))
        return words | dict.fromkeys(more, 1.0), np.vstack([vectors, *(self._added[word] for word in more)])

    def _read_common(self, words: Sequence[str], check: Callable[[], None]) -> Vectors:
        key = [self._encoder.text_fingerprint, words]
        if (kept := load_result(self._folder, key)) is not None:
            return kept.tensors["vectors"].float().numpy()
        for start in range(_WORDS_AT_ONCE * len(self._parts), len(words), _WORDS_AT_ONCE):
            check()
            self._parts.append(self._encode(words[start : start + _WORDS_AT_ONCE]))
        vectors = np.concatenate(self._parts)
        save_result(self._folder, key, CachedResult({"vectors": torch.from_numpy(vectors).half()}))
        self._parts = []
        return vectors

    def _encode(self, words: Sequence[str]) -> Vectors:
        return self._encoder.encode_texts([(self._encoder.base_view, word) for word in words]).vectors


@dataclass(frozen=True)
class ChosenWord:
    """A word to ask for, and the pictures that it names best."""

    english: str
    pictures: Sequence[str]


@dataclass(frozen=True)
class NearestWords:
    """The words nearest to each of n pictures: their `places` (n, `NEAREST`) among all `words`, which have weights.

    `z` (n, `NEAREST`) tells how far each stands out, in standard deviations.
    """

    words: Mapping[str, float]
    pictures: Sequence[str]
    places: NDArray[np.int64]
    z: NDArray[np.float32]

    @cached_property
    def _stems(self) -> dict[str, int]:
        """The stems of all words, numbered."""
        return {stem: number for number, stem in enumerate(dict.fromkeys(map(find_stem, self.words)))}

    @cached_property
    def _named(self) -> NDArray[np.int64]:
        """The numbers of the stems that name each picture (n, `NEAREST`), -1 where a word does not stand out."""
        numbers, count = np.array([self._stems[find_stem(word)] for word in self.words]), len(self.pictures)
        least = min(_STANDS_OUT, _OF_MOST * (count - 1) / max(count, 1) ** 0.5)
        return np.where(self.z >= least, numbers[self.places], -1)

    def measure_covered(self, known: Collection[str]) -> float | None:
        """Return the share of the pictures that a word with one of these `known` stems names; None of no pictures."""
        return float(self._mark(known).any(axis=1).mean()) if self.pictures else None

    def choose(self, count: int, known: Collection[str], answered: Collection[str]) -> list[ChosenWord]:
        """Choose words that name most of the pictures with no or few `known` ones, one after another.

        Neither these are chosen nor those that were `answered`; both are stems.
        """
        stems, chosen, likely = [*self._stems], list[ChosenWord](), np.zeros(len(self._stems))
        words = {find_stem(word): word for word in self.words} | {word: word for word in self.words}
        for word, weight in self.words.items():
            likely[self._stems[find_stem(word)]] = weight
        worth, is_open = _AGAIN ** self._mark(known).sum(axis=1), (self._named >= 0) & ~self._mark({*known, *answered})
        while len(chosen) < count and is_open.any():
            rows, columns = np.nonzero(is_open)
            gains = likely * np.bincount(self._named[rows, columns], worth[rows], len(stems))
            here = is_open & (self._named == int(gains.argmax()))
            chosen.append(ChosenWord(words[stems[int(gains.argmax())]], self._list_best(here)))
            worth[here.any(axis=1)] *= _AGAIN
            is_open &= ~here
        return chosen

    def _mark(self, stems: Collection[str]) -> NDArray[np.bool_]:
        """Mark what of `_named` has one of these stems (n, `NEAREST`)."""
        return np.isin(self._named, [self._stems[stem] for stem in stems if stem in self._stems])

    def _list_best(self, marks: NDArray[np.bool_]) -> list[str]:
        """List the pictures where a marked word stands out most, each of a few."""
        best = np.where(marks, self.z, -np.inf).max(axis=1)
        order = np.argsort(-best, kind="stable")[:SHOWN]
        return [self.pictures[row] for row in order.tolist() if np.isfinite(best[row])]


def find_taught_stems(root: DataRoot, expansions: Iterable[Expansion]) -> frozenset[str]:
    """Find the stems of the English words beside which a language was taught by these expansions."""
    stems = set[str]()
    for each in expansions:
        if (path := root.open(each.dataset_path or "")).is_file():
            texts = read_pivot_texts(path, each.language, dictionary="pivot" in each.settings)
            stems.update(map(find_stem, find_words(texts)))
    return frozenset(stems)


def find_nearest_words(
    gallery: Gallery,
    fingerprint: str,
    vocabulary: Vocabulary,
    added: Iterable[str],
    collections: Collections = None,
    check: Callable[[], None] = lambda: None,
) -> NearestWords:
    """Find the words nearest to the pictures, or to those in some collections; `fingerprint` is of the image tower.

    Words of their own English captions may be among them, and `added` ones. `check` runs between two parts of the work.
    """
    vectors = _sample_pictures(gallery, fingerprint, collections, check)
    ids = [*vectors]
    parts = [
        gallery.find_own_captions(ids[start : start + _PICTURES_AT_ONCE], collections)
        for start in range(0, len(ids), _PICTURES_AT_ONCE)
    ]
    captions = (text for part in parts for by_tag in part.values() for text in by_tag.get("en", ()))
    words, matrix = vocabulary.read(chain(added, find_words(captions)), check)
    return rank_words(words, matrix, vectors, check)


def rank_words(
    words: Mapping[str, float],
    matrix: NDArray[np.float32],
    vectors: Mapping[str, Vector],
    check: Callable[[], None] = lambda: None,
) -> NearestWords:
    """Find the words nearest to pictures, by the unit vectors of both; those of `words` are the `matrix`."""
    ids = [*vectors]
    if not ids:
        return NearestWords(words, (), np.empty((0, NEAREST), dtype=np.int64), np.empty((0, NEAREST), dtype=np.float32))
    pictures = np.stack([*vectors.values()])
    mean = matrix @ pictures.mean(axis=0)
    deviation = np.sqrt(np.maximum(((matrix @ np.cov(pictures.T, bias=True)) * matrix).sum(axis=1), 1e-12))
    places, z = [], []
    for start in range(0, len(ids), _PICTURES_AT_ONCE):
        check()
        scores = pictures[start : start + _PICTURES_AT_ONCE] @ matrix.T
        above = scores - mean * (len(ids) / (len(ids) + _PRIOR))
        nearest = np.argpartition(-above, NEAREST, axis=1)[:, :NEAREST]
        places.append(nearest)
        z.append((np.take_along_axis(scores, nearest, axis=1) - mean[nearest]) / deviation[nearest])
    return NearestWords(words, ids, np.concatenate(places), np.concatenate(z).astype(np.float32))


def _sample_pictures(
    gallery: Gallery, fingerprint: str, collections: Collections, check: Callable[[], None]
) -> dict[str, Vector]:
    vectors = dict[str, Vector]()
    for part in gallery.sample_vectors(1.0, fingerprint, collections):
        check()
        vectors.update(part)
        if len(vectors) >= MOST_PICTURES:
            break
    return vectors
