"""The stamps: what is read of them, how a base is asked; languages taught on a few, from captions alone."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from benchmarks.emoji36.errors import Refused
from benchmarks.methods.addressed import Adapter
from benchmarks.stamps.__main__ import app
from benchmarks.stamps.data import KEPT_AWAY, read_stamps
from benchmarks.stamps.dictionaries import read_pairs
from benchmarks.stamps.english import find_known, measure, open_encoder, open_noun_reader
from benchmarks.stamps.figures import build_triangle, of_half
from benchmarks.stamps.rows import translate
from demo.photos.packages import fetch
from demo.photos.wordnet import WordNet
from index.coverage import weigh_common_words
from tests.benchmarks.emoji_folder import write_annotations
from tests.demo import small_wordnet
from tests.launcher import Program
from tests.tiny import write_tiny_base

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
THINGS = ("boat", "cat", "drum", "egg", "fish", "goat")
WORDS = {  # of the colours and of the things
    "cs": (
        ("rudý", "zelený", "modrý", "žlutý", "nachový", "oranžový"),
        ("člun", "kocour", "buben", "vajíčko", "ryba", "kozel"),
    ),
    "de": (
        ("rotes", "grünes", "blaues", "gelbes", "lila", "oranges"),
        ("Boot", "Kätzchen", "Trommelchen", "Ei", "Fischlein", "Zicklein"),
    ),
}
ENGLISH_ROW = {"test": {"known": {"R@10": 61.2}}}  # as the command `english` writes it
Run = Any


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 photographs with captions in two languages and made-up ones in a third that is kept away; one cartoon."""
    folder = tmp_path_factory.mktemp("stamps")
    for row, colour in enumerate(COLOURS):
        for column, thing in enumerate(THINGS):
            cartoon = "cartoon/" if row == column == 0 else ""
            path = folder / f"animals/{cartoon}{colour}-{thing}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGBA", (64, 32 + 8 * column), colour).save(path)
            said = [f"{tag}.utf8={first[row].capitalize()} {second[column]}." for tag, (first, second) in WORDS.items()]
            refused = "\x07" if row == column == 5 else ""  # by the service, as of a stray key
            lines = [f"A {colour} {thing}.", *said, f"zu.utf8=X{row} y{column}{refused}."]
            path.with_suffix(".txt").write_text("\n".join(lines), "utf-8")
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests, so that the towers are compiled once."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def command(root: Path, tiny_base: str, work: Path) -> Any:
    """The benchmark's command on these pictures; each test has settings, and so results, of its own."""

    def call(name: str, *words: object, at: Path = root) -> Any:
        threads, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        try:
            given = [name, "--root", at, "--base", tiny_base, "--work", work, *words]
            return CliRunner().invoke(app, [*map(str, given)])
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(exact)

    return call


def test_a_run_goes_on_where_it_was_stopped_and_is_reported(
    command: Run, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.stamps.cases.ADAPTERS", (Adapter("lora", 0.5),))
    monkeypatch.setattr("benchmarks.stamps.cases.ASKED", (2,))
    monkeypatch.setattr("index.coverage._STANDS_OUT", 1.0)  # an untrained base sees little
    for tag in ("cs", "de"):
        write_freedict(work, tag)
    write_annotations(work / "npm", "en", {"🍎": {"tts": ["apple"]}, "🐐": {"tts": ["goat"]}})
    write_annotations(work / "npm", "cs", {"🍎": {"tts": ["jablko"]}, "🐐": {"tts": ["kozel"]}})
    write_annotations(work / "npm", "de", {"🍎": {"tts": ["Apfel"]}})
    quick = ("--languages", "cs,de", "--set", "epochs=2")
    whole = command("run", *quick)
    assert whole.exit_code == 0, whole.output
    lines = whole.output.splitlines()
    assert len(lines) == 1 + 8 * 2 + 1 and "on dev" in lines[0] and "pivot de from fr" not in whole.output
    kept = {path: path.stat().st_mtime_ns for path in work.glob("results/*/*/*.json")}
    assert len(kept) == len(lines)

    (stopped,) = work.glob("results/*/chain/02-de-*.json")
    stopped.unlink()  # its version, which the stopped run had written, is read again
    assert sorted(command("run", *quick).output.splitlines()) == sorted(lines)
    assert {path for path, when in kept.items() if path.stat().st_mtime_ns != when} == {stopped}

    out = tmp_path / "report" / "stamps.json"
    out.parent.mkdir()
    out.write_text(json.dumps({"base": "photos", "english": {}}))
    refused = command("report", *quick, "--out", out)
    assert str(refused.exception) == f"--out: {out} has figures of another base; name another file"
    out.write_text(json.dumps({"english": ENGLISH_ROW}))
    reported = command("report", *quick, "--out", out)
    assert reported.exit_code == 0, reported.output
    check(json.loads(out.read_text()))
    assert "| 61.2 | **no** |" in reported.output and reported.output.strip() in out.with_suffix(".md").read_text()
    assert {path.name for path in out.parent.glob("*.png")} == {
        *(f"stamps-{kind}.png" for kind in ("languages", "held-out", "freedict"))
    }

    # a second seed: what both have measured is told as their mean
    assert command("run", *quick, "--rows", "seen", "--set", "seed=1").exit_code == 0
    both, recalls = tmp_path / "both.json", list[float]()
    for words in (("--seeds", "2"), ("--set", "seed=0"), ("--set", "seed=1")):
        assert command("report", *quick, *words, "--out", both).exit_code == 0
        recalls.append(json.loads(both.read_text())["seen"]["mean"]["all"]["R@10"]["value"])
        both.rename(tmp_path / f"{'-'.join(words)}.json")
    assert recalls[0] == pytest.approx(sum(recalls[1:]) / 2, abs=0.1)
    found = json.loads((tmp_path / "--seeds-2.json").read_text())
    assert len(found["by seed"]) == 2 and not found["freedict"]["languages"] and found["seeds"] == [0, 1]


def test_a_language_without_captions_in_a_half_is_refused_and_counts_for_no_zero() -> None:
    names = [str(number) for number in range(20)]
    asked = {tag: {name: [0, 0] for name in names} for tag in ("en", "cs")}
    step = {"chain": ["cs"], "asked": {"shared": asked}}
    assert build_triangle([step], "shared", "dev") == [[1.0, 1.0]]
    asked["cs"] = of_half(asked["cs"], "test")
    with pytest.raises(Refused, match="cs has no captions in the half dev"):
        build_triangle([step], "shared", "dev")


def test_a_caption_is_translated_by_the_longest_words_that_are_known() -> None:
    said = {"kočka": "cat", "kočka domácí": "house cat", "rudá": "red"}
    assert translate("Rudá kočka domácí, kočka a mléko.", said) == "red house cat cat a mléko"


def test_a_language_without_a_dictionary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no dictionary of th into English"):
        read_pairs(tmp_path, "th")


def write_freedict(work: Path, language: str) -> None:
    """Write what is kept of a dictionary: all words that a gallery may ask for, and the things in the pictures."""
    words = dict(zip(THINGS, WORDS[language][1], strict=True))
    words |= {word: f"x{word}" for word in weigh_common_words() if word not in words}
    path = work / f"freedict/{language}.jsonl.gz"
    path.parent.mkdir(exist_ok=True)
    lines = [json.dumps({"word": word, "glosses": [english]}) for english, word in words.items()]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))


def check(found: dict[str, Any]) -> None:
    """Assert what holds of every honest report of this folder."""
    assert found["english"] == ENGLISH_ROW and found["half"] == "test"
    assert found["pictures"] == {"photographs": 35, "all": 36}
    assert {*found["seen"]["languages"]} == {*found["held_out"]["languages"]} == {"cs", "de"}
    assert [*found["pivot"]["languages"]] == ["cs from de"] and found["few"]["pairs"] == {}
    asked = found["asked"]["captions"]
    assert 10 < asked < 25 and all(each["captions"] == asked for each in found["seen"]["languages"].values())
    held, more = found["held_out"]["languages"]["cs"], found["dictionary"]["languages"]["cs"]
    assert held["captions"] == more["captions"] and held["pairs"] + 2 == more["pairs"] and 20 <= held["pairs"] <= 30
    alone, more = found["freedict"]["languages"]["cs"], found["freedict_more"]["languages"]["cs"]
    assert alone["captions"] == asked and more["captions"] == held["captions"]
    assert more["pairs"] == held["pairs"] + alone["pairs"] and alone["pairs"] > 4_000
    assert found["freedict"]["large"]["languages"] == ["cs", "de"] and found["freedict"]["small"]["languages"] == []
    ways = found["freedict"]["ways"]
    assert [*ways] == ["new", "translated", "both"] and ways["new"]["over learned"]["gain"] == 0
    spoken = found["words_asked"]["words"]["2"]["languages"]
    assert {tag: each["pairs"] for tag, each in spoken.items()} == {"cs": 2, "de": 2}
    adapted = found["adapter"]["kinds"]["lora at 0.5"]
    assert adapted["seen"]["captions"] == 2 * asked and adapted["held_out"]["captions"] == found["held_out"]["captions"]
    alone = found["held_out"]["languages"].values()  # what it is compared with
    hits = sum(each["captions"] * each["photographs"]["R@10"]["value"] for each in alone)
    assert adapted["held_out"]["R@10"]["before"] == pytest.approx(hits / found["held_out"]["captions"], abs=0.1)
    chain = found["chain"]
    assert chain["languages"] == ["en", "cs", "de"] and chain["bitwise equal"]
    assert chain["addressed"]["photographs"]["F"] == chain["addressed"]["photographs"]["F_en"] == 0
    assert [len(row) for row in chain["shared"]["photographs"]["triangle"]] == [1, 2, 3]
    assert chain["addressed"]["photographs"]["triangle"][0] == [found["asked"]["photographs"]["R@10"]["value"]]


def test_words_are_written_beside_english_or_a_pivot(tmp_path: Path) -> None:
    names = {"en": ["apple", "goat", "hook"], "de": ["Apfel", "Ziege"], "hsb": ["jabłuko", "koza", "hóčka"]}
    for tag, said in names.items():
        write_annotations(
            tmp_path / "npm", tag, {emoji: {"tts": [name]} for emoji, name in zip("🍎🐐🪝", said, strict=False)}
        )
    given = ("words", "hsb", "--work", str(tmp_path), "--out", str(out := tmp_path / "hsb.jsonl"))
    assert CliRunner().invoke(app, [*given]).exit_code == 0
    assert '{"caption": "hóčka", "english": "hook"}' in out.read_text().splitlines()
    assert CliRunner().invoke(app, [*given, "--pivot", "de"]).output.startswith("2 pairs in ")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows[1] == {"caption": "koza", "pivot": {"language": "de", "text": "Ziege"}}
    refused = CliRunner().invoke(app, [*given, "--pivot", "cy"])
    assert str(refused.exception) == "dictionary: Unicode's CLDR has no names of emoji in hsb or cy"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--rows", "english,sen"), "--rows: there is no 'sen' among english, seen"),
        (("--languages", "tlhh-xx"), "--languages: 'tlhh-xx' is not the tag of a registered language"),
        (("--languages", "cs,fr"), "--languages: the photographs have 0 captions in 'fr'"),
        (("--languages", "en-GB"), "--languages: en-GB is what the base reads already"),
        (("--set", "epoch=2"), "--set: epoch: "),
        (("--set", "epochs"), "--set: epochs: "),
    ],
)
def test_what_cannot_be_carried_out_is_said_in_one_sentence(
    command: Run, work: Path, words: tuple[str, ...], sentence: str
) -> None:
    before = {*work.rglob("*")}
    ended = command("run", *words)
    assert isinstance(ended.exception, SystemExit) and ended.exit_code == 1
    assert str(ended.exception).startswith(sentence) and "\n" not in str(ended.exception)
    assert {*work.rglob("*")} == before


def test_words_are_written_where_only_the_service_is_installed(work: Path, tmp_path: Path) -> None:
    write_annotations(work / "npm", "en", {"🍎": {"tts": ["apple"]}})
    write_annotations(work / "npm", "nl", {"🍎": {"tts": ["appel"]}})
    out = tmp_path / "nl.jsonl"
    code = "import sys; sys.modules['matplotlib'] = None; from benchmarks.stamps.__main__ import app; app()"
    command = [sys.executable, "-c", code, "words", "nl", "--out", str(out), "--work", str(work)]
    assert Program(command).wait() == 0
    assert json.loads(out.read_text()) == {"caption": "appel", "english": "apple"}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, one of them a cartoon, one a symbol, and a description without a picture."""
    folder = tmp_path_factory.mktemp("few")
    names = [f"animals/{number}" for number in range(10)] + ["food/cartoon/pear", "symbols/one"]
    for place, name in enumerate(names):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = tuple(np.random.default_rng(place).integers(0, 256, 3).tolist())
        Image.new("RGBA", (100, 50), (*colour, 255 if place else 0)).save(path)
        lines = [
            f"A {small_wordnet.name_class(place)}.",
            "cs.utf8=Pes.",
            "zu.utf8=Isilwane.",
            "ach.utf8=Le",
            "de.utf8= ",
        ]
        path.with_suffix(".txt").write_text("\n".join(lines), "utf-8")
    (folder / "animals" / "nothing.txt").write_text("A thing.")
    return folder


def test_captions_are_read_by_language_and_four_languages_are_not(few: Path) -> None:
    found = read_stamps(few)
    assert [stamp.name for stamp in found] == sorted(stamp.name for stamp in found) and len(found) == 12
    assert all({*stamp.captions} == {"en", "cs"} for stamp in found)
    assert found[3].english == f"A {small_wordnet.name_class(3)}." and found[3].captions["cs"] == "Pes."
    assert {"ach", "iu", "son", "zu"} == KEPT_AWAY


def test_a_base_is_asked_by_one_half_among_the_pictures_of_both(
    few: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    work = tmp_path_factory.mktemp("work")
    small_wordnet.write(work / "packages")
    packages = fetch(work / "packages")
    name = small_wordnet.name_class(7)
    assert open_noun_reader(WordNet.read(packages))(f"Two {name}s, and a stranger's idea!") == [name, "idea"]
    assert find_known({f"A {name}.", "A stranger.", "Animals"}, packages) == {
        f"A {name}.": True, "A stranger.": False, "Animals": False,
    }  # fmt: skip
    shown = [stamp for stamp in read_stamps(few) if stamp.is_photograph]
    encoder = open_encoder(write_tiny_base(work), work)
    found = {half: measure(encoder, shown, half, work, packages) for half in ("dev", "test")}
    assert found["dev"]["all"]["captions"] + found["test"]["all"]["captions"] == 10
    for part in found.values():
        assert part["pictures"] == 10 and part["all"]["R@10"] == 100.0 and part["kinds"].keys() == {"animals"}
        assert part["known"]["captions"] == part["all"]["captions"] and part["not known"]["captions"] == 0
