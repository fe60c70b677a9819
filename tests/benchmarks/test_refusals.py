"""What the command refuses before anything is taught, in one sentence."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.emoji36.__main__ import app
from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.files import chosen
from benchmarks.emoji36.methods import ROWS
from benchmarks.emoji36.results import rows_of
from tests.benchmarks.command import Command


@pytest.mark.usefixtures("as_before")
def test_a_run_before_the_data_names_the_command_that_fetches_it(spec: str, tmp_path: Path) -> None:
    sentence = Command(spec, tmp_path).refused()
    assert "no names in en" in sentence and "`python -m benchmarks.emoji36 data`" in sentence
    assert not (tmp_path / "runs").exists() and not (tmp_path / "pictures").exists()


def test_data_without_npm_or_with_one_that_fails_says_so_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = CliRunner().invoke(app, ["data", "--work", str(tmp_path / "work")])
    assert missing.exit_code == 1 and str(missing.exception).startswith("npm: not found on the path")
    (tmp_path / "npm").write_text("#!/bin/sh\nexit 7\n")
    (tmp_path / "npm").chmod(0o755)
    failed = CliRunner().invoke(app, ["data", "--work", str(tmp_path / "work")])
    assert failed.exit_code == 1 and str(failed.exception).startswith("npm: ended with status 7")


def test_a_row_that_there_is_not_is_refused_before_the_ones_before_it_are_taught(run: Command) -> None:
    sentence = run.refused("--methods", "shared,teir,adressed")
    assert sentence.startswith("--methods: there is no 'adressed' among zero-shot, ")
    assert all(name in sentence for name in ROWS) and sentence.endswith("; did you mean addressed?")
    assert "there is no 'qqq', '' among" in run.refused("--methods", "qqq,")
    assert not (run.work / "runs").exists()
    assert rows_of("cll-clip, +teir-init,+teir", ROWS) == ["cll-clip", "teir-init", "teir"]


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("rate=3", "--set: 'rate' is not one of batch_size, learning_rate,"),
        ("epochs=3", "--set: 'epochs' is not one of batch_size, learning_rate,"),
        ("learning_rate", "--set: learning_rate: Input should be a valid number"),
        ("batch_size=many", "--set: batch_size: Input should be a valid integer"),
        ("learning_rate=nan", "--set: learning_rate: Input should be a finite number"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(run: Command, word: str, sentence: str) -> None:
    assert run.refused("--methods", "teir", "--set", word).startswith(sentence)
    assert not (run.work / "runs").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--languages", "0"), "--languages: 0 is not a number from 1 to "),
        (("--languages", "99"), "--languages: 99 is not a number from 1 to "),
        (("--data", "coco", "--root", ".", "--pairs", "9"), "--pairs: with --data emoji only"),
        (("--base", "nope"), "a base is `bundled`, `photos`, "),
    ],
)
def test_an_option_that_cannot_be_is_refused(run: Command, words: tuple[str, str], sentence: str) -> None:
    assert run.refused("--methods", "zero-shot,teir", *words).startswith(sentence)
    assert not (run.work / "runs").exists()


def test_languages_are_all_so_many_or_those_named_in_the_papers_order() -> None:
    known = ["en", "it", "de"]
    assert (
        chosen(None, known) == known and chosen("2", known) == ["en", "it"] and chosen("de,en", known) == ["en", "de"]
    )
    with pytest.raises(Refused, match="neither a number nor one of"):
        chosen("²", known)


@pytest.mark.parametrize("words", [("--epochs", "-1"), ("--threads", "0"), ("--seed", "-1")])
def test_a_number_out_of_its_range_is_refused_by_the_option(run: Command, words: tuple[str, str]) -> None:
    ended = run("--methods", "zero-shot,teir", *words)
    assert ended.exit_code == 2 and words[0] in ended.output and not run.kept()


def test_a_report_of_results_that_there_are_not_is_refused(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["report", "--out", str(tmp_path / "missing.json")])
    assert ended.exit_code == 2 and "--out" in ended.output and not [*tmp_path.iterdir()]
