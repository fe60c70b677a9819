"""Words that nobody knows, and known ones that may be meant: by trigrams, then by how many letters were mistaken."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock

from cachetools import LRUCache

from model.dataset.dictionary import load_things
from model.table import View
from model.text import extract_query_terms, find_words
from model.tokenizer import list_whole_words

_MOST_MISTAKES = 2  # letters, in words of `_LONG` letters or more; one in shorter ones
_LONG = 6
_COMPARED = 40  # words, those of most trigrams in common
_LONGEST = 64  # letters of a word that is looked at
_LANGUAGES = 8  # whose words are kept in the order that mistakes are looked up in
# Endings of English words, and what stands in their place in the word itself
_ENDINGS = (("s", ""), ("es", ""), ("ies", "y"), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"), ("ly", ""))


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
        self, text: str, view: View, views: Mapping[str, View], missing: Sequence[str] | None, *, is_multilingual: bool
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

    def suggest(self, word: str, view: View) -> str | None:
        """Return the nearest word that the language of a view was taught or, of a base, the nearest that it knows."""
        if not view.lexicon.words:
            return next(iter(self._english_speller.suggest(word.lower())), None)
        with self._lock:
            if (speller := self._spellers.get(view.version)) is None:
                speller = self._spellers[view.version] = Speller(view.lexicon.words)
        return next(iter(speller.suggest(word.lower())), None)

    def _is_known(self, word: str, views: Mapping[str, View]) -> bool:
        """Whether the base knows an English word, or a language was taught it."""
        return not self._english.isdisjoint(_list_stems(word)) or any(view.lexicon.has(word) for view in views.values())

    @cached_property
    def _unseen_words(self) -> frozenset[str]:
        return load_things(self._unseen) if self._unseen is not None else frozenset()

    @cached_property
    def _english(self) -> frozenset[str]:
        things = load_things(self._things) if self._things is not None else ()
        return frozenset([*list_whole_words(), *(part for thing in things for part in thing.split())])

    @cached_property
    def _english_speller(self) -> Speller:
        return Speller(sorted(word for word in self._english if word.isalpha()))


def _list_stems(word: str) -> set[str]:
    """List an English word, and what it may be a form of."""
    word = word.lower()
    return {word, *(word.removesuffix(ending) + stem for ending, stem in _ENDINGS if word.endswith(ending))}
