"""Language identification among the learned languages, by character n-grams of each language's own captions.

Counts are additive and kept per language, so adding one language changes nothing of another; it works for languages
that no package for language identification knows. It says so when it is unsure.
"""

import math
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

_LONGEST = 4  # characters an n-gram; words count too, as the best evidence in short texts
_OVERLAP = 8.0  # n-grams share characters: evidence is divided by this, which calibrates the probability
_SMOOTHING = 0.05  # added to every count, as for MOST_NGRAMS different n-grams: a small corpus gets no advantage
MOST_NGRAMS = 50_000
_READ, _SAMPLED = 256, 96  # characters of a text, and n-grams of these, that a guess uses: more add nothing
_TEXTS = 2_000  # captions a language that are counted: 0.15 s
_SURE = 0.65  # probability below which no language is named
_LEAST_KNOWN = 0.35  # share of a text's n-grams that the best language must have seen


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
        for length in range(1, _LONGEST + 1):
            for start in range(len(bordered) - length + 1):
                gram = bordered[start : start + length]
                if gram != " ":
                    yield gram
        if len(bordered) > _LONGEST:
            yield bordered
