"""Words of scripts that are written without spaces, learned from what stands alone in a corpus. Makes no tokens.

Merges learned from such text would join the end of one word to the start of the next, and a new sentence would be cut
into pieces that were never trained. A run of letters that stands alone somewhere (a short caption, or between spaces
and punctuation) is treated as a word wherever it occurs in longer runs.
"""

import re
from collections import Counter
from collections.abc import Iterable

import regex

_LOGOGRAPHIC = r"\p{Han}\p{Hiragana}\p{Katakana}"
_SYLLABIC = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Tai_Tham}\p{New_Tai_Lue}\p{Tai_Viet}\p{Javanese}"
UNSPACED = _LOGOGRAPHIC + _SYLLABIC  # for a set in a pattern of `regex`
# letters and marks of these scripts, and the joiners and prolongation marks between them
_RUN = regex.compile(rf"[{_LOGOGRAPHIC}{_SYLLABIC}](?:[{_LOGOGRAPHIC}{_SYLLABIC}\p{{M}}\u30fc\u3005\u200c\u200d])*")
_SHORT = regex.compile(rf"[{_LOGOGRAPHIC}\u30fc\u3005]{{2,3}}")  # two of these can be a word; elsewhere it takes four
_LEAST, _LONGEST = 4, 24  # characters; what is longer is a sentence
_PHRASE = 12  # characters up to which a run that never occurs in a longer one counts as a word as well
_MOST = 4_000  # words a language: a text of 30 characters is cut in well under a millisecond


def find_standalone_words(corpus: Iterable[str]) -> tuple[str, ...]:
    """Find runs of unspaced scripts that stand alone in `corpus`: short ones, and those that longer runs contain too.

    At most 4,000, the most frequent first. Compounds are left out: runs of which at least half is covered by shorter
    ones, read from the left, longest first.
    """
    runs = {run for text in corpus for run in _RUN.findall(text)}
    candidates = {run for run in runs if _LEAST <= len(run) <= _LONGEST or _SHORT.fullmatch(run)}
    uses: Counter[str] = Counter()
    compounds: set[str] = set()
    for run in runs:
        inside = _find_inside(run, candidates)
        uses.update(inside)
        if 2 * sum(map(len, inside)) >= len(run):
            compounds.add(run)
    words = sorted(
        (word for word in candidates - compounds if uses[word] or len(word) <= _PHRASE),
        key=lambda word: (-uses[word], word),
    )
    return tuple(words[:_MOST])


def build_pattern(words: Iterable[str]) -> str:
    """Return a regular expression that finds the longest of `words`; words of one first letter share its test."""
    rests: dict[str, list[str]] = {}
    for word in sorted(words, key=lambda word: (-len(word), word)):
        rests.setdefault(word[0], []).append(re.escape(word[1:]))
    return "|".join(f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in sorted(rests.items()))


def is_spaced(texts: Iterable[str]) -> bool:
    """Return whether most letters of `texts` are of scripts that put spaces between words."""
    letters = unspaced = 0
    for text in texts:
        letters += sum(map(str.isalpha, text))
        unspaced += sum(map(len, _RUN.findall(text)))
    return 2 * unspaced <= letters


def _find_inside(run: str, candidates: set[str]) -> list[str]:
    """Return the candidates shorter than `run` that it holds, read from the left, longest first."""
    words: list[str] = []
    place = 0
    while place < len(run):
        lengths = range(min(_LONGEST, len(run) - place, len(run) - 1), 1, -1)
        word = next((run[place : place + n] for n in lengths if run[place : place + n] in candidates), "")
        if word:
            words.append(word)
        place += len(word) or 1
    return words
