"""The known word that a mistyped one is nearest to: by trigrams, then by how many letters were mistaken."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property

_MOST_MISTAKES = 2  # letters, in words of `_LONG` letters or more; one in shorter ones
_LONG = 6
_COMPARED = 40  # words, those of most trigrams in common
_LONGEST = 64  # letters of a word that is looked at


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
