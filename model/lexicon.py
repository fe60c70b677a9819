"""The words that a language was taught, and by which of them the other words of a text are read.

What nobody taught says nothing of the language, and a text with it is found worse than without it. So an unknown word
is read as a known word that has other marks on its letters, or that clitics are written before; as the two known words
that it is made of; as another form of a known word; or as the known word that it ends or begins with. Any other is left
out (decision 55 has the figures). Scripts that put no spaces between words are read as they are.
"""

import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import regex

from model.text import WORD

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
    """Words, sorted, that the captions of a language consist of. Immutable."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words

    def read(self, text: str, knows: Callable[[str], bool]) -> ReadText:
        """Return a cleaned text in known words; as it is where it has none.

        `knows` tells of a word in lower case whether the base knows it: it stays.
        """
        unknown, known = list[str](), 0

        def replace(match: "regex.Match[str]") -> str:
            nonlocal known
            word = match[0].lower()
            if word in self._known or knows(word):
                known += 1
                return str(match[0])
            parts = next((found for found in self._find_parts(word) if found), ())
            known += bool(parts)
            if not parts:
                unknown.append(match[0])
            return " ".join(parts)

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
