"""English words that may name what a picture shows, with their vectors by the text tower of one base.

They are the words of Unicode's names of pictographs, those of ImageNet's classes, and frequent words of CLIP's
vocabulary that have a plural there: most of these are things. Each has a weight: how likely it can be seen.
A gallery or a dataset adds words of its own. Which of all these name a gallery's pictures is decided elsewhere.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from cachetools import LRUCache
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from model.checkpoint import CachedResult, load_result, save_result
from model.dataset.formats import Record, RowFault, read_entries, read_records
from model.encoder import Encoder, Vectors
from model.tokenizer import SUFFIX, read_clip_merges

FOLDER = "words"  # under the data root
MOST_ADDED = 5_000  # words of a gallery and of datasets
_FREQUENT = 16_000  # merges of CLIP's that are looked at; behind them are mostly names of people and places
_LESS = 0.5  # weight of CLIP's words: on 570 photographs, half of those asked at a weight of 1 named nothing to be seen
_PART = 256  # words that are encoded at a time
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
        if isinstance(record, Record):
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
        for start in range(0, len(missing), _PART):
            check()
            part = missing[start : start + _PART]
            self._added.update(zip(part, self._encode(part), strict=True))
        return words | dict.fromkeys(more, 1.0), np.vstack([vectors, *(self._added[word] for word in more)])

    def _read_common(self, words: Sequence[str], check: Callable[[], None]) -> Vectors:
        key = [self._encoder.text_fingerprint, words]
        if (kept := load_result(self._folder, key)) is not None:
            return kept.tensors["vectors"].float().numpy()
        for start in range(_PART * len(self._parts), len(words), _PART):
            check()
            self._parts.append(self._encode(words[start : start + _PART]))
        vectors = np.concatenate(self._parts)
        save_result(self._folder, key, CachedResult({"vectors": torch.from_numpy(vectors).half()}))
        self._parts = []
        return vectors

    def _encode(self, words: Sequence[str]) -> Vectors:
        return self._encoder.encode_texts([(self._encoder.base_view, word) for word in words]).vectors
