"""Files that only pretend to be a dictionary: each is refused in a sentence, and before it fills memory."""

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.client.test_commands import run
from tests.client.test_dictionaries import KISSA, TEI, encode_number, make_dict, make_stardict, read, refuse, write


def make_long_dict(folder: Path) -> Path:
    index = make_dict(folder / "x", ["kissa\ncat"])
    return write(index, f"kissa\tA\t{encode_number(1 << 30)}\n")


def make_overlapping_dict(folder: Path) -> Path:
    index = make_dict(folder / "x", ["kissa\ncat"])
    return write(index, "kissa\tA\tJ\nissa\tB\tI\n")


def make_stardict_without_index(folder: Path) -> Path:
    info = make_stardict(folder / "x", [("kissa", b"cat")])
    info.with_suffix(".idx").unlink()
    return info


def make_cut_stardict(folder: Path) -> Path:
    info = make_stardict(folder / "x", [("kissa", b"cat")])
    return write(info.with_suffix(".idx"), info.with_suffix(".idx").read_bytes()[:-2]).with_suffix(".ifo")


def make_lonely_index(folder: Path) -> Path:
    index = make_dict(folder / "x", ["kissa\ncat"])
    index.with_suffix(".dict.dz").unlink()
    return index


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "text cut off": (lambda f: make_dict(f / "x", ["kissa\ncat", "koira\ndog"], cut=3), "ends before its index does"),
    "text missing": (make_lonely_index, ".dict.dz or .dict file, must lie beside it"),
    "lying length": (make_long_dict, "more than 1,000,000 bytes"),
    "overlap": (make_overlapping_dict, "do not belong together"),
    "stardict without index": (make_stardict_without_index, "its .idx file, must lie beside it"),
    "stardict cut off": (make_cut_stardict, "is not whole"),
    "text alone": (lambda f: write(f / "x.dict", "kissa\ncat"), "The .index or .ifo file of x.dict"),
    "gzip cut off": (lambda f: write(f / "x.csv", gzip.compress(b"kissa,cat\n" * 99)[:-9]), "is not whole"),
    "gzip damaged": (lambda f: write(f / "x.csv", b"\x1f\x8bnothing of the kind"), "is damaged"),
    "archive": (lambda f: write(f / "x.zip", b"PK\x03\x04" + bytes(99)), "is an archive"),
    "package": (lambda f: write(f / "x.deb", b"!<arch>\ndebian-binary"), "is an archive"),
    "binary": (lambda f: write(f / "x.bin", bytes(range(256))), "no text in UTF-8"),
    "UTF-16": (lambda f: write(f / "x.csv", "kissa,cat".encode("utf-16")), "no text in UTF-8"),
    "Latin-1": (lambda f: write(f / "x.csv", "word,english\nkäsi,hand\n".encode("latin-1")), "Line 2 is not UTF-8"),
    "empty": (lambda f: write(f / "x.csv", b"\n\n"), "is empty"),
    "only a header": (lambda f: write(f / "x.csv", b"word,english\n"), "has no entry"),
    "prose": (lambda f: write(f / "x.txt", "All cats are grey.\n" * 9), "no table of two columns"),
    "three columns": (lambda f: write(f / "x.csv", "kissa,n,cat\n" * 9), "name the columns in the first line"),
    "open quote": (lambda f: write(f / "x.csv", 'word,english\n"kissa,cat\n'), "A quote in row"),
    "list of JSON": (lambda f: write(f / "x.json", json.dumps([KISSA], indent=1)), "Line 1 is no whole JSON object"),
    "captions": (lambda f: write(f / "x.jsonl", '{"caption": "kissa", "english": "cat"}'), "Line 1 has no glosses"),
    "deep JSON": (lambda f: write(f / "x.jsonl", '{"glosses": ' + "[" * 99_999), "Line 1 is no whole JSON object"),
    "other XML": (lambda f: write(f / "x.xml", "<html/>"), "neither TEI nor"),
    "XML cut off": (lambda f: write(f / "x.tei", TEI.format("<entry/>")[:-9]), "no whole XML document"),
    "unknown encoding": (lambda f: write(f / "x.tei", '<?xml version="1.0" encoding="x"?><TEI/>'), "no whole XML"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_dictionary_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    make, sentence = BAD[name]
    assert sentence in refuse(make(tmp_path))


HUGE = 40_000_000  # bytes, several times what may be held in memory
LAUGHS = (
    "<!DOCTYPE TEI [<!ENTITY a 'ha'>"
    + "".join(f"<!ENTITY {b} '{f'&{a};' * 99}'>" for a, b in zip("abcde", "bcdef", strict=True))
    + "]>"
)
BOMBS: dict[str, tuple[str, bytes, str]] = {
    "gzip bomb": (
        "x.csv",
        gzip.compress(b"word,english\n" + (b"kissa," + b"c" * 9_000 + b"\n") * (HUGE // 9_000)),
        "too much",
    ),
    "long line": ("x.csv", b"kissa,cat\nkoira," + b"d" * HUGE, "Line 2 has more than 1,000,000 bytes"),
    "entities": ("x.tei", f"{LAUGHS}<TEI><entry>&f;</entry></TEI>".encode(), "defines entities"),
    "long element": ("x.tei", TEI.format("<entry>" + "x" * HUGE).encode(), "An entry has more than 1,000,000 bytes"),
    "many elements": ("x.tei", TEI.format("<a>1234567</a>" * (HUGE // 14)).encode(), "An entry has more than"),
    "document": ("x.json", b'{"annotations": [' + b" " * HUGE, "larger than a file of its kind"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_fill_memory_is_refused_before_it_does(tmp_path: Path, name: str) -> None:
    file, content, sentence = BOMBS[name]
    path = write(tmp_path / "fi" / file, content)
    write(tmp_path / "en" / "x.json", "{}")
    assert sentence in bound_memory(lambda: refuse(path))


@pytest.mark.parametrize("piece", ['<a "', "<![", "<!--", "</", "<", "&", "{", "[", "(", " 1.", " /a", "/ "])
def test_an_article_of_nothing_but_beginnings_is_read_in_one_go(tmp_path: Path, piece: str) -> None:
    article = "kissa\n" + piece * (900_000 // len(piece)) + "\n"
    for kind in "hm":
        info = make_stardict(
            tmp_path / kind, [("kissa", article.encode()), ("b", b"cat")], f"sametypesequence={kind}\n"
        )
        assert [entry["word"] for entry in read(info)] == ["kissa", "b"]


def test_a_text_of_dict_that_grows_is_refused_before_it_fills_memory(tmp_path: Path) -> None:
    index = write(make_dict(tmp_path / "x", ["kissa\ncat"]), f"kissa\t{encode_number(HUGE)}\tJ\n")
    write(index.with_suffix(".dict.dz"), gzip.compress(bytes(HUGE)))
    assert "grows too much when it is decompressed" in bound_memory(lambda: refuse(index))


def bound_memory(act: Callable[[], str]) -> str:
    """Return what it returns; it must not hold as much as the files pretend to."""
    run(None, "learn", "--help")  # what is imported once
    tracemalloc.start()
    try:
        found = act()
        assert tracemalloc.get_traced_memory()[1] < HUGE
        return found
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_a_million_entries_are_the_most(tmp_path: Path) -> None:
    sentence = "more than 1,000,000 entries; teach it in parts"
    assert sentence in refuse(write(tmp_path / "x.tsv", "a\tb\n" * 1_000_001))
    index = make_dict(tmp_path / "x", ["kissa\ncat"])
    lines = (f"a\t{encode_number(number)}\tB\n" for number in range(1_000_001))
    assert sentence in refuse(write(index, "".join(lines)))


def test_one_file_is_given(tmp_path: Path) -> None:
    file = str(write(tmp_path / "x.csv", "kissa,cat\n"))
    for arguments in ((), (file, "--dictionary", file)):
        result = run(None, "learn", "fi", *arguments)
        assert result.exit_code == 2 and "Give one file" in result.stderr
    for option, value in (("--pivot", "de"), ("--english", file)):
        assert run(None, "learn", "fi", file, option, value).exit_code == 2
