"""Which words are forms of one word: by Snowball's stemmers, or for languages without one by their beginnings.

Words are terms as `model.words` makes them. Of a language with a stemmer, those of one stem are forms of each other; of
others, those whose first letters are the same and that differ in a few at their ends.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from functools import cache, lru_cache
from itertools import islice
from threading import Lock
from typing import Any

import snowballstemmer

from model.words import is_spelled

_STEMMERS = {
    **{"ar": "arabic", "bs": "serbian", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek"},
    **{"en": "english", "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian"},
    **{"fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi", "hr": "serbian", "hu": "hungarian"},
    **{"hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "nb": "norwegian", "ne": "nepali"},
    **{"nl": "dutch", "nn": "norwegian", "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian"},
    **{"ru": "russian", "sr": "serbian", "st": "sesotho", "sv": "swedish", "ta": "tamil", "tr": "turkish"},
    **{"yi": "yiddish"},
}
_STEM = 4  # letters, at least, that forms have in common where there is no stemmer
_ENDING = 2  # letters, at most, in which these differ at their ends
_LOOKED_AT = 300  # words of one beginning
MOST_FORMS = 16
_lock = Lock()  # a stemmer keeps the word that it works on


def has_stemmer(language: str) -> bool:
    """Return whether forms of a language are found by stems."""
    return language.partition("-")[0] in _STEMMERS


@cache
def _open_stemmer(name: str) -> Any:
    return snowballstemmer.stemmer(name)


@lru_cache(maxsize=100_000)
def find_stem(word: str, language: str) -> str | None:
    """Return the stem of a word; None for a language without a stemmer."""
    name = _STEMMERS.get(language.partition("-")[0])
    if name is None:
        return None
    with _lock:
        return str(_open_stemmer(name).stemWord(word))


def find_forms(word: str, words: Sequence[str], languages: Collection[str]) -> list[str]:
    """Return the other forms of a word in these languages among `words`, which are sorted; at most `MOST_FORMS`."""
    if not is_spelled(word):
        return []
    forms = (form for language in languages for form in _find_forms(word, words, language))
    return list(islice(dict.fromkeys(form for form in forms if form != word), MOST_FORMS))


def _find_forms(word: str, words: Sequence[str], language: str) -> Iterator[str]:
    stem = find_stem(word, language)
    if stem is None:
        beginning = word[: max(_STEM, len(word) - _ENDING)]
        for form in _list_beginning(beginning, words) if len(word) >= _STEM else ():
            shared = _count_shared(word, form)
            if max(len(word), len(form)) - shared <= _ENDING:
                yield form
        return
    # a stemmer may change the last letter that stays, as in `berri` of berry and berries; more words begin without it
    beginning = word[: max(2, min(_count_shared(word, stem), len(stem) - 1))]
    for form in (*_list_beginning(stem, words), *_list_beginning(beginning, words)):
        if find_stem(form, language) == stem:
            yield form


def _list_beginning(beginning: str, words: Sequence[str]) -> Sequence[str]:
    first = bisect_left(words, beginning)
    return words[first : min(first + _LOOKED_AT, bisect_left(words, beginning + "\U0010ffff"))]


def _count_shared(word: str, other: str) -> int:
    """Return how many letters two words begin with alike."""
    return next(
        (at for at, pair in enumerate(zip(word, other, strict=False)) if len({*pair}) > 1), min(len(word), len(other))
    )
