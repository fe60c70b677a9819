"""Doubts about rows that can be used: swapped columns, another language, pairs that do not belong together.

A doubt is a question to a person, and refuses nothing by itself. Languages are found by the library's detector, which
knows 139, and by our own counts of what is taught already.

Whether pairs belong together is found without knowing either language. Where they do, rows that share parts of words on
one side share some on the other, names and numbers stand on both, and long texts stand beside long ones. Each of these
is compared with what it is when the rows of one side are mixed.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple
from zlib import crc32

import numpy as np
from langcodes import Language
from numpy.typing import NDArray

from model.dataset.rows import Pivot, Row
from model.languages import ENGLISH, find_names, find_scripts
from model.lexicon import list_ngrams

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

Code = Literal["columns_swapped", "other_language", "pairs_unrelated"]
SHOWN = 5  # rows of a doubt
_TOGETHER, _MOST = 8, 64  # rows whose texts are judged as one, and how many such groups of a file
_LEAST_ROWS = 16  # of fewer nothing is said
_BEATEN = 100.0  # times as likely another language has to be than a known one
_SOME = 0.25  # share of groups in another language: half a file of it has twice as many
# of a language that the detector does not know: its texts look like those of relatives, so more is asked for
_SURE, _RATHER, _MOSTLY = 0.9, 0.6, 0.8
_SPEAKERS = 5_000_000  # of a language that texts of an unknown one may be taken for
_MANY_LETTERS = {"Hani", "Hira", "Kana", "Hang"}  # scripts of which no counts know most n-grams
ENOUGH = 3_000  # n-grams in counts of a taught language: fewer do not know what it looks like
_OWN, _OTHER_OWN, _FOREIGN = 0.75, 0.8, 0.6  # share of n-grams that counts of a taught language know
_NAMES = {"nb": "no", "fuv": "ff", "gom": "kok", "gug": "gn", "uzs": "uz", "sdh": "ckb", "zxx": ""}
MOST = 256  # pairs that are looked at, one behind another
_NUMBER = re.compile(r"\d+")
_FEATURES = 2_048  # to which n-grams are hashed
_MIXED = 50  # orders that are drawn
_SHIFTS = (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5)  # rows by which a column may have slipped
_LEAST = 4.0  # standard deviations over mixed rows: of 154 mixed files none had more than 3.3 (`benchmarks.doubts`)
_MORE = 1.05  # times as much, and one more, where a column has slipped

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ShownRow:
    """A row as it is shown to a person; `text` stands beside the caption, in `language`."""

    line: int
    caption: str
    text: str | None
    language: str | None


@dataclass(frozen=True)
class Doubt:
    """What may be wrong with a dataset, in a sentence, and the first rows for which it is so.

    Of texts that should be in the language `expected`, `found` is the one that they seem to be in, None if none known.
    """

    code: Code
    detail: str
    rows: tuple[ShownRow, ...]
    expected: str | None = None
    found: str | None = None


class OwnGuess(NamedTuple):
    """What counts of the served languages say of a text: the likeliest one, and the share of n-grams that it knows.

    `asked` is that share by the counts of the language that is taught, None where it never was.
    """

    language: str | None
    known: float
    asked: float | None


Guess = Callable[[Sequence[str], str], Sequence[OwnGuess]]  # texts, and the tag that they should be of


def guess_nothing(texts: Sequence[str], tag: str) -> list[OwnGuess]:
    """Answer as counts of no language do."""
    return [OwnGuess(None, 0.0, None)] * len(texts)


Pairs = Sequence[tuple[Row, Pivot]]


def show_rows(rows: Sequence[Row]) -> list[ShownRow]:
    """Return the first rows as a person sees them."""
    return [ShownRow(row.line, row.caption, *((row.pivot.text, row.pivot.language) if row.pivot else (None, None)))
            for row in rows[:SHOWN]]  # fmt: skip


def find_doubts(rows: Sequence[Row], tag: str, guess: Guess) -> list[Doubt]:
    """Return what may be wrong with captions that should be in the language `tag`."""
    captions = _judge([(row, row.caption) for row in rows], tag, guess)
    pairs = [(row, row.pivot) for row in rows if row.pivot is not None]
    beside = Counter(pivot.language for _, pivot in pairs).most_common(1)
    if not beside:
        return _describe_other(captions, tag, "captions")
    pairs, other = [pair for pair in pairs if pair[1].language == beside[0][0]], beside[0][0]
    texts = _judge([(row, pivot.text) for row, pivot in pairs], other, guess)
    doubts = [*_describe_other(captions, tag, "captions"), *_describe_other(texts, other, "texts beside them")]
    if doubts and len(pairs) >= _LEAST_ROWS and _is_swapped(pairs, tag, other, guess):
        names = find_names(tag).name, find_names(other).name
        said = f"the columns seem to be swapped: what should be {names[0]} is {names[1]}"
        return [Doubt("columns_swapped", said, tuple(show_rows([row for row, _ in pairs])), tag, other)]
    return doubts or _describe_relation(pairs)


def _is_swapped(pairs: Pairs, tag: str, other: str, guess: Guess) -> bool:
    sides = [(tag, [(row, pivot.text) for row, pivot in pairs]), (other, [(row, row.caption) for row, _ in pairs])]
    return all(_judge(texts, language, guess) is None for language, texts in sides)


def _describe_relation(pairs: Pairs) -> list[Doubt]:
    texts = [(row.caption, pivot.text) for row, pivot in pairs]
    if len(pairs) < _LEAST_ROWS or is_related(texts):
        return []
    said = (
        "the pairs do not seem to belong together, as if one column had slipped or been sorted alone: "
        f"line {pairs[0][0].line} says “{texts[0][0]}” = “{texts[0][1]}”"
    )
    return [Doubt("pairs_unrelated", said, tuple(show_rows([row for row, _ in pairs])))]


class _Verdict(NamedTuple):
    language: str | None  # what the texts seem to be in; None: nothing that was taught
    rows: tuple[Row, ...]  # those that seem so


def _describe_other(verdict: _Verdict | None, tag: str, which: str) -> list[Doubt]:
    if verdict is None:
        return []
    name = find_names(tag).name
    said = (
        f"the {which} look like {find_names(verdict.language).name}, not {name}"
        if verdict.language
        else f"the {which} look little like the {name} that was taught before"
    )
    return [Doubt("other_language", said, tuple(show_rows(verdict.rows)), tag, verdict.language)]


def _judge(texts: Sequence[tuple[Row, str]], tag: str, guess: Guess) -> _Verdict | None:
    """Return the language in which texts that should be in `tag` seem to be, or None if nothing speaks against it."""
    if len(texts) < _LEAST_ROWS:
        return None
    groups = [texts[start : start + _TOGETHER] for start in range(0, len(texts), _TOGETHER)]
    groups = groups[:: -(-len(groups) // _MOST)]
    joined = [" . ".join(text for _, text in group) for group in groups]
    found = list[tuple[int, str, float]]()  # number of the group, another language, and its chance
    foreign = list[int]()
    for number, (text, own) in enumerate(zip(joined, guess(joined, tag), strict=True)):
        if own.asked is not None and own.asked < _FOREIGN:
            foreign.append(number)
        if (other := _find_other(text, tag, own)) is not None:
            found.append((number, *other))
    if found:
        language, often = Counter(each for _, each, _ in found).most_common(1)[0]
        chances = [chance for _, each, chance in found if each == language]
        surely = sum(chance >= _SURE for _, _, chance in found)  # of relatives one may be taken for the other
        if surely >= _SOME * len(groups) or (often >= _MOSTLY * len(groups) and sum(chances) >= _RATHER * len(chances)):
            numbers = [number for number, each, _ in found if each == language]
            return _Verdict(language, tuple(row for number in numbers for row, _ in groups[number]))
    if 2 * len(foreign) > len(groups) and not find_scripts(tag) & _MANY_LETTERS:
        return _Verdict(None, tuple(row for number in foreign for row, _ in groups[number]))
    return None


def _find_other(text: str, tag: str, own: OwnGuess) -> tuple[str, float] | None:
    """Return the language that a text is in rather than in `tag`, and how sure that is; None if it may be in `tag`."""
    asked = _simplify(tag)
    if own.language is not None and own.known >= _OWN and _simplify(own.language) == asked:
        return None
    if own.language not in (None, ENGLISH) and own.known >= _OTHER_OWN:
        return _simplify(str(own.language)), 1.0
    chances = _rank(text)
    language, chance = next(iter(chances.items()))
    if language in ("", asked):
        return None
    if asked in chances and is_usual_script(tag):
        return (language, 1.0) if chance > _BEATEN * chances[asked] else None
    return (language, chance) if _is_plausible(language) else None


def _rank(text: str) -> dict[str, float]:
    """Return the chance of each language that the detector knows, the likeliest first."""
    chances = dict[str, float]()
    for label, chance in _load_identifier().rank(text):
        chances.setdefault(_simplify(label), chance)
    return chances


@cache
def _load_identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # here: it takes half a second and 100 MB

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def _simplify(tag: str) -> str:
    """Return the language of a tag as the detector's labels and ours are compared: quz as qu, nb as no."""
    language = Language.get(tag).prefer_macrolanguage().language or ""
    return _NAMES.get(language, language)


@cache
def is_usual_script(tag: str) -> bool:
    """Return whether a tag names the script that its language is mostly written in, or none."""
    return find_scripts(tag) == find_scripts(_simplify(tag))


@cache
def _is_plausible(language: str) -> bool:
    """Return whether texts in it may come where those of an unknown language should be: widely spoken, and of a script
    that many languages share. Of other scripts the detector knows one or two, and takes every text for these."""
    return Language.get(language).speaking_population() >= _SPEAKERS and find_scripts(language) <= {"Latn", "Cyrl"}


def is_related(pairs: Sequence[tuple[str, str]]) -> bool:
    """Return whether the texts of each pair seem to belong together; of many, a stretch of the middle is looked at."""
    start = max(0, len(pairs) - MOST) // 2
    own, *slipped = measure_relation(pairs[start : start + MOST], _SHIFTS)
    return own >= _LEAST and own * _MORE + 1 >= max(slipped)


def measure_relation(pairs: Sequence[tuple[str, str]], shifts: Sequence[int] = ()) -> list[float]:
    """Measure how much more the pairs have in common than mixed ones, in standard deviations of these.

    Behind it stands the same for the second column slipped by each of the `shifts`.
    """
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    x, y = _weigh_ngrams(first), _weigh_ngrams(second)
    alike, kernel, other = x @ y.T, _center(x @ x.T), _center(y @ y.T)
    long, longer = (_rank_lengths([*map(len, texts)]) for texts in (first, second))
    places = np.arange(len(pairs))

    def compare(order: NDArray[np.int64]) -> list[float]:
        common = np.vdot(kernel, other[np.ix_(order, order)])
        return [float(common), float(alike[places, order].sum()), float(long @ longer[order])]

    draw = np.random.default_rng(0)
    mixed = np.array([compare(draw.permutation(places)) for _ in range(_MIXED)])
    asked = np.array([compare(np.roll(places, shift)) for shift in (0, *shifts)])
    spread = mixed.std(axis=0)
    deviations = np.where(spread > 0, (asked - mixed.mean(axis=0)) / np.maximum(spread, 1e-9), 0.0)
    return [float(each) for each in deviations.sum(axis=1) / np.sqrt(deviations.shape[1])]


def _weigh_ngrams(texts: Sequence[str]) -> Floats:
    """Return a unit vector for each text: its n-grams, those of few texts weighed more."""
    counts = np.zeros((len(texts), _FEATURES), dtype=np.float32)
    for row, text in enumerate(texts):
        grams = [*list_ngrams(unicodedata.normalize("NFD", text)), *_NUMBER.findall(text)]
        for gram, times in Counter(grams).items():
            counts[row, crc32(gram.encode()) % _FEATURES] += times
    weights = np.log(len(texts) / np.maximum((counts > 0).sum(axis=0), 1))
    vectors: Floats = np.log1p(counts) * weights.astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors


def _center(kernel: Floats) -> Floats:
    np.fill_diagonal(kernel, 0.0)
    kernel -= kernel.mean(axis=0)
    kernel -= kernel.mean(axis=1, keepdims=True)
    return kernel


def _rank_lengths(lengths: Sequence[int]) -> Floats:
    """Return the ranks of lengths around 0; texts of one length have one rank."""
    _, place, count = np.unique(lengths, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(count) - (count + 1) / 2)[place].astype(np.float32)
    ranks -= ranks.mean()
    return ranks
