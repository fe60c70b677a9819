"""Words that a gallery asks for, words of searches that nobody taught; and what people gave, written as a dataset."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from cachetools import LRUCache

from index.coverage import (
    ChosenWord,
    NearestWords,
    Vocabulary,
    find_nearest_words,
    find_stem,
    find_taught_stems,
    weigh_common_words,
)
from index.gallery import Gallery
from index.records import Collections, read_last_record_change
from model.dataset import MIN_ROWS
from model.encoder import Encoder, View
from model.text import clean
from service.forms import FileOnDisk
from service.requests import locate_error
from service.schemas.speakers import Answer
from store.errors import DatasetTooSmall, Unavailable
from store.registry import Registry
from store.speakers import WordAnswer

_SECONDS = 10.0  # that one request encodes words and looks at pictures
_CACHED = 8  # galleries, as keys see them, whose nearest words are kept: some hundred kilobytes each
_LANGUAGES = 32  # whose taught words are kept
_LONGEST_UNKNOWN = 64  # letters of a word that is counted
_WAITING = 1_000  # words of one language that wait to be stored


class UnknownWordCounter:
    """Counts words of searches that nobody taught, in memory until `store`. Thread-safe."""

    def __init__(self, registry: Registry) -> None:
        self._registry, self._lock = registry, Lock()
        self._counts: dict[str, Counter[str]] = {}

    def count(self, language: str, words: Iterable[str]) -> None:
        """Count one search with these words; when very many wait to be stored, new ones are forgotten."""
        short = {word.lower() for word in words if len(word) <= _LONGEST_UNKNOWN}
        with self._lock:
            for word in short:
                counts = self._counts.setdefault(language, Counter())
                if word in counts or len(counts) < _WAITING:
                    counts[word] += 1

    def store(self) -> None:
        """Store what was counted since the last time; raises `RegistryUnavailable` and keeps it."""
        with self._lock:
            counts, self._counts = self._counts, {}
        try:
            for language in [*counts]:
                self._registry.unknown_words.add(language, counts[language])
                del counts[language]
        finally:
            with self._lock:
                for language, words in counts.items():  # that were not stored
                    self._counts.setdefault(language, Counter()).update(words)

    def list(self, language: str, view: View) -> list[tuple[str, int]]:
        """List words that `view` does not know and nobody answered, with their searches, those of most first."""
        answers = self._registry.answers.list(language)
        answered = {word for answer in answers for text in answer.captions for word in text.lower().split()}
        counted = self._registry.unknown_words.list(language)
        return [(word, n) for word, n in counted if word not in answered and view.read(word).unknown]


@dataclass
class WordAsker:
    """Chooses words, for one thread at a time; what was computed for a gallery that has not changed is kept."""

    encoder: Encoder
    gallery: Gallery
    _nearest: LRUCache[tuple[object, ...], NearestWords] = field(default_factory=lambda: LRUCache(_CACHED))
    _taught: LRUCache[int, frozenset[str]] = field(default_factory=lambda: LRUCache(_LANGUAGES))

    def __post_init__(self) -> None:
        self._vocabulary = Vocabulary(self.encoder, self.gallery.root.home)

    def choose(self, tag: str, count: int, collections: Collections) -> tuple[list[ChosenWord], float | None]:
        """Choose words to ask for among the pictures in some collections; return what share of these has a word, too.

        Raises `Unavailable` when this takes too long: what was encoded by then is kept, so that it is done some time.
        """
        until = time.monotonic() + _SECONDS

        def check() -> None:
            if time.monotonic() > until:
                raise Unavailable("the base reads the words for the first time; ask again in a moment")

        answers, taught = self.gallery.registry.answers.list(tag), self._find_taught(tag)
        answered = {find_stem(answer.english) for answer in answers}
        known = taught | {find_stem(answer.english) for answer in answers if answer.captions}
        nearest = self._find_nearest(collections, known, check)
        return nearest.choose(count, known, answered), nearest.measure_covered(known)

    def _find_nearest(self, collections: Collections, known: frozenset[str], check: Callable[[], None]) -> NearestWords:
        with self.gallery.registry.read() as session:
            change = read_last_record_change(session)
        added = frozenset(word for word in known if word not in weigh_common_words())
        key = (collections, change, added)
        if (found := self._nearest.get(key)) is None:
            tower = self.encoder.image_fingerprint
            found = find_nearest_words(self.gallery, tower, self._vocabulary, sorted(added), collections, check)
            self._nearest[key] = found
        return found

    def _find_taught(self, tag: str) -> frozenset[str]:
        """Return the stems of the words beside which the language was taught, by the version that serves it."""
        registry, root = self.gallery.registry, self.gallery.root
        if (number := registry.releases.get_serving().languages.get(tag)) is None:
            return frozenset()
        if (stems := self._taught.get(number)) is None:
            expansions = registry.expansions.list_with_datasets(registry.versions.get(number).dataset_expansions)
            self._taught[number] = stems = find_taught_stems(root, expansions)
        return stems


def clean_answers(words: Iterable[Answer]) -> tuple[dict[str, list[str]], set[str]]:
    """Return the captions of each English word, clean, and the words that ask for `more`; of one twice, the last ones.

    Raises what `clean` raises, with the place.
    """
    answers, more = dict[str, dict[str, None]](), set[str]()
    for number, word in enumerate(words):
        with locate_error("words", number, "english"):
            english = clean(word.english).lower()
        captions = dict[str, None]()
        for place, text in enumerate(word.captions):
            with locate_error("words", number, "captions", place):
                captions[clean(text)] = None
        if word.more:
            more.update(() if english in answers else (english,))
            captions = answers.get(english, {}) | captions
        else:
            more.discard(english)
        answers[english] = captions
    return {english: [*captions] for english, captions in answers.items()}, more


def count_captions(answers: Iterable[WordAnswer]) -> int:
    """Count the captions in answers: the rows that they can teach."""
    return sum(len(answer.captions) for answer in answers)


def count_needed(registry: Registry, tag: str, made: str) -> int:
    """Return how many `words` or `captions` can teach a language: where other rows taught it, one."""
    number = registry.releases.get_serving().languages.get(tag)
    learned = () if number is None else registry.versions.get(number).dataset_expansions
    return 1 if registry.expansions.list_with_datasets(learned, without_made_of=made) else MIN_ROWS


def write_answers(registry: Registry, tag: str, file: FileOnDisk) -> None:
    """Write the answers of a language as a dataset, one caption in a line, and its rows that wait; close the file.

    Raises `DatasetTooSmall` without any.
    """
    answers = registry.answers.list(tag)
    rows = [{"caption": text, "english": each.english} for each in answers for text in each.captions]
    _write_rows([*rows, *registry.waiting.get(tag).values()], file)
    if not file.size:
        raise DatasetTooSmall(f"nobody has answered a word in {tag} yet: see `pictoglot words {tag}`")


def write_captions(registry: Registry, tag: str, file: FileOnDisk) -> None:
    """Write the captions that came with pictures or were accepted as a dataset, and close the file.

    Raises `DatasetTooSmall` without any.
    """
    captions = registry.proposals.iterate_captions(tag)
    _write_rows(({"caption": text, "picture": id} for id, text in captions), file)
    if not file.size:
        raise DatasetTooSmall(f"no picture has a caption in {tag} yet")


def _write_rows(rows: Iterable[dict[str, Any]], file: FileOnDisk) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    file.close()
