"""The command: what goes on with what, what does not go together, and what is refused before anything is taught."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.emoji36 import scenes
from benchmarks.emoji36.run import commit
from tests.benchmarks.command import Command


def test_a_seed_teaches_the_same_to_the_bit_and_another_does_not(run: Command) -> None:
    rows: list[bytes] = []
    for seed in (0, 1, 0):
        run.succeed("--methods", "shared", "--seed", seed)
        (new,) = run.work.glob("runs/*/trained/shared/*/version/rows.safetensors")
        rows.append(new.read_bytes())
        new.parents[4].rename(run.work / f"aside-{len(rows)}")
    assert rows[0] == rows[2] != rows[1]


def test_captions_made_otherwise_are_not_taken_for_those_of_before(
    emoji: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    emoji.succeed()
    with monkeypatch.context() as changed:
        changed.setattr(scenes, "KEYWORD_SHARE", 0.9)
        assert "holds results of other captions; name another file" in emoji.be_refused()
        sentence = emoji.be_refused("--out", emoji.work / "other.json")
        assert (
            sentence
            == f"{emoji.find_folder() / 'captions.json'}: the results here were made in another way; move them away"
        )
    emoji.succeed()


def test_a_commit_is_dirty_when_the_code_differs_and_not_when_the_docs_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        mine = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *mine, *words], check=True, capture_output=True, text=True).stdout.strip()

    code = ("benchmarks", "model", "index", "service", "demo", "worker")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() == ""
    git("init", "--quiet")
    for folder in (*code, "docs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text("a")
    git("add", ".")
    git("commit", "--quiet", "-m", "All")
    head = git("rev-parse", "HEAD")
    (tmp_path / "docs" / "file").write_text("b")
    assert commit() == head
    monkeypatch.chdir(tmp_path / "docs")
    for folder in code:
        (tmp_path / folder / "file").write_text("b")
        assert commit() == f"{head}-dirty"
        (tmp_path / folder / "file").write_text("a")
    assert commit() == head


@pytest.mark.usefixtures("as_before")
def test_a_run_before_the_data_names_the_command_that_fetches_it(tiny_base: str, tmp_path: Path) -> None:
    sentence = Command(tiny_base, tmp_path).be_refused()
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
    assert run.be_refused("--methods", "teir", "--set", word).startswith(sentence)
    assert not (run.work / "runs").exists()
