"""What is known of a language's words: those that it was taught, what may be meant by others, and its n-grams.

What nobody taught says nothing of the language, and a text with it is found worse than without it. So an unknown word
is read as a known word that has other marks on its letters, or that clitics are written before; as the two known words
that it is made of; as another form of a known word; or as the known word that it ends or begins with. Any other is left
out (decision 55 has the figures). Scripts that put no spaces between words are read as they are.

For words that nobody knows, known ones are suggested: by trigrams, then by how many letters were mistaken.

Languages are detected by character n-grams of each language's own captions. Counts are additive and kept per language,
so adding one language changes nothing of another; it works for languages that no package for language identification
knows. It says so when it is unsure.
"""

import gzip
import math
import unicodedata
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import regex
from cachetools import LRUCache

from model.text import APOSTROPHES, WORD, extract_query_terms, find_words, fold_apostrophes

if TYPE_CHECKING:
    from model.encoder import View

MOST_WORDS = 100_000  # of a language, the most frequent: 10 MB of memory
_ENDING = 3  # letters, at most, by which forms of one word differ at their ends
_STEM = 4  # letters, at least, that they have in common
_PART = 3  # letters, at least, of a part of a compound
_LINK = 4  # letters above which the first part may have one more than the known word: German and Swedish join by an s
_CORE = 4  # letters, at least, of a known word that an unknown one ends or begins with
# Letters by which Arabic and Hebrew write "and", "in", "to", "the" in one with the next word, of which three stay
_CLITICS, _MOST_CLITICS, _BEHIND_CLITICS = ("وفبكلا", "ושכלבמה"), 4, 3
_LONGEST = 64  # letters of a word that is looked at
# Accents, stress and vowel marks, which people leave out; in other scripts marks are vowels like letters
_MARKS = regex.compile(r"(?<=[\p{Latin}\p{Greek}\p{Cyrillic}\p{Arabic}\p{Hebrew}])\p{Mn}+")
_LONGEST_NGRAM = 4  # characters an n-gram; words count too, as the best evidence in short texts
_OVERLAP = 8.0  # n-grams share characters: evidence is divided by this, which calibrates the probability
_SMOOTHING = 0.05  # added to every count, as for MOST_NGRAMS different n-grams: a small corpus gets no advantage
MOST_NGRAMS = 50_000
_READ, _SAMPLED = 256, 96  # characters of a text, and n-grams of these, that a guess uses: more add nothing
_TEXTS = 2_000  # captions a language that are counted: 0.15 s
_SURE = 0.65  # probability below which no language is named
_LEAST_KNOWN = 0.35  # share of a text's n-grams that the best language must have seen
_MOST_MISTAKES = 2  # letters, in words of `_LONG` letters or more; one in shorter ones
_LONG = 6
_COMPARED = 40  # words, those of most trigrams in common
_LANGUAGES = 8  # whose words are kept in the order that mistakes are looked up in
# Endings of English words, and what stands in their place in the word itself
_ENDINGS = (("s", ""), ("es", ""), ("ies", "y"), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"), ("ly", ""))


@dataclass(frozen=True)
class ReadText:
    """A text as it is tokenized, and its words that stand for nothing in it."""

    text: str
    unknown: tuple[str, ...] = ()


def collect_words(captions: Iterable[str]) -> tuple[str, ...]:
    """Return the words of these captions, sorted."""
    counts = Counter(word for caption in captions for word in WORD.findall(caption.lower()))
    return tuple(sorted(word for word, _ in counts.most_common(MOST_WORDS)))


class Lexicon:
    """Words, sorted, that the captions of a language consist of; apostrophes of any kind are one. Immutable."""

    def __init__(self, words: Sequence[str]) -> None:
        # with ' where they have it in both ways; outer ones are in older versions
        spelled = {bare: word for word in reversed(words) if (bare := fold_apostrophes(word))}
        self.words = tuple(sorted(spelled))
        self._spelled = {bare: word.strip(f"'{APOSTROPHES}") for bare, word in spelled.items() if bare != word}

    def read(self, text: str, knows: Callable[[str], bool]) -> ReadText:
        """Return a cleaned text in known words, as they were taught; as it is where it has none.

        `knows` tells of a word in lower case whether the base knows it: it stays.
        """
        unknown, known = list[str](), 0

        def replace(match: "regex.Match[str]") -> str:
            nonlocal known
            word, bare = match[0].lower(), fold_apostrophes(match[0].lower())
            if bare in self._known or knows(bare):
                known += 1
                return str(match[0]) if (spelled := self._spelled.get(bare, bare)) == word else spelled
            parts = next((found for found in self._find_parts(bare) if found), ())
            known += bool(parts)
            if not parts:
                unknown.append(match[0])
            return " ".join(self._spelled.get(part, part) for part in parts)

        rewritten = " ".join(WORD.sub(replace, text).split())
        return ReadText(rewritten if known else text, tuple(unknown))

    def has(self, word: str) -> bool:
        """Return whether a word in lower case is one of these."""
        return word in self._known

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.words)

    def _find_parts(self, word: str) -> Iterator[Sequence[str]]:
        """Yield ways to read an unknown word, the best first; an empty one is none."""
        word = word[:_LONGEST]
        yield self._find_marked(word)
        yield self._drop_clitics(word)
        yield self._split_compound(word)
        yield self._find_form(word)
        yield next(([word[at:]] for at in range(1, len(word) - _CORE + 1) if word[at:] in self._known), [])
        yield next(([word[:end]] for end in range(len(word) - 1, _CORE - 1, -1) if word[:end] in self._known), [])

    @cached_property
    def _by_unmarked(self) -> Mapping[str, str]:
        return {bare: word for word in self.words if not word.isascii() and (bare := _drop_marks(word)) != word}

    def _find_marked(self, word: str) -> Sequence[str]:
        """Return the known word that differs in the marks on its letters alone."""
        bare = _drop_marks(word)
        found = bare if bare in self._known else self._by_unmarked.get(bare)
        return [found] if found else ()

    def _drop_clitics(self, word: str) -> Sequence[str]:
        """Return the longest known word that only clitics stand before."""
        for letters in _CLITICS:
            count = len(word) - len(word.lstrip(letters))
            for end in range(1, min(count, _MOST_CLITICS, len(word) - _BEHIND_CLITICS) + 1):
                if word[end:] in self._known:
                    return [word[end:]]
        return ()

    def _split_compound(self, word: str) -> Sequence[str]:
        """Return the two known words that it is made of, the first as long as can be."""
        for end in range(len(word) - _PART, _PART - 1, -1):
            first, second = word[:end], word[end:]
            if second in self._known:
                if first in self._known:
                    return first, second
                if end > _LINK and first[:-1] in self._known:
                    return first[:-1], second
        return ()

    def _find_form(self, word: str) -> Sequence[str]:
        """Return the known word with the longest beginning in common, of these the one whose length is nearest."""
        for length in range(len(word), max(_STEM, len(word) - _ENDING) - 1, -1):
            beginning = word[:length]
            first, behind = (bisect_left(self.words, text) for text in (beginning, beginning + "\U0010ffff"))
            forms = [form for form in self.words[first:behind] if len(form) - length <= _ENDING]
            if forms:
                return (min(forms, key=lambda form: (abs(len(form) - len(word)), form)),)
        return ()


def _drop_marks(word: str) -> str:
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", word)))


NO_WORDS = Lexicon(())


@dataclass(frozen=True)
class Guess:
    """The likeliest language, or None when unsure; its probability among the choices; others exactly as likely."""

    language: str | None
    confidence: float
    ties: tuple[str, ...] = ()
    known: float = 0.0  # share of the text's n-grams that the likeliest language has ever seen


@dataclass(frozen=True)
class Detector:
    """N-gram counts of some languages. Immutable: `replace_counts` returns another."""

    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    totals: Mapping[str, int] = field(default_factory=dict)

    def replace_counts(
        self, language: str, counts: Mapping[str, int], only: Collection[str] | None = None
    ) -> "Detector":
        """Return this detector with a language's counts in place of any before; every other language's stay untouched.

        With `only`, just these n-grams are kept: texts that have no others are guessed the same either way.
        """
        totals = {**self.totals, language: sum(counts.values())}
        if only is not None:
            counts = {gram: times for gram, times in counts.items() if gram in only}
        return Detector({**self.counts, language: counts}, totals)

    def guess(self, text: str, among: Iterable[str]) -> Guess:
        """Return the likeliest of `among` for a cleaned text; None as language when the evidence is weak."""
        choices = [language for language in among if self.totals.get(language)]
        grams = select_ngrams(text)
        if not choices or not grams:
            return Guess(None, 0.0)
        weights = {language: self._compute_log_likelihood(language, grams) / _OVERLAP for language in choices}
        best = max(weights.values())
        leaders = tuple(sorted(language for language in choices if best - weights[language] < 1e-9))
        confidence = 1.0 / sum(math.exp(value - best) for value in weights.values())
        known = sum(gram in self.counts[leaders[0]] for gram in grams) / len(grams)
        sure = len(leaders) == 1 and confidence >= _SURE and known >= _LEAST_KNOWN
        return Guess(leaders[0] if sure else None, confidence, leaders if len(leaders) > 1 else (), known)

    def measure_known(self, text: str, language: str) -> float:
        """Return the share of a text's n-grams that the counts of a language have; 0 without any."""
        counts, grams = self.counts.get(language, {}), select_ngrams(text)
        return sum(gram in counts for gram in grams) / len(grams) if grams else 0.0

    def _compute_log_likelihood(self, language: str, grams: Sequence[str]) -> float:
        counts, floor = self.counts[language], self.totals[language] + _SMOOTHING * MOST_NGRAMS
        # loops in C: with 36 languages this is the longest part of reading a query whose language is not given
        return sum(map(_LOGS.__getitem__, map(counts.get, grams, repeat(0)))) - len(grams) * math.log(floor)


class _LogTable(dict[int, float]):
    """Logarithms of smoothed counts, each computed once."""

    def __missing__(self, times: int) -> float:
        return self.setdefault(times, math.log(times + _SMOOTHING))


_LOGS = _LogTable()


def count_ngrams(texts: Sequence[str]) -> Counter[str]:
    """Count each n-gram in `texts`, of which at most 2,000 are read, evenly spread; keep the commonest 50,000."""
    counted: Counter[str] = Counter()
    for text in texts[:: -(-len(texts) // _TEXTS) or 1]:
        counted.update(list_ngrams(text))
    if len(counted) <= MOST_NGRAMS:
        return counted
    return Counter(dict(sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:MOST_NGRAMS]))


def select_ngrams(text: str) -> list[str]:
    """Return the n-grams that a guess uses: at most 96, evenly spread over the first 256 characters."""
    grams = list(list_ngrams(text[:_READ]))
    return [grams[place * len(grams) // _SAMPLED] for place in range(_SAMPLED)] if len(grams) > _SAMPLED else grams


def list_ngrams(text: str) -> Iterator[str]:
    """List character 1- to 4-grams of each word with its borders, and the word; digits and punctuation are ignored."""
    letters = (c if unicodedata.category(c)[0] in "LM" or c in "\u200c\u200d" else " " for c in text.lower())
    for word in "".join(letters).split():
        bordered = f" {word} "
        for length in range(1, _LONGEST_NGRAM + 1):
            for start in range(len(bordered) - length + 1):
                gram = bordered[start : start + length]
                if gram != " ":
                    yield gram
        if len(bordered) > _LONGEST_NGRAM:
            yield bordered


class Speller:
    """Known words, each once. Thread-safe."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words

    def suggest(self, word: str) -> list[str]:
        """Return the known words that a word may be meant for, the nearest first; itself is never among them.

        Of a word of more than 64 letters there are none.
        """
        if len(word) > _LONGEST:
            return []
        counts = Counter(place for gram in _split_trigrams(word) for place in self._places.get(gram, ()))
        most = _MOST_MISTAKES if len(word) >= _LONG else 1
        near = list[tuple[int, int, str]]()
        for place, shared in counts.most_common(_COMPARED):
            known = self._words[place]
            if abs(len(word) - len(known)) <= most and 0 < (mistakes := count_mistakes(word, known)) <= most:
                near.append((mistakes, -shared, known))
        return [known for _, _, known in sorted(near)]

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places = defaultdict[str, list[int]](list)
        for place, word in enumerate(self._words):
            for gram in _split_trigrams(word):
                places[gram].append(place)
        return dict(places)


def _split_trigrams(word: str) -> set[str]:
    """Return three letters at a time; the first two and the last one stand for themselves, too."""
    padded = f"  {word} "
    return {padded[start : start + 3] for start in range(len(padded) - 2)}


def count_mistakes(word: str, other: str) -> int:
    """Count the letters that are missing, too many, others or swapped with their neighbour."""
    before, last = list[int](), list(range(len(other) + 1))
    for row, letter in enumerate(word, 1):
        now = [row]
        for column, beside in enumerate(other, 1):
            least = min(last[column] + 1, now[-1] + 1, last[column - 1] + (letter != beside))
            if row > 1 and column > 1 and letter == other[column - 2] and word[row - 2] == beside:
                least = min(least, before[column - 2] + 1)
            now.append(least)
        before, last = last, now
    return last[-1]


class Spelling:
    """What a base and its languages know by their words. Thread-safe."""

    def __init__(self, things: Path | None, unseen: Path | None) -> None:
        """Take the base's lists of what it knows the look of, and of what it does not know."""
        self._things, self._unseen, self._lock = things, unseen, Lock()
        self._spellers = LRUCache[int, Speller](_LANGUAGES)

    def check(
        self,
        text: str,
        view: "View",
        views: Mapping[str, "View"],
        missing: Sequence[str] | None,
        *,
        is_multilingual: bool,
    ) -> tuple[list[str], list[str]]:
        """List the words of a text, as they are spelled there, that nobody knows; and those that are a guess.

        Nobody knows what is `missing` in captions and was not taught. `view` is what reads the text, `views` are all.
        What captions miss may not be known (None); nor is, what a base of many languages knows. A guess are English
        words for people, places and events, where the base does not know these.
        """
        words, guessed = [*dict.fromkeys(find_words(text))], list[str]()
        if view.lexicon.words:
            words = [*dict.fromkeys(view.read(text).unknown)]
            if missing is None:
                return words, guessed
        else:
            guessed = [word for word in words if not self._unseen_words.isdisjoint(_list_stems(word))]
            words = [] if is_multilingual else [word for word in words if word.isascii()]
            missing = [term for term in missing or () if not self._is_known(term, views)]
        return [word for word in words if missing and not {*missing}.isdisjoint(extract_query_terms(word))], guessed

    def suggest(self, word: str, view: "View") -> str | None:
        """Return the nearest word that the language of a view was taught or, of a base, the nearest that it knows."""
        if not view.lexicon.words:
            return next(iter(self._english_speller.suggest(word.lower())), None)
        with self._lock:
            if (speller := self._spellers.get(view.version)) is None:
                speller = self._spellers[view.version] = Speller(view.lexicon.words)
        return next(iter(speller.suggest(fold_apostrophes(word.lower()))), None)

    def _is_known(self, word: str, views: Mapping[str, "View"]) -> bool:
        """Whether the base knows an English word, or a language was taught it."""
        return not self._english.isdisjoint(_list_stems(word)) or any(view.lexicon.has(word) for view in views.values())

    @cached_property
    def _unseen_words(self) -> frozenset[str]:
        return load_things(self._unseen) if self._unseen is not None else frozenset()

    @cached_property
    def _english(self) -> frozenset[str]:
        from model.tokenizer import list_whole_words  # which imports torch: who reads a dataset does without

        things = load_things(self._things) if self._things is not None else ()
        return frozenset([*list_whole_words(), *(part for thing in things for part in thing.split())])

    @cached_property
    def _english_speller(self) -> Speller:
        return Speller(sorted(word for word in self._english if word.isalpha()))


def _list_stems(word: str) -> set[str]:
    """List an English word, and what it may be a form of."""
    word = word.lower()
    return {word, *(word.removesuffix(ending) + stem for ending, stem in _ENDINGS if word.endswith(ending))}


def load_things(path: Path) -> frozenset[str]:
    """Return the things of a base's list: one in each line of a gzip file, in small letters."""
    return frozenset(gzip.decompress(path.read_bytes()).decode().splitlines())
