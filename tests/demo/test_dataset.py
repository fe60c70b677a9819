"""Tests for the datasets of the demo: columns, split, list patterns, and that the service can read them."""

from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from demo.__main__ import app
from demo.dataset import build_rows, format_lines
from demo.emojis import LANGUAGES
from demo.gallery import list_outlines
from model.dataset import read, validate


@pytest.mark.parametrize("tag", LANGUAGES)
def test_every_picture_has_one_row_in_every_language(tag: str) -> None:
    written = build_rows(tag)
    assert [row["picture"] for row in written] == [outline.id for outline in list_outlines()]
    assert all(set(row) == {"caption", "english", "picture", "split"} and all(row.values()) for row in written)


def test_only_scenes_are_held_out_and_about_five_hundred_of_them() -> None:
    written = build_rows("de")
    held_out = [row["picture"] for row in written if row["split"] == "val"]
    assert all(picture.startswith("scene-") for picture in held_out)
    assert 400 < len(held_out) < 600
    assert Counter(row["split"] for row in written).keys() == {"train", "val"}


def test_the_split_is_the_same_in_every_language() -> None:
    assert [row["split"] for row in build_rows("ja")] == [row["split"] for row in build_rows("ar")]


@pytest.mark.parametrize(("tag", "joint"), [("zh", "和"), ("de", " und "), ("fa", " و "), ("ja", "、"), ("ko", " 및 ")])
def test_captions_follow_the_list_pattern_of_the_language(tag: str, joint: str) -> None:
    captions = {row["picture"]: row["caption"] for row in build_rows(tag)}
    pairs = [outline for outline in list_outlines() if len(outline.objects) == 2]
    assert all(captions[pair.id] == joint.join(each.names[tag] for each in pair.objects) for pair in pairs)


def test_a_language_without_names_is_refused_with_those_that_have_them() -> None:
    with pytest.raises(ValueError, match="ar, de, es"):
        build_rows("cy")
    refused = CliRunner().invoke(app, ["dataset", "cy"])
    assert refused.exit_code == 2
    assert "It has them in ar, de, es" in refused.stderr and "Usage" not in refused.stderr
    assert "-m benchmarks.stamps words cy --out cy.jsonl" in refused.stderr


def test_the_service_can_read_the_dataset_as_written(tmp_path: Path) -> None:
    path = tmp_path / "tr.jsonl"
    assert CliRunner().invoke(app, ["dataset", "tr", "--out", str(path)]).exit_code == 0
    assert path.read_text(encoding="utf-8") == format_lines("tr")
    report = validate(read(path), "tr", lambda ids: set(ids))
    assert report.usable == len(list_outlines())
    assert not report.faults


def test_a_file_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["dataset", "tr", "--out", str(tmp_path / "no" / "tr.jsonl")])
    assert result.exit_code == 1 and "cannot be written: No such file or directory." in result.stderr


def test_the_notice_names_each_work_and_its_licence() -> None:
    text = CliRunner().invoke(app, ["notice"]).output
    for part in ("Twemoji", "CC BY 4.0", "OpenMoji", "CC BY-SA 4.0", "CLDR", "Unicode License"):
        assert part in text
