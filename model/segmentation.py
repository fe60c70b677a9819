"""Words of scripts that are written without spaces: found in a corpus, by what stands alone in it. No tokens.

Merges learned from such text would join the end of one word to the start of the next, and a new sentence would fall
into pieces that were never trained. A run of letters that stands alone somewhere (a short caption, or between spaces
and punctuation) is taken for a word wherever it occurs in longer runs.
"""

from collections.abc import Iterable

import regex

_LOGOGRAPHIC = r"\p{Han}\p{Hiragana}\p{Katakana}"
_SYLLABIC = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Tai_Tham}\p{New_Tai_Lue}\p{Tai_Viet}\p{Javanese}"
# letters and marks of these scripts, and the joiners and prolongation marks between them
_RUN = regex.compile(rf"[{_LOGOGRAPHIC}{_SYLLABIC}](?:[{_LOGOGRAPHIC}{_SYLLABIC}\p{{M}}\u30fc\u3005\u200c\u200d])*")
_SHORT = regex.compile(rf"[{_LOGOGRAPHIC}\u30fc\u3005]{{2,3}}")  # two of these can be a word; elsewhere it takes four
_LEAST = 4


def standalone_words(corpus: Iterable[str]) -> tuple[str, ...]:
    """Runs of unspaced scripts in `corpus` that are no compound of shorter ones; longest first, deterministic.

    A compound is a run of which at least half is covered by shorter runs, read from the left, longest first.
    """
    runs = {run for text in corpus for run in _RUN.findall(text) if len(run) >= _LEAST or _SHORT.fullmatch(run)}
    longest = max(map(len, runs), default=0)
    words = [run for run in runs if 2 * _covered(run, runs, longest) < len(run)]
    return tuple(sorted(words, key=lambda word: (-len(word), word)))


def _covered(run: str, runs: set[str], longest: int) -> int:
    """How many characters of `run` lie in shorter runs."""
    place = covered = 0
    while place < len(run):
        lengths = range(min(longest, len(run) - place, len(run) - 1), 1, -1)
        found = next((length for length in lengths if run[place : place + length] in runs), 0)
        covered += found
        place += found or 1
    return covered
