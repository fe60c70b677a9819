"""The benchmark of a million pictures is one command, and tells each figure."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.scale import __main__ as scale
from benchmarks.scale import measures, several

DOCS = Path(__file__).parents[2] / "docs"


def test_pictures_and_json_are_options_of_the_command_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = list[int]()

    def whole(made: Any, *_: object) -> dict[str, Any]:
        measured.append(made.count)
        return {"pictures": made.count, "dimension": made.dimension}

    monkeypatch.setattr(scale, "whole", whole)
    out = tmp_path / "new" / "scale.json"
    told = CliRunner().invoke(scale.app, ["--pictures", "20000", "--no-growth", "--json", str(out)])
    assert told.exit_code == 0, told.output
    assert measured == [20_000] and json.loads(out.read_text())["pictures"] == 20_000


def test_the_folder_for_data_roots_is_made_where_it_is_missing(tmp_path: Path) -> None:
    with measures.data_root("x", tmp_path / "a" / "b") as home:
        assert home.parent == tmp_path / "a" / "b" and home.is_dir()
    assert not home.exists()


def test_two_processes_on_pgvector_are_measured_at_two_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(made: Any, *_: object) -> dict[str, Any]:
        return {"engine": "pgvector", "pictures": made.count, "dimension": 16, "private_mb": [3.5, 3.6]}

    monkeypatch.setattr(several, "whole", whole)
    monkeypatch.setattr(scale, "whole", pytest.fail)
    out = tmp_path / "scale.json"
    told = CliRunner().invoke(scale.app, ["--engine", "pgvector", "--pictures", "20000", "--json", str(out)])
    assert told.exit_code == 0 and "pgvector" in told.output, told.output
    report = json.loads(out.read_text())
    assert (report["pictures"], report["at_a_tenth"]["pictures"]) == (20_000, 2_000)


def test_the_process_that_it_starts_measures_only_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "whole", pytest.fail)
    told = CliRunner().invoke(scale.app, ["opened", str(tmp_path), "16"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.output)["seconds"] > 0


def test_every_aim_has_its_figure_in_the_documentation() -> None:
    text = (DOCS / "measured.md").read_text()
    report = json.loads((DOCS / "reports" / "scale.json").read_text())
    assert f"{report['resident_mb_index']:,.0f} MB" in text and f"{report['delete_ms']:.0f} ms" in text
