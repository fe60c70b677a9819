"""Draws what the text tower learns from: English phrases around nouns, and glosses, each with what it points at."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random

from demo.photos.concepts import Concepts, ImageNetClass
from demo.photos.packages import Packages
from demo.photos.wordnet import PERSON, PHYSICAL, WordNet, count_words
from model.tokenizer import Tokenizer

# What share of the examples is about
_KNOWN, _DRAWN, _GLOSSES, _ANY = 0.3, 0.15, 0.12, 0.05  # a class or hypernym; an emoji; a gloss; any noun
_ADJECTIVES, _COUNT = 0.35, 3  # share of phrases with a word before the noun; uses from which it is common
_PLURALS, _TAILS, _COMPOUNDS, _BARE = 0.15, 0.15, 0.08, 0.3
_HEAD, _OTHER = 2.0, 1.0  # what the head of a phrase counts, and what another noun does
_WHOLE, _FEWER_PEOPLE = 3.0, 0.8  # CLIP's tokens were learned from captions: what they have whole is common there
_TOO_MANY = 150  # a hypernym of more classes than this is no thing that one could show
_FRAMES = (
    "a {}", "a {}.", "A {}.", "the {}", "The {}.", "one {}", "this is a {}", "a photo of a {}", "a picture of a {}",
    "look at this {}!", "a {} on a white background", "my {}", "some {}", "{}!", "a {} seen from the side",
    "I like this {}", "there is a {} here", "an old photograph of a {}",
)  # fmt: skip
_LINKS = ("with", "of", "in", "on", "and", "for", "from", "near", "beside", "made of")
_MEASURES = ("pair", "bunch", "piece", "slice", "head", "couple", "group", "lot", "set", "kind", "stack", "drawing")
_COLOURS = (
    "red", "green", "blue", "yellow", "white", "black", "brown", "orange", "pink", "purple", "grey", "gray", "golden",
    "silver", "big", "small", "little", "large", "old", "new", "young", "long", "wooden", "colorful", "two", "three",
)  # fmt: skip
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")


Points = Sequence[tuple[float, int | str]]  # synsets and words, with what each counts


@dataclass(frozen=True)
class Phrase:
    """A text, and what it points at."""

    text: str
    points: Points


class Phrases:
    """Examples number `step` depend only on the seed and `step`, so that a resumed training sees the same ones."""

    def __init__(
        self,
        packages: Packages,
        wordnet: WordNet,
        concepts: Concepts,
        known: Sequence[ImageNetClass],
        drawn: Sequence[str],
        seed: int,
    ) -> None:
        """`drawn` are the words of emoji."""
        self._wordnet, self._concepts, self._seed = wordnet, concepts, seed
        self._drawn = sorted(drawn)
        shown = {number for number, rows in concepts.below.items() if len(rows) < _TOO_MANY}
        named = [(lemma, number) for lemma, senses in wordnet.senses.items() for number, _ in senses if number in shown]
        self._named = [(lemma, ((1.0, number),)) for lemma, number in named]
        for each in known:
            self._named += [(name.lower(), ((1.0, each.synset),)) for name in each.names for _ in range(2)]
        self._common = [lemma for lemma, senses in wordnet.senses.items() if self._is_physical(senses)]
        tokens = Tokenizer().encode(self._common)
        whole = [len(ids) == len(lemma.split()) for lemma, ids in zip(self._common, tokens, strict=True)]
        self._sums = [*accumulate(self._rate_commonness(*each) for each in zip(self._common, whole, strict=True))]
        self._all = [*wordnet.senses]
        self._glossed = [number for number in wordnet.synsets if PHYSICAL in wordnet.list_ancestors(number)]
        self._glossed += [each.synset for each in known] * 20
        self._told = {each.synset: re.split(r"(?<=[.;]) ", each.description) for each in known if each.description}
        self._adjectives = sorted(word for word, count in count_words(packages, "35").items() if count >= _COUNT)
        self._adjectives += [
            f"{word.removesuffix('e')}ing" for word, n in count_words(packages, "2").items() if n >= 20
        ]

    def list_common(self, count: int) -> list[tuple[str, Points, float]]:
        """List names of classes and hypernyms, and the `count` commonest other nouns, with points and commonness."""
        weights = [after - before for before, after in pairwise((0.0, *self._sums))]
        best = sorted(range(len(weights)), key=lambda place: -weights[place])[:count]
        others = [(self._common[place], ((1.0, self._common[place]),), weights[place]) for place in best]
        return [*((name, points, _WHOLE) for name, points in self._named), *others]

    def draw(self, step: int, size: int) -> list[Phrase]:
        """Return the examples of one step."""
        random = Random(f"{self._seed} {step}")
        return [self._make_phrase(random) for _ in range(size)]

    def _is_physical(self, senses: Sequence[tuple[int, int]]) -> bool:
        return any(PHYSICAL in self._wordnet.list_ancestors(number) for number, _ in senses)

    def _rate_commonness(self, lemma: str, whole: bool) -> float:
        """Return how often to draw a noun: by its count in WordNet, and if CLIP's tokens have its words `whole`."""
        senses = self._wordnet.senses[lemma]
        weight = 0.1 + math.sqrt(sum(count for _, count in senses)) + _WHOLE * whole
        people = sum(
            share
            for share, number in self._concepts.list_senses(lemma)
            if PERSON in self._wordnet.list_ancestors(number)
        )
        return weight * (1 - _FEWER_PEOPLE * people)

    def _make_phrase(self, random: Random) -> Phrase:
        if random.random() < _GLOSSES:
            number = random.choice(self._glossed)
            parts = [self._wordnet.synsets[number].gloss.split("; ")[0], *self._told.get(number, ())]
            return Phrase(random.choice(parts)[:160], ((1.0, number),))
        noun, points = self._choose_noun(random)
        text = self._wordnet.make_plural(noun) if random.random() < _PLURALS else noun
        others: list[tuple[float, int | str]] = []
        if random.random() < _COMPOUNDS:
            other, more = self._choose_noun(random)
            text, others = f"{other} {text}", [*more]
        if random.random() < _ADJECTIVES:
            words = _COLOURS if random.random() < 0.5 else self._adjectives
            text = " ".join([random.choice(words), *([random.choice(_COLOURS)] if random.random() < 0.2 else []), text])
        if random.random() < _TAILS:
            other, more = self._choose_noun(random)
            if random.random() < 0.3:
                text = f"{random.choice(_MEASURES)} of {text}"
            else:
                text = f"{text} {random.choice(_LINKS)} {random.choice(('a ', 'the ', ''))}{other}"
                others += more
        framed = text if random.random() < _BARE else random.choice(_FRAMES).format(text)
        weighted = [(_HEAD * share, number) for share, number in points]
        weighted += [(_OTHER * share, number) for share, number in others]
        return Phrase(_ARTICLE.sub(r"\1n ", framed), tuple(weighted))

    def _choose_noun(self, random: Random) -> tuple[str, Points]:
        kind = random.random()
        if kind > 1 - _DRAWN:
            word = random.choice(self._drawn)
            return word, ((1.0, word),)
        if kind < _KNOWN:
            lemma, points = random.choice(self._named)
            return (lemma, ((1.0, lemma),)) if lemma in self._wordnet.senses else (lemma, points)
        if kind < _KNOWN + _ANY:
            lemma = random.choice(self._all)
        else:
            lemma = random.choices(self._common, cum_weights=self._sums)[0]
        return lemma, ((1.0, lemma),)
