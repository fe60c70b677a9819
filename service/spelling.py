"""Words of a search that nobody knows: no caption has them, and no language was taught them. And what may be meant."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock

from cachetools import LRUCache

from index.snapshot import Snapshot
from model.dataset.dictionary import load_things
from model.lexicon import find_words
from model.spelling import Speller
from model.table import View
from model.tokenizer import list_whole_words
from model.words import extract_query_terms, is_spelled

_LANGUAGES = 8  # whose words are kept in the order that mistakes are looked up in
# Endings of English words, and what stands in their place in the word itself
_ENDINGS = (("s", ""), ("es", ""), ("ies", "y"), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"), ("ly", ""))


class Spelling:
    """What a service's languages know by their words. Thread-safe."""

    def __init__(self, things: Path | None, unseen: Path | None) -> None:
        """Take the base's lists of what it knows the look of, and of what it does not know."""
        self._things, self._unseen, self._lock = things, unseen, Lock()
        self._spellers = LRUCache[int, Speller](_LANGUAGES)

    def list_unknown(self, text: str, view: View, snapshot: Snapshot, missing: Sequence[str] | None) -> list[str]:
        """List the words of a text, as they are spelled there, that are `missing` in captions and that nobody taught.

        `view` is what reads the text. What captions miss may not be known (None); nor is, what a base of many languages
        knows.
        """
        if view.lexicon.words:
            words = [*dict.fromkeys(view.read(text).unknown)]
            if missing is None:
                return words
        elif snapshot.multilingual or not missing:
            return []
        else:
            words = [
                word
                for word in dict.fromkeys(find_words(text))
                if word.isascii() and not self._is_known(word, snapshot)
            ]
        return [word for word in words if any(term in missing for term in extract_query_terms(word))]

    def list_guessed(self, text: str, view: View) -> list[str]:
        """List the English words of a text for people, places and events, where the base does not know these."""
        if self._unseen is None or view.lexicon.words:
            return []
        return [
            word for word in dict.fromkeys(find_words(text)) if not self._unseen_words.isdisjoint(_list_stems(word))
        ]

    def suggest(self, word: str, view: View) -> str | None:
        """Return the nearest word that the language of a view was taught or, of a base, the nearest that it knows."""
        if not view.lexicon.words:
            return next(iter(self._english_speller.suggest(word.lower())), None)
        with self._lock:
            if (speller := self._spellers.get(view.version)) is None:
                speller = self._spellers[view.version] = Speller(view.lexicon.words)
        return next(iter(speller.suggest(word.lower())), None)

    def _is_known(self, word: str, snapshot: Snapshot) -> bool:
        return all(self._is_known_part(part, snapshot) for part in extract_query_terms(word) if is_spelled(part))

    def _is_known_part(self, word: str, snapshot: Snapshot) -> bool:
        if not self._english.isdisjoint(_list_stems(word)):
            return True
        return any(view.lexicon.has(word) for view in snapshot.views.values())

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
