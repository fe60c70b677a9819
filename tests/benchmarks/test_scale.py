"""The benchmark of a million pictures is one command, and tells each figure."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.scale import __main__ as scale

DOCS = Path(__file__).parents[2] / "docs"


def test_the_process_that_it_starts_measures_only_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "whole", pytest.fail)
    told = CliRunner().invoke(scale.app, ["opened", str(tmp_path), "16"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.output)["seconds"] > 0


def test_every_aim_has_its_figure_in_the_documentation() -> None:
    text = (DOCS / "measured.md").read_text()
    report = json.loads((DOCS / "reports" / "scale.json").read_text())
    assert f"{report['resident_mb_index']:,.0f} MB" in text and f"{report['delete_ms']:.0f} ms" in text
