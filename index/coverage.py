"""Which words name what a gallery shows: the words nearest to its pictures, how far some reach, which to ask for.

No caption is needed. A word names a picture if it is among the nearest to it and stands out there: one that is as near
to every picture names none. Nearness is counted from what the word scores on average, or a few would be near to all.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from index.gallery import Gallery
from index.records import Collections
from index.vectors import Vector
from model.vocabulary import Vocabulary, find_stem, find_words, read_pivot_texts
from store.data_root import DataRoot
from store.expansions import Expansion

NEAREST = 8  # words of a picture
MOST_PICTURES = 10_000  # that are looked at, chosen by the hash of their content
SHOWN = 3  # pictures beside a word
_STANDS_OUT = 2.5  # standard deviations above what the word scores on average
_OF_MOST = 0.5  # of a few pictures, less: so much of what one of them can stand out at most
_PRIOR = 8  # pictures, beside which the average of a few counts little
_AGAIN = 0.5  # what a further word of the same picture is worth
_PART = 500  # pictures at a time


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
    parts = [gallery.find_own_captions(ids[start : start + _PART], collections) for start in range(0, len(ids), _PART)]
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
    for start in range(0, len(ids), _PART):
        check()
        scores = pictures[start : start + _PART] @ matrix.T
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
