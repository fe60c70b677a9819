"""The benchmarks of records and of a million pictures: each is one command, its figures are those of the documents."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.records import modes
from benchmarks.records.__main__ import app
from benchmarks.scale import __main__ as scale
from demo.gallery import list_outlines

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
    ended = CliRunner().invoke(app, ["--pictures", "300", "--dimension", "16", "--json", str(out), *PARTS])
    assert ended.exit_code == 0, ended.output
    report = json.loads(out.read_text())
    assert report["pictures"] == 300 and [row["left"] for row in report["filtered"]] == [1, 10, 30, 100, 150, 300]
    assert [row["left"] for row in report["far"]] == [30, 75, 150]
    assert all(row["recall"] == 1.0 and row["p50_ms"] > 0 for row in report["filtered"] + report["far"])
    assert CliRunner().invoke(app, ["--only", "nothing"]).exit_code == 2


def test_what_the_database_answers_is_measured_in_a_gallery_that_stays(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "records.json"
    asked = ["--dimension", "16", "--keep", str(home), "--json", str(out)]
    parts = ("words", "facets", "listed", "followed", "duplicates")
    ended = CliRunner().invoke(app, ["--pictures", "300", *asked, *(f"--only={part}" for part in parts)])
    assert ended.exit_code == 0, ended.output
    report = json.loads(out.read_text())
    assert [row["words"] for row in report["words"]][:4] == ["a0", "b0", "place", "place"]
    assert {row["key"] for row in report["facets"]} == {"tags", "place", "rank"}
    assert [row["among"] for row in report["followed"]] == ["rank lt 150", "rank lt 100"]
    assert all(row["p50_ms"] > 0 for part in parts for row in report[part])
    made = (home / "made.npy").stat().st_mtime_ns
    ended = CliRunner().invoke(app, ["--pictures", "300", *asked, *PARTS])
    assert ended.exit_code == 0 and (home / "made.npy").stat().st_mtime_ns == made, ended.output
    assert {*parts, "filtered"} <= json.loads(out.read_text()).keys()
    assert CliRunner().invoke(app, ["--pictures", "200", *asked, *PARTS]).exit_code == 2


def test_modes_are_measured_in_the_demo(tmp_path: Path) -> None:
    shown = list_outlines()[:20] + list_outlines()[-20:]
    meaning, words, both = modes.measure_modes(tmp_path, shown)
    assert [row["mode"] for row in (meaning, words, both)] == ["meaning", "words", "both"]
    assert all(row["queries"] == 40 for row in (meaning, words, both))
    assert words["titles_R@5"] == 1.0 and words["scenes_R@5"] == 0.0  # a scene has no text
    assert both["all_R@5"] >= meaning["all_R@5"] > 0.9


def test_the_documented_figures_of_match_and_scale_are_those_of_the_reports() -> None:
    text = (DOCS / "measured.md").read_text(encoding="utf-8")
    report = json.loads((DOCS / "reports" / "records.json").read_text())
    for row in report["match"]:
        assert f", {row['captions']} captions | {100 * row['first_right']:.1f} % | {row['error']:.3f} |" in text
    assert f"{report['match_cost'][0]['ratio']:.3f} times" in text
    whole = json.loads((DOCS / "reports" / "scale.json").read_text())
    assert f"{whole['resident_mb_index']:,.0f} MB" in text and f"{whole['delete_ms']:.0f} ms" in text


def test_the_process_that_it_starts_measures_only_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "measure_whole", pytest.fail)
    ended = CliRunner().invoke(scale.app, ["opened", str(tmp_path), "16"])
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.output)["seconds"] > 0
