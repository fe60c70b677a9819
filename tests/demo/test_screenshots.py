"""Tests for the command that takes the pictures of docs/screenshots/, without taking them."""

import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from demo import screenshots
from demo.__main__ import app
from demo.screenshots import FOLDER, SCENES
from demo.shots import Shot

SHOTS = [shot for scene in SCENES for shot in scene.shots]


def test_each_picture_in_the_docs_is_one_that_the_command_takes() -> None:
    assert {file.name for file in FOLDER.iterdir()} == {f"{shot.name}.png" for shot in SHOTS}


@pytest.mark.parametrize("shot", SHOTS, ids=lambda shot: shot.name)
def test_a_picture_has_the_size_of_its_window_and_at_most_400_kb(shot: Shot) -> None:
    file = FOLDER / f"{shot.name}.png"
    with Image.open(file) as picture:
        assert picture.size == shot.size
    assert file.stat().st_size <= 400_000


def test_outside_of_a_checkout_the_folder_must_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screenshots, "FOLDER", tmp_path / "docs" / "screenshots")
    result = CliRunner().invoke(app, ["screenshots", "nothing"])
    assert result.exit_code == 1
    assert result.stderr == "Outside of a checkout, name the folder to write with `--out`.\n"
    assert "no picture nothing" in CliRunner().invoke(app, ["screenshots", "nothing", "--out", str(tmp_path)]).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "arguments", "sentence"),
    [
        ("playwright.sync_api", (), "This needs Playwright: install it with `pip install playwright`.\n"),
        ("", ("nothing",), "There is no picture nothing; there are search, "),
    ],
)
def test_what_is_missing_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, module: str, arguments: tuple[str, ...], sentence: str
) -> None:
    if module:
        monkeypatch.setitem(sys.modules, module, None)
    result = CliRunner().invoke(app, ["screenshots", *arguments])
    assert result.exit_code == 1
    assert result.stderr.startswith(sentence)
