"""The benchmark of records is one command, and its figures are of what a filter leaves."""

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import func, inspect, select
from typer.testing import CliRunner

from benchmarks.records import half_right, material, modes
from benchmarks.records.__main__ import app
from benchmarks.records.nonsense import WORDS, nonsense
from demo.gallery import outlines
from model.words import document
from store.tables import PictureRow, PictureValueRow, PictureWordsRow

PARTS = ("--only", "filtered", "--only", "far")
KINDS = ("titles", "scenes", "all")
DOCS = Path(__file__).parents[2] / "docs"


def test_the_documented_figures_are_those_of_the_report() -> None:
    text = (DOCS / "measured.md").read_text(encoding="utf-8")
    report = json.loads((DOCS / "reports" / "records.json").read_text())
    shown = re.findall(r"^\| ([\d,]+) \| ([\d.]+) ms \| [\d.]+ ms \| ([\d.]+) \|$", text, re.MULTILINE)
    measured = {(f"{row['left']:,}", f"{row['p50_ms']:.2f}", f"{row['recall']:.3f}") for row in report["filtered"]}
    assert len(shown) == 5 and set(shown) <= measured
    for row in report["modes"]:
        shares = [f"{100 * row[f'{kind}_R@1']:.1f} %, {100 * row[f'{kind}_R@5']:.1f} %" for kind in KINDS]
        assert f"| `{row['mode']}` | {' | '.join(shares)} |" in text


def test_a_small_gallery_is_measured_at_every_selectivity(tmp_path: Path) -> None:
    out = tmp_path / "new" / "records.json"
    told = CliRunner().invoke(app, ["--pictures", "300", "--dimension", "16", "--json", str(out), *PARTS])
    assert told.exit_code == 0, told.output
    report = json.loads(out.read_text())
    assert report["pictures"] == 300 and [row["left"] for row in report["filtered"]] == [1, 10, 30, 100, 150, 300]
    assert [row["left"] for row in report["far"]] == [30, 75, 150]
    assert all(row["recall"] == 1.0 and row["p50_ms"] > 0 for row in report["filtered"] + report["far"])
    assert CliRunner().invoke(app, ["--only", "nothing"]).exit_code == 2


def test_what_the_database_answers_is_measured_in_a_gallery_that_stays(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "records.json"
    asked = ["--dimension", "16", "--keep", str(home), "--json", str(out)]
    parts = ("words", "facets", "listed", "followed", "duplicates")
    told = CliRunner().invoke(app, ["--pictures", "300", *asked, *(f"--only={part}" for part in parts)])
    assert told.exit_code == 0, told.output
    report = json.loads(out.read_text())
    assert [row["words"] for row in report["words"]][:4] == ["a0", "b0", "place", "place"]
    assert {row["key"] for row in report["facets"]} == {"tags", "place", "rank"}
    assert [row["among"] for row in report["followed"]] == ["rank lt 150", "rank lt 100"]
    assert all(row["p50_ms"] > 0 for part in parts for row in report[part])
    made = (home / "made.npy").stat().st_mtime_ns
    told = CliRunner().invoke(app, ["--pictures", "300", *asked, *PARTS])
    assert told.exit_code == 0 and (home / "made.npy").stat().st_mtime_ns == made, told.output
    assert {*parts, "filtered"} <= json.loads(out.read_text()).keys()
    assert CliRunner().invoke(app, ["--pictures", "200", *asked, *PARTS]).exit_code == 2


def test_a_gallery_whose_making_was_stopped_is_made_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, url = material.Domains(40, 16), f"sqlite:///{tmp_path / 'registry.db'}"
    monkeypatch.setattr(material, "_BATCH", 10)
    monkeypatch.setattr(material, "document", lambda texts: document(texts) if "tag 3" not in texts else 1 / 0)
    with pytest.raises(ZeroDivisionError), material.stored(tmp_path, made, url):
        pass
    monkeypatch.setattr(material, "document", document)
    with material.stored(tmp_path, made, url) as records, records.registry.read() as session:
        for table, count in ((PictureRow, 40), (PictureWordsRow, 40), (PictureValueRow, 8 * 40)):
            assert session.scalar(select(func.count()).select_from(table)) == count
        indexes = {each["name"] for each in inspect(session.connection()).get_indexes("picture_values")}
        assert indexes == {each.name for each in PictureValueRow.metadata.tables["picture_values"].indexes}


def test_modes_are_measured_in_the_demo(tmp_path: Path) -> None:
    shown = outlines()[:20] + outlines()[-20:]
    meaning, words, both = modes.measured(tmp_path, shown)
    assert [row["mode"] for row in (meaning, words, both)] == ["meaning", "words", "both"]
    assert all(row["queries"] == 40 for row in (meaning, words, both))
    assert words["titles_R@5"] == 1.0 and words["scenes_R@5"] == 0.0  # a scene has no text
    assert both["all_R@5"] >= meaning["all_R@5"] > 0.9


def test_the_documented_figures_of_match_are_those_of_the_report() -> None:
    text = (DOCS / "measured.md").read_text(encoding="utf-8")
    report = json.loads((DOCS / "reports" / "records.json").read_text())
    for row in report["match"]:
        assert f", {row['captions']} captions | {100 * row['first_right']:.1f} % | {row['error']:.3f} |" in text
    assert f"{report['match_cost'][0]['ratio']:.3f} times" in text


def test_nonsense_is_the_same_each_time_and_of_nothing_that_is_shown() -> None:
    shown = ["a red apple", "two dogs in the snow"]
    for language in WORDS:
        texts = nonsense(language, shown)
        assert len(set(texts)) == 100 and texts == nonsense(language, shown) != nonsense(language, shown, seed=1)
        assert not set(shown) & set(texts)
        assert texts[2].split()[0] in WORDS[language].split() and set("".join(texts[0].split())) <= set("".join(shown))


@pytest.mark.parametrize("language", WORDS)
def test_half_right_texts_are_the_same_each_time_and_join_or_change_a_name(language: str) -> None:
    called = half_right.names(language)
    texts = half_right.half_right(language, called)
    assert len({*texts}) == 200 and texts == half_right.half_right(language, called)
    assert texts != half_right.half_right(language, called, seed=1) and not {*called} & {*texts}
    absent = WORDS[language].split()
    for pair, word in zip(texts[::2], texts[1::2], strict=True):
        assert any(name in pair for name in called) and any(each in pair for each in absent)
        around = [word.split(each, 1) for each in absent if each in word]
        assert any(name.startswith(head) and name.endswith(tail) for name in called for head, tail in around)
