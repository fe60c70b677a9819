"""One case of a row: what is taught, what is asked, and the result, written at once and not measured again."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import regex
from filelock import FileLock, Timeout

from benchmarks.emoji36 import lexicon
from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.run import commit
from benchmarks.stamps.bench import Bench, Pair, Taught, make_folder, sort_by_hash
from benchmarks.stamps.cases import Case, Row, described
from benchmarks.stamps.dictionaries import answer_words, read_dictionary
from model.encoder import View
from model.languages import ENGLISH
from model.lexicon import Detector
from model.text import clean
from store import files

_LONGEST = 3  # words that are translated as one
SHARE = 0.3  # of the captions that the row `held_out` does not teach
Result = dict[str, Any]
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}\u200c\u200d'’-]+")


def build_path(bench: Bench, case: Case) -> Path:
    """Return the file of the result."""
    return bench.folder / case.row / f"{case.name}.json"


def read(bench: Bench, case: Case) -> Result | None:
    """Return what was measured of the case, if it was."""
    path = build_path(bench, case)
    if not path.is_file():
        return None
    found: Result = json.loads(path.read_text(encoding="utf-8"))
    return found


def fill(
    bench: Bench, cases: Sequence[Case], tell: Callable[[Case, Result], None], refused: Callable[[str], None]
) -> None:
    """Measure every case that has no result, but for those of which `refused` hears why they cannot be.

    Those that another process measures now are waited for at the end.
    """
    left = [*cases]
    for patience in (0, -1):  # seconds
        left = [case for case in left if not _is_done(bench, case, tell, refused, patience)]


def _is_done(
    bench: Bench, case: Case, tell: Callable[[Case, Result], None], refused: Callable[[str], None], patience: int
) -> bool:
    path = build_path(bench, case)
    path.parent.mkdir(parents=True, exist_ok=True)
    # a chain is taught in its order, so only one process can be at it
    lock = path.parent / ".lock" if case.chain else path.with_suffix(".lock")
    try:
        with FileLock(lock, timeout=patience):
            result = read(bench, case)
            if result is None:
                try:
                    measured = _MEASURES[case.row](bench, case)
                except Refused as refusal:
                    refused(str(refusal))
                    return True
                result = described(case) | measured
                files.write_json(path, result)
                if not case.chain:  # the next one is taught on it
                    files.remove(_place(bench, case))
    except Timeout:
        return False
    tell(case, result)
    return True


def _measure_english(bench: Bench, case: Case) -> Result:
    asked, _ = bench.ask(bench.list_pairs(ENGLISH), bench.encoder.base_view)
    return {"asked": {"english": asked}}


def _measure_seen(bench: Bench, case: Case) -> Result:
    """Teach all captions, and ask by all."""
    pairs = bench.list_pairs(case.language)
    taught = bench.teach(case.language, pairs, _place(bench, case))
    return _build_result(taught, {"taught": bench.ask(pairs, taught.view)[0]})


def _measure_held_out(bench: Bench, case: Case) -> Result:
    """Teach some captions only. `known` are the pictures of the others that consist of taught words alone."""
    return _without_some(bench, case, [])


def _measure_dictionary(bench: Bench, case: Case) -> Result:
    """Add names of emoji and their English as pairs: a list of words that most languages have."""
    return _without_some(bench, case, [*read_emoji_names(bench.work / "npm", case.language).values()])


def _measure_freedict(bench: Bench, case: Case) -> Result:
    """Teach a dictionary alone, and ask by all captions; also by what it makes of them in English, word by word.

    That is the *translate-test* of the literature; `both` adds the two scores.
    """
    pairs = read_dictionary(bench, case.language)
    said = {pair.caption.lower(): pair.other for pair in reversed(pairs)}  # of several senses the first
    return _ask_all(bench, case, pairs, lambda caption: translate(caption, said))


def _measure_freedict_more(bench: Bench, case: Case) -> Result:
    """Teach a dictionary beside some captions, and ask by the others."""
    return _without_some(bench, case, read_dictionary(bench, case.language))


def translate(caption: str, said: Mapping[str, str]) -> str:
    """Put together what is said of the longest known sequences of words; what is unknown stays as it is."""
    words, found, at = split_words(caption), list[str](), 0
    while at < len(words):
        size = next((size for size in range(_LONGEST, 1, -1) if " ".join(words[at : at + size]) in said), 1)
        part = " ".join(words[at : at + size])
        found.append(said.get(part, part))
        at += size
    return " ".join(found)


def _measure_asked(bench: Bench, case: Case) -> Result:
    """Teach so many words that the photographs ask for, as the dictionary answers, and ask by all captions."""
    return _ask_all(bench, case, answer_words(bench, case.language, case.pairs))


def _ask_all(
    bench: Bench, case: Case, pairs: Sequence[Pair], into_english: Callable[[str], str] | None = None
) -> Result:
    captions = bench.list_pairs(case.language)
    taught = bench.teach(case.language, pairs, _place(bench, case))
    said = [pair.caption for pair in captions]
    own = bench.encode(said, taught.view)
    asked = {"new": own}
    if into_english is not None:
        translated = bench.encode([*map(into_english, said)], bench.encoder.base_view)
        asked |= {"translated": translated, "both": own + translated}
    ranks = {name: bench.rank(captions, vectors) for name, vectors in asked.items()}
    return _build_result(taught, ranks) | {"known": _find_known(captions, pairs)}


def _without_some(bench: Bench, case: Case, more: Sequence[Pair]) -> Result:
    new, old = _split(bench.list_pairs(case.language), case.language)
    taught = bench.teach(case.language, [*old, *more], _place(bench, case))
    return _build_result(taught, _measure_both(bench, taught, old, new)) | {"known": _find_known(new, [*old, *more])}


def _split(pairs: Sequence[Pair], language: str) -> tuple[list[Pair], list[Pair]]:
    """Return those that the row `held_out` does not teach, and those that it does."""
    hashed = sort_by_hash(pairs, f"held-out {language}")
    new, old = ([pair for at, pair in hashed if (at < SHARE) == out] for out in (True, False))
    return new, old


def _find_known(new: Sequence[Pair], old: Sequence[Pair]) -> list[str]:
    """Return the pictures of new captions of which every word stands in an old one."""
    words = {word for pair in old for word in split_words(pair.caption)}
    return [pair.picture for pair in new if words >= {*split_words(pair.caption)}]


def _measure_adapter(bench: Bench, case: Case) -> Result:
    """Return what the rows `seen` and `held_out` ask, taught with an adapter beside the language's rows."""
    assert case.adapter is not None
    place, pairs = make_folder(_place(bench, case)), bench.list_pairs(case.language)
    new, old = _split(pairs, case.language)
    asked: dict[str, Any] = {}
    started = time.monotonic()
    for which, lesson, asking in (("taught", pairs, pairs), ("new", old, new)):
        taught = bench.teach_adapted(case.language, lesson, place, case.adapter)
        asked[which] = bench.ask(asking, taught.view, taught.reader)[0]
    seconds = round(time.monotonic() - started, 1)  # of both
    return {"pairs": len(pairs), "seconds": seconds, "commit": commit(), "asked": asked, "known": _find_known(new, old)}


def read_emoji_names(folder: Path, language: str, other: str = ENGLISH) -> dict[str, Pair]:
    """Return what CLDR calls characters in a language, and in English or another one, by character and in CLDR's order.

    Characters are emoji, and signs such as brackets and arrows. Variants, such as those with a skin tone, are left out.

    The packages are fetched into `folder` unless they are there. A language that CLDR does not have is refused.
    """
    with FileLock(make_folder(folder) / ".lock"):
        if not (folder / "node_modules").is_dir():
            lexicon.fetch(folder)
    try:
        said = lexicon.read_cldr(folder, [ENGLISH, language, other])
    except Refused as error:
        tags = " or ".join(tag for tag in (language, other) if tag != ENGLISH)
        raise Refused(f"dictionary: Unicode's CLDR has no names of emoji in {tags}") from error
    pairs = {
        emoji: Pair("", clean(word.name), clean(said[other][emoji].name))
        for emoji, word in said[language].items()
        if (english := said[ENGLISH].get(emoji)) is not None and ":" not in english.name and emoji in said[other]
    }
    return {emoji: pair for emoji, pair in pairs.items() if pair.caption != pair.other}


def _measure_few(bench: Bench, case: Case) -> Result:
    """Teach the first pairs by a hash of their captions, so that a larger set has those of a smaller one."""
    ordered = [pair for _, pair in sort_by_hash(bench.list_pairs(case.language), f"few {case.language}")]
    taken: dict[tuple[str, str], None] = {}
    for pair in ordered:
        if len(taken) < case.pairs:
            taken[pair.caption, pair.other] = None
    said = {caption for caption, _ in taken}
    old = [pair for pair in ordered if (pair.caption, pair.other) in taken]
    new = [pair for pair in ordered if pair.caption not in said]
    taught = bench.teach(case.language, old, _place(bench, case))
    return _build_result(taught, _measure_both(bench, taught, old, new))


def _measure_pivot(bench: Bench, case: Case) -> Result:
    """Return the pairs are with texts in another language, whose own version, taught from English, is the teacher."""
    first = bench.teach(case.pivot, bench.list_pairs(case.pivot), bench.folder / "teachers" / case.pivot)
    pairs = bench.list_pairs(case.language, case.pivot)
    taught = bench.teach(case.language, pairs, _place(bench, case), pivot=first.view)
    return _build_result(taught, {"taught": bench.ask(pairs, taught.view)[0]})


def _measure_chain(bench: Bench, case: Case) -> Result:
    """Read every language so far by the newest version, by its own one, and by that of the detected language.

    Each is taught on the version before it, as the service has it. English is read by the base.
    """
    parent, own = bench.encoder.base_view, {ENGLISH: bench.encoder.base_view}
    detector = Detector().replace_counts(ENGLISH, parent.ngrams)
    for place, language in enumerate(case.chain):
        here = Case("chain", language, chain=case.chain[: place + 1])
        taught = bench.teach(language, bench.list_pairs(language), _place(bench, here), parent)
        parent = own[language] = taught.view
        detector = detector.replace_counts(language, taught.learned.ngrams)

    def detected(caption: str) -> View:
        guess = detector.guess(caption, sorted(own))
        return parent.shared if guess.language is None else own[guess.language]

    result = _build_result(taught, {}) | {"digests": {}}
    for name, reader in (("shared", None), ("addressed", own), ("auto", detected)):
        result["asked"][name] = {}
        for language, view in own.items():
            how = parent.shared if reader is None else view if reader is own else detected
            asked, digest = bench.ask(bench.list_pairs(language), how)
            result["asked"][name][language] = asked
            if name == "addressed":
                result["digests"][language] = digest
    return result


def split_words(caption: str) -> list[str]:
    """Return the words of a clean caption in a script that has spaces, in small letters."""
    found: list[str] = _WORD.findall(caption.lower())
    return found


def _measure_both(bench: Bench, taught: Taught, old: Sequence[Pair], new: Sequence[Pair]) -> Result:
    return {"taught": bench.ask(old, taught.view)[0], "new": bench.ask(new, taught.view)[0]}


def _build_result(taught: Taught, asked: Any) -> Result:
    return {**taught.facts, "asked": asked}


def _place(bench: Bench, case: Case) -> Path:
    """Return where the case is trained."""
    return bench.folder / case.row / f"{case.name}.training"


_MEASURES: dict[Row, Callable[[Bench, Case], Result]] = {
    "english": _measure_english,
    "seen": _measure_seen,
    "held_out": _measure_held_out,
    "chain": _measure_chain,
    "pivot": _measure_pivot,
    "few": _measure_few,
    "dictionary": _measure_dictionary,
    "freedict": _measure_freedict,
    "freedict_more": _measure_freedict_more,
    "asked": _measure_asked,
    "adapter": _measure_adapter,
}
