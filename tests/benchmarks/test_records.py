"""The benchmark of records is one command, and its figures are of what a filter leaves."""

import json
from pathlib import Path

from typer.testing import CliRunner

from benchmarks.records import modes
from benchmarks.records.__main__ import app
from benchmarks.records.nonsense import WORDS, nonsense
from demo.gallery import outlines

PARTS = ("--only", "filtered", "--only", "far")
KINDS = ("titles", "scenes", "all")
DOCS = Path(__file__).parents[2] / "docs"


def test_the_documented_figures_are_those_of_the_report() -> None:
    text = (DOCS / "records.md").read_text(encoding="utf-8")
    report = json.loads((DOCS / "reports" / "records.json").read_text())
    for row in report["filtered"] + report["far"]:
        assert f"| {row['left']:,} | {row['p50_ms']:.2f} ms |" in text and f"| {row['recall']:.3f} |" in text
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


def test_modes_are_measured_in_the_demo(tmp_path: Path) -> None:
    shown = outlines()[:20] + outlines()[-20:]
    meaning, words, both = modes.measured(tmp_path, shown)
    assert [row["mode"] for row in (meaning, words, both)] == ["meaning", "words", "both"]
    assert all(row["queries"] == 40 for row in (meaning, words, both))
    assert words["titles_R@5"] == 1.0 and words["scenes_R@5"] == 0.0  # a scene has no text
    assert both["all_R@5"] >= meaning["all_R@5"] > 0.9


def test_the_documented_figures_of_match_are_those_of_the_report() -> None:
    text = (DOCS / "records.md").read_text(encoding="utf-8")
    report = json.loads((DOCS / "reports" / "records.json").read_text())
    for row in report["match"]:
        assert f", {row['captions']} captions | {100 * row['first_right']:.1f} % | {row['error']:.3f} |" in text
    for row in report["match_grown"]:
        assert f"| {row['error']:.3f} | {row['grown_error']:.3f} |" in text
    assert f"{report['match_cost'][0]['ratio']:.3f} times on the clock" in text


def test_nonsense_is_the_same_each_time_and_of_nothing_that_is_shown() -> None:
    shown = ["a red apple", "two dogs in the snow"]
    for language in WORDS:
        texts = nonsense(language, shown)
        assert len(set(texts)) == 100 and texts == nonsense(language, shown) != nonsense(language, shown, seed=1)
        assert not set(shown) & set(texts)
        assert texts[2].split()[0] in WORDS[language].split() and set("".join(texts[0].split())) <= set("".join(shown))
