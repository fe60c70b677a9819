"""FreeDict's dictionaries as a worker reads them, and what they answer when a gallery asks for words.

Debian's packages have them (CC BY-SA or GPL, their copyright files say which): fetched into a cache, never into this
repository.
"""

import gzip
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.emoji36.errors import Refused
from benchmarks.stamps.bench import Bench, Pair, make_folder
from benchmarks.stamps.data import CODES
from client.dictionaries import write_dictionary
from client.dictionaries.lines import DictionaryError
from index.coverage import Vocabulary, rank_words
from model import dataset
from model.languages import ENGLISH
from store import files

_TURNED = frozenset({"hi"})
_DICTIONARIES = Path("usr/share/dictd")
_ANSWERS = 3  # headwords at most for a word that is asked: a speaker may give several, too
_ASKED = 6  # times as many words are chosen as are answered: a dictionary has not all of them


def read_dictionary(bench: Bench, language: str) -> list[Pair]:
    """Return the pairs that a worker takes of a language's dictionary.

    Raises `Refused`.
    """
    pairs = read_pairs(make_folder(bench.work / "freedict"), language, bench.encoder.things)
    return [Pair("", caption, text) for caption, text in pairs]


def read_pairs(folder: Path, language: str, things: Path | None = None) -> list[tuple[str, str]]:
    """Return headwords and glosses of a language's dictionary, which is fetched into `folder` unless it is there.

    Raises `Refused`.
    """
    if language not in CODES:
        raise Refused(f"freedict: Debian has no dictionary of {language} into English")
    lines = folder / f"{language}.jsonl.gz"
    if not lines.is_file():
        name = f"eng-{CODES[language]}" if language in _TURNED else f"{CODES[language]}-eng"
        index = _fetch(folder, name)
        with gzip.open(folder / f"{language}.part", "wb") as target:
            try:
                write_dictionary(index, ENGLISH if language in _TURNED else language, None, target)
            except DictionaryError as error:
                raise Refused(f"freedict: {error}") from error
        if language in _TURNED:
            _turn(folder / f"{language}.part")
        (folder / f"{language}.part").rename(lines)
    found = dataset.read(lines, language=language, pivot=ENGLISH, things=things)
    return [(row.caption, row.pivot.text) for row in found.rows if row.pivot is not None]


def answer_words(bench: Bench, language: str, count: int) -> list[Pair]:
    """Return what the dictionary answers to the first `count` words that the photographs ask for and it has.

    Each is answered by its first headwords, of which three find more than one.

    Raises `Refused`.
    """
    answers: dict[str, list[Pair]] = {}
    for pair in read_dictionary(bench, language):
        answers.setdefault(pair.other.lower(), []).append(pair)
    chosen = [answers[word][:_ANSWERS] for word in _choose_words(bench, count * _ASKED) if word in answers][:count]
    if not chosen:
        raise Refused(f"asked: the dictionary of {language} has no word that the photographs ask for")
    return [pair for pairs in chosen for pair in pairs]


def _choose_words(bench: Bench, count: int) -> Sequence[str]:
    """Return the English words that the photographs ask for, the most useful ones first."""
    path = bench.folder / f"words-{count}.json"
    if not path.is_file():
        places, vectors = bench.galleries["photographs"]
        words, matrix = Vocabulary(bench.encoder, bench.work).read((), lambda: None)
        asked = rank_words(words, matrix, {name: vectors[row] for name, row in places.items()})
        files.write_json(path, [each.english for each in asked.choose(count, (), ())])
    chosen: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return chosen


def _fetch(folder: Path, name: str) -> Path:
    """Return the index of a dictionary below `folder`, fetched with Debian's package manager unless it is there."""
    index = folder / _DICTIONARIES / f"freedict-{name}.index"
    if not index.is_file():
        package = f"dict-freedict-{name}"
        try:
            subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True)
            (file,) = folder.glob(f"{package}_*.deb")
            subprocess.run(["dpkg-deb", "-x", str(file.resolve()), str(folder.resolve())], check=True)
            file.unlink()
        except (FileNotFoundError, ValueError, subprocess.CalledProcessError) as error:
            raise Refused(f"freedict: {package} cannot be fetched here") from error
    return index


def _turn(path: Path) -> None:
    """Turn a file of entries round: each gloss is an entry, and the headword its gloss."""
    turned: dict[str, list[str]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for entry in map(json.loads, lines):
            for gloss in entry["glosses"]:
                for word in gloss.split(","):
                    turned.setdefault(word.strip(), []).append(entry["word"])
    with gzip.open(path, "wt", encoding="utf-8") as target:
        for word, glosses in turned.items():
            target.write(json.dumps({"word": word, "glosses": glosses}, ensure_ascii=False) + "\n")
