"""What the command refuses before anything is taught, in one sentence."""

from pathlib import Path

import pytest

from tests.benchmarks.command import Command


@pytest.mark.usefixtures("as_before")
def test_a_run_before_the_data_names_the_command_that_fetches_it(spec: str, tmp_path: Path) -> None:
    sentence = Command(spec, tmp_path).refused()
    assert "no names in en" in sentence and "`python -m benchmarks.emoji36 data`" in sentence
    assert not (tmp_path / "runs").exists() and not (tmp_path / "pictures").exists()


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
