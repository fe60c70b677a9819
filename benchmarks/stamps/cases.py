"""The rows of the benchmark and the cases of each: which languages, how many pairs, which pivot. Fixed here, not tuned.

The order of all cases interleaves the rows, so that a run that is stopped has something of each.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from typing import Any, Literal, get_args

from benchmarks.emoji36.errors import Refused
from benchmarks.methods.addressed import Adapter
from benchmarks.stamps.data import CODES, KEPT_AWAY, Stamp
from model.languages import ENGLISH, canonicalize
from store.errors import PictoglotError

Row = Literal[
    "english",
    "seen",
    "held_out",
    "chain",
    "pivot",
    "few",
    "dictionary",
    "freedict",
    "freedict_more",
    "asked",
    "adapter",
]
ROWS: tuple[Row, ...] = get_args(Row)
ENOUGH = 400  # captions of photographs: languages that have them are taught in the row `seen`
# of eight scripts, three times Latin: a Slavic and a Celtic language, and one that is related to no other
HELD_OUT = ("cs", "gd", "eu", "ru", "el", "ka", "am", "hi", "ar", "ko")
CHAIN = ("de", "ru", "ja", "ar", "hi", "el", "fr", "ka", "am", "uk", "ko", "eu")
PIVOTS = (("nl", "de"), ("ca", "fr"), ("cs", "de"), ("eu", "fr"), ("gd", "de"), ("am", "fr"))
FEW = ("cs", "eu", "de", "ru", "hi", "ar", "ja", "el")
SIZES = (100, 200, 400)
ASKED = (200, 600)  # words
# of six scripts; each kind at two rates
ADAPTED = ("cs", "gd", "eu", "ru", "ka", "am", "hi", "ko")
ADAPTERS = tuple(Adapter(kind, pace) for kind in ("mla", "lora") for pace in (1.0, 1 / 8))
_LEAST = 3  # captions without which nothing can be taught and asked


@dataclass(frozen=True)
class Case:
    """One training of a row. `pivot`: the language of the other texts; `pairs`: how many at most, 0 all of them.

    `chain`: the languages of the chain so far, this one last. `adapter`: what is trained beside the rows.
    """

    row: Row
    language: str
    pivot: str = ENGLISH
    pairs: int = 0
    chain: tuple[str, ...] = ()
    adapter: Adapter | None = None

    @property
    def name(self) -> str:
        """Of its file, without folder and suffix."""
        if self.chain:
            key = sha256(" ".join(self.chain).encode()).hexdigest()[:8]
            return f"{len(self.chain):02d}-{self.language}-{key}"
        more = [f"from-{self.pivot}"] if self.pivot != ENGLISH else []
        more += [f"{self.adapter.kind}-{self.adapter.pace:g}"] if self.adapter else []
        return "-".join([self.language, *more, *([str(self.pairs)] if self.pairs else [])])


def list_cases(shown: Sequence[Stamp], rows: Sequence[Row] = ROWS, languages: Sequence[str] = ()) -> list[Case]:
    """Return what is to be done, English first, the other rows interleaved.

    Without `languages`, each row has its own list, as far as there are captions in `shown`; otherwise all have these.
    """
    counts = Counter(tag for stamp in shown for tag in stamp.captions)
    there = [tag for tag, count in counts.items() if count >= _LEAST and not _is_english(tag)]
    listed: dict[Row, Sequence[Case]] = {
        "english": [Case("english", ENGLISH)],
        "seen": [Case("seen", tag) for tag in languages or sorted(tag for tag in there if counts[tag] >= ENOUGH)],
        "held_out": [Case("held_out", tag) for tag in languages or _list_among(HELD_OUT, there)],
        "chain": _list_chain(languages or _list_among(CHAIN, there)),
        "pivot": [Case("pivot", tag, pivot) for tag, pivot in _list_pivots(languages) if {tag, pivot} <= {*there}],
        "few": [
            Case("few", tag, pairs=pairs)
            for tag in languages or _list_among(FEW, there)
            for pairs in SIZES
            if pairs < counts[tag]
        ],
        "dictionary": [Case("dictionary", tag) for tag in languages or _list_among(HELD_OUT, there)],
        "freedict": [Case("freedict", tag) for tag in _list_among(languages or [*CODES], there)],
        "freedict_more": [Case("freedict_more", tag) for tag in _list_among(languages or [*CODES], there)],
        "asked": [
            Case("asked", tag, pairs=words) for tag in _list_among(languages or [*CODES], there) for words in ASKED
        ],
        "adapter": [
            Case("adapter", tag, adapter=adapter)
            for tag in languages or _list_among(ADAPTED, there)
            for adapter in ADAPTERS
        ],
    }
    placed = [
        ((place + 1) / len(listed[row]) * (row != "english"), ROWS.index(row), case)
        for row in rows
        for place, case in enumerate(listed[row])
    ]
    return [case for *_, case in sorted(placed, key=lambda each: each[:2])]


def choose_rows(said: str | None) -> list[Row]:
    """Return the rows that `--rows` names, with commas; raises `Refused`."""
    names = ROWS if said is None else [name.strip() for name in said.split(",")]
    return [_read_row(name) for name in dict.fromkeys(names)]


def choose_languages(said: str | None, shown: Sequence[Stamp]) -> list[str]:
    """Return the languages that `--languages` names, with commas; raises `Refused` where there are too few captions."""
    if said is None:
        return []
    counts, found = Counter(tag for stamp in shown for tag in stamp.captions), list[str]()
    for name in said.split(","):
        tag = _read_tag(name.strip())
        if _is_english(tag):
            raise Refused(f"--languages: {tag} is what the base reads already; name others")
        if tag in KEPT_AWAY and not counts[tag]:
            raise Refused(f"--languages: {tag} is kept for checks from outside, which say --outside")
        if counts[tag] < _LEAST:
            raise Refused(f"--languages: the photographs have {counts[tag]} captions in {name.strip()!r}")
        found.append(tag)
    return list(dict.fromkeys(found))


def described(case: Case) -> dict[str, Any]:
    """Return the case as a result has it."""
    return {"row": case.row, "language": case.language, "pivot": case.pivot, "chain": [*case.chain]}


def _read_row(name: str) -> Row:
    for row in ROWS:
        if row == name:
            return row
    near = get_close_matches(name, ROWS, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise Refused(f"--rows: there is no {name!r} among {', '.join(ROWS)}{hint}")


def _read_tag(name: str) -> str:
    try:
        return canonicalize(name)
    except PictoglotError as error:
        raise Refused(f"--languages: {name!r} is {error.detail}") from error


def _is_english(tag: str) -> bool:
    return tag.partition("-")[0] == ENGLISH


def _list_among(listed: Sequence[str], there: Sequence[str]) -> list[str]:
    return [tag for tag in listed if tag in there]


def _list_chain(languages: Sequence[str]) -> list[Case]:
    return [Case("chain", tag, chain=tuple(languages[: place + 1])) for place, tag in enumerate(languages)]


def _list_pivots(languages: Sequence[str]) -> Sequence[tuple[str, str]]:
    """Return pivots of languages that are named: German texts, for German French ones."""
    return [(tag, "fr" if tag == "de" else "de") for tag in languages] if languages else PIVOTS
