"""What every English noun looks like, in terms of ImageNet's classes: weights over the classifier's 1,000 rows.

A class is its own row; a hypernym is the mean of the classes below it. Any other noun is a mixture of the classes that
it resembles, by common ancestors in WordNet and by the words of its gloss. The source is README.md's design; what the
numbers are was chosen on the development half of `benchmarks.stamps`.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demo.photos.packages import Packages
from demo.photos.wordnet import PERSON, PHYSICAL, WordNet

Weights = NDArray[np.float32]
CLASSES = 1000
BY_ANCESTORS = 0.2  # share of a mixture; the rest is by the words of the gloss
NEAREST = 8  # classes whose words are nearest to a gloss
STEP = 0.5  # an ancestor that is one step further up counts less by exp(-STEP)
_IS_CLASS, _HAS_CLASSES, _ABSTRACT, _PERSON = 10.0, 5.0, 0.05, 0.3  # by which a sense counts more or less
_LEAST = 0.02  # share below which a sense of a word is left out


@dataclass(frozen=True)
class ImageNetClass:
    """One of the 1,000 classes: its number in WordNet, its names, how it looks, and what it must not be taken for."""

    synset: int
    names: tuple[str, ...]
    description: str
    guidelines: str


def read_classes(packages: Packages) -> list[ImageNetClass]:
    """Read the classes in the order of the classifier's rows. 25 have no description."""
    synsets, names, data = (
        json.loads(path.read_text()) for path in (packages.synsets, packages.names, packages.descriptions)
    )
    about = [data.get(str(row), {}) for row in range(CLASSES)]
    return [
        ImageNetClass(
            int(synsets[str(row)][1:]),
            tuple(dict.fromkeys((*names[str(row)].split(", "), *text.get("name", ())))),
            text.get("description") or "",
            text.get("guidelines") or "",
        )
        for row, text in enumerate(about)
    ]


class Concepts:
    """The weights of every noun; computed when first asked for."""

    def __init__(self, wordnet: WordNet, known: Sequence[ImageNetClass]) -> None:
        self._wordnet = wordnet
        self.row = {each.synset: row for row, each in enumerate(known)}
        self.below: dict[int, list[int]] = {}
        for row, each in enumerate(known):
            for above in wordnet.list_ancestors(each.synset):
                self.below.setdefault(above, []).append(row)
        glosses = {number: _count_words(synset.gloss) for number, synset in wordnet.synsets.items()}
        about = [
            _count_words(" ".join((*each.names, each.description, each.guidelines, wordnet.synsets[each.synset].gloss)))
            for each in known
        ]
        self._glosses = glosses
        self._resemblance = _Resemblance(about, glosses.values())
        self._kept: dict[int, Weights] = {}

    def weigh_synset(self, number: int) -> Weights:
        """Return weights (1,000), which are not negative and sum to 1."""
        if number not in self._kept:
            self._kept[number] = self._compute_weights(number)
        return self._kept[number]

    def list_senses(self, lemma: str) -> list[tuple[float, int]]:
        """Return the senses of a lemma that a picture may show, each with its share."""
        senses = self._wordnet.senses[lemma]
        likely = np.array(
            [self._estimate_share(number, count + 1 / (1 + place)) for place, (number, count) in enumerate(senses)]
        )
        likely /= likely.sum()
        return [(float(share), number) for share, (number, _) in zip(likely, senses, strict=True) if share > _LEAST]

    def _estimate_share(self, number: int, count: float) -> float:
        above = self._wordnet.list_ancestors(number)
        if number in self.row:
            return count * _IS_CLASS
        if number in self.below:
            return count * _HAS_CLASSES
        if PHYSICAL not in above:
            return count * _ABSTRACT
        return count * (_PERSON if PERSON in above else 1)

    def _compute_weights(self, number: int) -> Weights:
        weights = np.zeros(CLASSES, dtype=np.float32)
        if number in self.row:
            weights[self.row[number]] = 1
            return weights
        if number in self.below:
            weights[self.below[number]] = 1 / len(self.below[number])
            return weights
        for above, steps in self._wordnet.measure_distances(number).items():
            if rows := self.below.get(above):
                weights[rows] += math.exp(-STEP * steps) * math.log(CLASSES / len(rows)) / len(rows)
        like = self._resemblance(_count_words(" ".join(self._wordnet.synsets[number].words)) + self._glosses[number])
        nearest = np.zeros_like(weights)
        best = np.argsort(-like)[:NEAREST]
        nearest[best] = like[best] ** 2
        return BY_ANCESTORS * _to_one(weights) + (1 - BY_ANCESTORS) * _to_one(nearest)


class _Resemblance:
    """Cosines of TF-IDF vectors between a text and each class's."""

    def __init__(self, about: Sequence[Counter[str]], others: Sequence[Counter[str]] | object) -> None:
        texts = [*about, *others]  # type: ignore[misc]
        met = Counter(word for text in texts for word in text)
        self._place = {word: place for place, word in enumerate({word: 0 for text in about for word in text})}
        self._rarity = np.array([math.log(len(texts) / met[word]) for word in self._place], dtype=np.float32)
        self._about = np.zeros((len(self._place), len(about)), dtype=np.float32)
        for row, text in enumerate(about):
            places, values = self._build_vector(text)
            self._about[places, row] = values

    def __call__(self, text: Counter[str]) -> NDArray[np.float32]:
        places, values = self._build_vector(text)
        cosines: NDArray[np.float32] = values @ self._about[places]
        return cosines

    def _build_vector(self, text: Mapping[str, int]) -> tuple[list[int], NDArray[np.float32]]:
        """Return places and values of what is not zero, of unit length."""
        places = [self._place[word] for word in text if word in self._place]
        counts = np.array([text[word] for word in text if word in self._place], dtype=np.float32)
        values = (1 + np.log(counts)) * self._rarity[places]
        return places, values / max(float(np.linalg.norm(values)), 1e-9)


def _count_words(text: str) -> Counter[str]:
    return Counter(_stem_word(word) for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 2)


def _stem_word(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) > 3:
            return word.removesuffix(ending)
    return word


def _to_one(weights: Weights) -> Weights:
    total = float(weights.sum())
    return weights / total if total else weights
