"""Pairs of a dictionary: headwords cleaned, glosses cut to equivalents, and of all pairs those that can be taught.

Knows no file. An entry is taken if one of its pairs is; each of the others is counted under one reason.
"""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, NamedTuple

from model.dataset.formats import RawEntry
from model.dataset.rows import LEFT_OUT, Pivot, Row, UnusableRow
from model.languages import ENGLISH, is_in_script
from model.lexicon import load_things
from model.text import clean, is_spaced
from store.errors import InvalidInput

MAX_PAIRS = 40_000  # other forms are among them, where there is room
MAX_SENSES = 3  # pairs of one headword, and the first of an entry that are looked at: those behind are rare
WORDS_OF_A_GLOSS = 50  # headwords for one gloss; more of them are no dictionary
MAX_FORMS = 8  # of an entry
_LONGEST_WORD, _LONGEST_GLOSS = 5, 4  # words; a longer gloss explains
_LONGEST = 60  # characters of either
_LONGEST_ARTICLE = 3  # characters
_READ, _READ_CHARACTERS = 64, 1_000  # glosses, senses or forms of an entry, and characters of each, looked at
_EXAMPLES = 20
_PLURALS = (("ies", "y"), ("es", ""), ("s", ""))
_REASONS = [*LEFT_OUT]

_BRACKETS = re.compile(  # and pronunciations between slashes
    r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}|<[^<>]*>|(?<!\S)/[^/\s][^/]*/(?!\S)"
)
_OPEN = re.compile(r"[(\[{<]")
_BETWEEN_SENSES, _BETWEEN = re.compile(r"[;|；؛]"), re.compile(r"[,;/|、；，،؛]")
_NUMBER = re.compile(r"^\s*(?:\d+\s*[.):]|[a-z]\))\s*")
_EDGES = " \t.:!?…*~=\"'“”„‘’«»‹›`"
_OPENING = re.compile(r"^(?:(?P<article>an?|the)|to|some)\s+(?=\S)", re.IGNORECASE)
_MORE = re.compile(r"\s+(?:that|which|who|whose|with|in|of|from|for|found|used|having|native|like)\b.*", re.IGNORECASE)
_RELATIVE = re.compile(r"\b(?:that|which|who|whose|etc)\b", re.IGNORECASE)
_KIND_OF = re.compile(
    r"^(?:an?\s+|the\s+|any\s+|some\s+)?(?:\w+\s+)?(?:kind|sort|type|species|variety|breed|genus|family)s?\s+of\s+"
    r"(?:an?\s+|the\s+)?(?P<rest>.+)$",
    re.IGNORECASE,
)
_ABOUT = re.compile(  # what such a gloss begins with is a sentence about the word
    r"^(?:of|who|that|which|when|where|used|relating|pertaining|characteri[sz]ed|someone|somebody|something|one who|"
    r"(?:the )?(?:act|state|quality|process|fact|condition|person|people|place|part|piece|name) "
    r"(?:of|who|that|where))\b",
    re.IGNORECASE,
)
_OF_GRAMMAR = re.compile(
    r"\b(?:plural|singular|dual|nominative|genitive|dative|accusative|ablative|vocative|locative|instrumental|"
    r"partitive|possessive|construct|definite|indefinite|masculine|feminine|neuter|comparative|superlative|participle|gerund|"
    r"infinitive|imperative|subjunctive|past|present|tense|person|inflection|forms?|spelling|misspelling|abbreviation|"
    r"initialism|acronym|diminutive|augmentative|synonym|romani[sz]ation|transliteration|passive|noun|verb)\s+of\b|"
    r"^(?:see|cf|vide)\b",
    re.IGNORECASE,
)
# parts of speech that name nothing, as Wiktextract, FreeDict and others write them
_FUNCTIONS = {
    "abbr", "abbreviation", "adposition", "affix", "art", "article", "aux", "character", "circumfix", "circumpos",
    "conj", "conjunction", "contraction", "cop", "copula", "det", "determiner", "infix", "interfix", "interj",
    "interjection", "intj", "letter", "part", "particle", "postp", "prefix", "prep", "preposition", "pron", "pronoun",
    "ptcl", "punct", "romanization", "suffix", "symbol",
}  # fmt: skip
_VOWEL_MARKS = re.compile("[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u065f\u0670]")
_ARABIC = {"ar", "acm", "aeb", "afb", "apc", "apd", "arq", "ars", "ary", "arz", "ayl"}  # written with the same article
_ARABIC_ARTICLE = re.compile(r"\b\u0627\u0644(?=\w{2})")
_STRESS = re.compile("(?<=[\u0400-\u052f])[\u0300\u0301]")


@dataclass
class DictionaryReport:
    """How many entries were taken, why others were not, and pairs as examples."""

    entries: int = 0
    taken: int = 0
    left_out: dict[str, int] = field(default_factory=dict)  # entries by reason, the most frequent first
    examples: list[dict[str, str]] = field(default_factory=list)

    @property
    def reasons(self) -> dict[str, str]:
        """Return what the entries left out are, in words."""
        return {reason: LEFT_OUT[reason] for reason in self.left_out}

    def dump(self) -> dict[str, Any]:
        return {**vars(self), "reasons": self.reasons}


class _Headword(NamedTuple):
    number: int  # of its entry, from 0
    line: int
    text: str
    forms: tuple[str, ...]


class _Candidate(NamedTuple):
    """A pair; of two for one gloss the smaller one is better."""

    explained: bool  # `tree` of `a kind of tree`
    place: int  # of the gloss in its entry
    glosses: int  # of the entry
    length: int  # characters of the headword
    word: _Headword
    gloss: str


class _LeftOut(Exception):
    """A word or gloss that is not taken; the argument is the reason."""


class Choice:
    """Entries are added one by one, in the order of the file; `take` ends the choice.

    Of a headword with equivalents among the `things`, a list of the English words whose look the base knows, these are
    taken, and they come first; of any other one the first. Without such a list, and in another language, the base is
    taken to know all. Of one equivalent only its best headwords are kept.
    """

    def __init__(self, language: str, pivot: str, things: Path | None = None) -> None:
        self._language, self._pivot = language, pivot
        self._things = load_things(things) if things is not None and pivot == ENGLISH else None
        self._best: dict[str, list[_Candidate]] = {}  # by gloss, in lower case
        self._reasons = array("b")  # of each entry, the place in `_REASONS`; of one that is taken it does not count

    def add(self, entry: RawEntry) -> None:
        """Add an entry. Raises `UnusableRow` for one that is none."""
        text, glosses, forms = _read_texts(entry)
        try:
            names = clean_headword(text, self._language)
            if isinstance(entry.pos, str) and entry.pos.strip(" .").lower() in _FUNCTIONS:
                raise _LeftOut("grammar")
            equivalents = find_equivalents(glosses, self._pivot)
        except _LeftOut as fault:
            self._reasons.append(_REASONS.index(str(fault)))
            return
        others = (*names[1:], *_clean_forms(forms, self._language))
        word = _Headword(len(self._reasons), entry.line, names[0], tuple(dict.fromkeys(others)))
        is_new = [self._propose(word, equivalents, place) for place in range(len(equivalents))]
        self._reasons.append(_REASONS.index("common_gloss" if any(is_new) else "repeated"))

    def _propose(self, word: _Headword, equivalents: Sequence[tuple[str, bool]], place: int) -> bool:
        """Keep a pair if it is among the best of its gloss; return whether the headword is new there."""
        gloss, explained = equivalents[place]
        rivals = self._best.setdefault(gloss.casefold(), [])
        if any(rival.word.text == word.text for rival in rivals):
            return False
        rivals.append(_Candidate(explained, place, len(equivalents), len(word.text), word, gloss))
        rivals.sort()
        del rivals[WORDS_OF_A_GLOSS:]
        return True

    def take(self) -> tuple[list[Row], DictionaryReport]:
        """Return the rows of the pairs, things first, and the report."""
        pairs = [each for rivals in self._best.values() for each in rivals]
        pairs.sort(key=lambda each: (each.word.number, each.place))
        things = {gloss for gloss in self._best if self._things is None or _is_among(gloss, self._things)}
        senses, chosen = Counter[str](), list[_Candidate]()
        for each in pairs if self._things is None else _prefer_things(pairs, things):
            if senses[each.word.text] == MAX_SENSES:
                self._reasons[each.word.number] = _REASONS.index("repeated")
            else:
                senses[each.word.text] += 1
                chosen.append(each)
        if len(chosen) > MAX_PAIRS:  # each gloss keeps its best headwords, and no letter of the alphabet loses more
            ranks = {id(each): rank for rivals in self._best.values() for rank, each in enumerate(rivals)}
            chosen.sort(key=lambda each: (each.gloss.casefold() not in things, ranks[id(each)]))
            most = self._count_fitting(chosen)
            for each in chosen[most:]:
                self._reasons[each.word.number] = _REASONS.index("beyond_limit")
            del chosen[most:]
        taken = {each.word.number for each in chosen}
        counts = Counter(_REASONS[reason] for number, reason in enumerate(self._reasons) if number not in taken)
        step = max(1, len(chosen) // _EXAMPLES)
        examples = [{"word": each.word.text, "gloss": each.gloss} for each in chosen[::step][:_EXAMPLES]]
        report = DictionaryReport(len(self._reasons), len(taken), dict(counts.most_common()), examples)
        return [*self._make_rows(chosen)], report

    def _count_fitting(self, pairs: Sequence[_Candidate]) -> int:
        """Return how many of the first pairs there is room for, in a script without spaces beside their other forms.

        There a form is another spelling, such as kana beside kanji, which no rule finds.
        """
        if is_spaced(each.word.text for each in pairs):
            return MAX_PAIRS
        sizes = accumulate(1 + len(each.word.forms) for each in pairs)
        return sum(size <= MAX_PAIRS for size in sizes)

    def _make_rows(self, pairs: Sequence[_Candidate]) -> Iterator[Row]:
        spare, known = MAX_PAIRS - len(pairs), {(each.word.text, each.gloss.casefold()) for each in pairs}
        for each in pairs:
            pivot = Pivot(self._pivot, each.gloss)
            yield Row(each.word.line, each.word.text, pivot, None, None)
            for form in each.word.forms:
                if spare and (form, each.gloss.casefold()) not in known:
                    known.add((form, each.gloss.casefold()))
                    spare -= 1
                    yield Row(each.word.line, form, pivot, None, None)


def _prefer_things(pairs: Sequence[_Candidate], things: Collection[str]) -> list[_Candidate]:
    naming = {each.word.text for each in pairs if each.gloss.casefold() in things}
    others = {each.word.text: each for each in reversed(pairs) if each.word.text not in naming}
    return [*(each for each in pairs if each.gloss.casefold() in things), *reversed(others.values())]


def _is_among(gloss: str, things: Collection[str]) -> bool:
    """Return whether a gloss in small letters is one of the things, or the plural of one."""
    singulars = (gloss.removesuffix(end) + single for end, single in _PLURALS if gloss.endswith(end))
    return gloss in things or any(singular in things for singular in singulars)


def _read_texts(entry: RawEntry) -> tuple[str, list[str], list[str]]:
    """Return headword, glosses and forms, as many of them as are looked at; raises `UnusableRow`."""
    if entry.word in (None, ""):
        raise UnusableRow("missing_word")
    if not isinstance(entry.word, str):
        raise UnusableRow("word_not_text")
    try:
        clean(entry.word[:_READ_CHARACTERS])
    except InvalidInput as error:
        raise UnusableRow(f"word_{error.code}") from error
    forms = [] if entry.forms is None else _read_list(entry.forms, "forms_invalid")
    return entry.word[:_READ_CHARACTERS], _read_list(entry.glosses, "glosses_invalid"), forms


def swap_entry(entry: RawEntry) -> Iterator[RawEntry]:
    """Yield an entry for each gloss, whose only gloss is the word; raises `UnusableRow` as for any other."""
    text, glosses, _ = _read_texts(entry)
    words = [sense.strip() for sense in _split_senses(glosses)]
    yield from (replace(entry, word=word, glosses=[text], forms=None) for word in [*filter(None, words)] or [""])


def _read_list(value: object, fault: str) -> list[str]:
    texts: list[Any] = value[:_READ] if isinstance(value, list) else [None]
    if not all(isinstance(each, str) for each in texts):
        raise UnusableRow(fault)
    return texts


def clean_headword(text: str, language: str) -> list[str]:
    """Return the headword as people write it, and other forms: with stress marks or article, behind a comma.

    Raises `_LeftOut`.
    """
    first, *others = _BETWEEN.split(_drop_brackets(text))
    marked = _clean_text(first)
    if not marked or marked.startswith("-") or marked.endswith("-"):
        raise _LeftOut("grammar")
    if len(marked) > _LONGEST or len(marked.split()) > _LONGEST_WORD:
        raise _LeftOut("too_long")
    if is_in_script(marked, language) is False:
        raise _LeftOut("script")
    written = _STRESS.sub("", _VOWEL_MARKS.sub("", marked)).strip()
    if not written:
        raise _LeftOut("grammar")
    # `Hund, der`; `colour, color`
    variants = [each for each in others[:MAX_FORMS] if len(each.strip()) > _LONGEST_ARTICLE]
    also = [marked] if _STRESS.search(marked) else []
    if language.partition("-")[0] in _ARABIC and (bare := _ARABIC_ARTICLE.sub("", written)) != written:
        written, also = bare, [written, *also]
    return [written, *also, *_clean_forms(variants, language)]


def _clean_forms(texts: Sequence[str], language: str) -> list[str]:
    forms = list[str]()
    for text in texts:
        try:
            forms += clean_headword(text[:_READ_CHARACTERS], language)[:1]
        except _LeftOut:
            continue
    return [*dict.fromkeys(forms)][:MAX_FORMS]


def find_equivalents(glosses: Sequence[str], pivot: str) -> list[tuple[str, bool]]:
    """Return the first equivalents, one of each sense before their second ones, and which of them only name the kind.

    Raises `_LeftOut`.
    """
    senses, reasons = list[list[tuple[str, bool]]](), list[str]()
    for sense in _split_senses(glosses, lambda text: _drop_brackets(_NUMBER.sub("", text))):
        try:
            senses.append(_split_sense(sense, pivot))
        except _LeftOut as fault:
            reasons.append(str(fault))
    in_turn = sorted(
        ((depth, place, each) for place, sense in enumerate(senses) for depth, each in enumerate(sense)),
        key=lambda item: item[:2],
    )
    found = dict[str, tuple[str, bool]]()
    for _, _, (gloss, explained) in in_turn:
        found.setdefault(gloss.casefold(), (gloss, explained))
    if not found:
        raise _LeftOut(next((reason for reason in reasons if reason != "no_gloss"), "no_gloss"))
    return [*found.values()][:MAX_SENSES]


def _split_senses(glosses: Sequence[str], clear: Callable[[str], str] = str) -> Iterator[str]:
    """Yield what stands between the semicolons of glosses, as many as are looked at; each is cleared first."""
    senses = (sense for text in glosses for sense in _BETWEEN_SENSES.split(clear(text[:_READ_CHARACTERS])))
    return islice(senses, _READ)


def _split_sense(text: str, pivot: str) -> list[tuple[str, bool]]:
    """Return the equivalents between the commas of one sense; raises `_LeftOut` if it is a sentence."""
    parts = [part for each in _BETWEEN.split(text) if (part := _clean_text(each))]
    if pivot != ENGLISH:
        found = [(part, False) for part in parts if is_in_script(part, pivot) is not False]
    else:
        if _OF_GRAMMAR.search(text):
            raise _LeftOut("grammar")
        articles = [bool((opening := _OPENING.match(part)) and opening["article"]) for part in parts]
        if articles[:1] == [True] and not all(articles):  # `a small, round fruit`
            raise _LeftOut("definition")
        found = [_cut_english(part) for part in parts if is_in_script(part, pivot) is not False]
    if not found:
        raise _LeftOut("no_gloss")
    if any(len(gloss) > _LONGEST or len(gloss.split()) > _LONGEST_GLOSS for gloss, _ in found):
        raise _LeftOut("definition")
    return found


def _cut_english(text: str) -> tuple[str, bool]:
    """Return `eat` of `to eat`, and with True `tree` of `a kind of tree`; raises `_LeftOut` for other explanations."""
    if kind := _KIND_OF.match(text):
        return _MORE.sub("", kind["rest"]), True
    bare = _OPENING.sub("", text)
    if _ABOUT.match(bare) or _RELATIVE.search(bare):
        raise _LeftOut("definition")
    return bare, False


def _drop_brackets(text: str) -> str:
    """Return the text without pronunciations and brackets, also in one another; one not closed goes to the end."""
    for _ in range(3):
        text = _BRACKETS.sub("", text)
    return _OPEN.split(text, maxsplit=1)[0]


def _clean_text(text: str) -> str:
    """Return a clean text without punctuation at its ends, empty if nothing is left that can be read."""
    try:
        return clean(text).strip(_EDGES)
    except InvalidInput:
        return ""
