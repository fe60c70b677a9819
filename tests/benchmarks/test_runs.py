"""The command: what it refuses before anything is taught, and what it goes on with."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.emoji36 import scenes
from benchmarks.emoji36.__main__ import app
from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.methods import ROWS
from benchmarks.emoji36.run import claim, commit
from benchmarks.emoji36.scenes import Sizes
from tests.benchmarks.emoji_folder import write_npm
from tests.benchmarks.paper_folders import write_folder
from tests.tiny import write_tiny_base


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folder")
    write_folder(root)
    return root


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command sets these for its whole process; few scenes are enough here."""
    monkeypatch.setattr("benchmarks.emoji36.__main__.Sizes", partial(Sizes, train=40, test=8, singles=10))
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


class Command:
    """`run` on one folder of data, with everything kept in one place."""

    def __init__(self, spec: str, work: Path, *words: object) -> None:
        self.work, self.out = work, work / "results.json"
        self._words = ("run", "--base", spec, "--threads", "1", "--work", work, "--out", self.out, *words)

    def __call__(self, *words: object) -> Any:
        return CliRunner().invoke(app, [*map(str, (*self._words, *words))])

    def done(self, *words: object) -> dict[str, Any]:
        """What the results file holds after a run that succeeds."""
        found = self(*words)
        assert found.exit_code == 0, found.output
        results: dict[str, Any] = json.loads(self.out.read_text())
        return results

    def refused(self, *words: object) -> str:
        """One sentence, and nothing taught or scored for it."""
        before = self.kept()
        found = self(*words)
        assert found.exit_code == 1 and isinstance(found.exception, SystemExit), found.exception
        assert "\n" not in str(found.exception) and self.kept() == before
        return str(found.exception)

    def kept(self) -> dict[Path, int]:
        """Versions and scores, by when they were written."""
        files = [*self.work.glob("runs/*/trained/*/*/version"), *self.work.glob("runs/*/scores/*.json")]
        return {path: path.stat().st_mtime_ns for path in (*files, self.out) if path.exists()}

    def folder(self) -> Path:
        (found,) = (self.work / "runs").iterdir()
        return found


@pytest.fixture
def run(spec: str, pictures: Path, tmp_path: Path) -> Command:
    """On twelve pictures, which teach in a moment."""
    return Command(spec, tmp_path, "--data", "folder", "--root", pictures, "--languages", "it")


@pytest.fixture
def emoji(spec: str, tmp_path: Path) -> Command:
    write_npm(tmp_path / "npm")
    return Command(spec, tmp_path, "--languages", "3", "--methods", "zero-shot")


def test_a_run_before_the_data_names_the_command_that_fetches_it(spec: str, tmp_path: Path) -> None:
    sentence = Command(spec, tmp_path).refused()
    assert "no names in en" in sentence and "`python -m benchmarks.emoji36 data`" in sentence
    assert not (tmp_path / "runs").exists() and not (tmp_path / "pictures").exists()


def test_data_without_npm_or_with_one_that_fails_says_so_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = CliRunner().invoke(app, ["data", "--work", str(tmp_path / "work")])
    assert missing.exit_code == 1 and str(missing.exception).startswith("npm: there is none on the path")
    (tmp_path / "npm").write_text("#!/bin/sh\nexit 7\n")
    (tmp_path / "npm").chmod(0o755)
    failed = CliRunner().invoke(app, ["data", "--work", str(tmp_path / "work")])
    assert failed.exit_code == 1 and str(failed.exception).startswith("npm: it ended with 7")


def test_a_row_that_there_is_not_is_refused_before_the_ones_before_it_are_taught(run: Command) -> None:
    sentence = run.refused("--methods", "shared,teir,adressed")
    assert sentence.startswith("--methods: there is no 'adressed' among zero-shot, ")
    assert all(name in sentence for name in ROWS) and sentence.endswith("; did you mean addressed?")
    assert "there is no 'qqq', '' among" in run.refused("--methods", "qqq,")
    assert not (run.work / "runs").exists()


def test_blanks_between_rows_do_no_harm(run: Command) -> None:
    assert [*run.done("--methods", "zero-shot, shared")["methods"]] == ["zero-shot", "shared"]


def test_results_that_do_not_go_together_are_refused_before_anything_is_taught(run: Command) -> None:
    run.done("--methods", "zero-shot")
    assert "holds results of other epochs; name another file" in run.refused("--methods", "shared", "--epochs", "1")
    assert len([*(run.work / "runs").iterdir()]) == 1
    held = json.loads(run.out.read_text())
    made = {"read": "shared", "taught": [{"onto": "chain", "settings": {"seed": 0}}]}
    run.out.write_text(json.dumps(held | {"methods": held["methods"] | {"shared": {"seeds": {"7": {"made": made}}}}}))
    sentence = run.refused("--methods", "zero-shot,shared")
    assert "holds shared of another seed, made otherwise; name another file" in sentence


def test_a_setting_that_is_told_stands_before_the_rows_own_and_apart_from_other_runs(run: Command) -> None:
    run.done("--methods", "teir")
    assert "holds results of other set; name another file" in run.refused("--methods", "teir", "--set", "clip=0.5")
    other = run.work / "other.json"
    assert run("--methods", "teir", "--set", "learning_rate=5e-5", "--set", "clip=0.5", "--out", other).exit_code == 0
    (first,), (second,) = (
        json.loads(path.read_text())["methods"]["teir"]["seeds"]["0"]["made"]["taught"] for path in (run.out, other)
    )
    changed = {"learning_rate": 5e-5, "clip": 0.5}
    assert second == {**first, "settings": {**first["settings"], **changed}} and second != first
    assert json.loads(other.read_text())["set"] == changed and len([*(run.work / "runs").iterdir()]) == 2


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("rate=3", "--set: 'rate' is not one of batch_size, learning_rate,"),
        ("epochs=3", "--set: 'epochs' is not one of batch_size, learning_rate,"),
        ("learning_rate", "--set: learning_rate: Input should be a valid number"),
        ("batch_size=many", "--set: batch_size: Input should be a valid integer"),
        ("batch_size=-3", "--set: batch_size: Input should be greater than or equal to 2"),
        ("vocabulary=-5", "--set: vocabulary: Input should be greater than or equal to 0"),
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
        (("--epochs", "2000"), "--epochs: Input should be less than or equal to 1000"),
        (("--base", "nope"), "a base is written `bundled`, "),
    ],
)
def test_an_option_that_cannot_be_is_refused(run: Command, words: tuple[str, str], sentence: str) -> None:
    assert run.refused("--methods", "zero-shot,teir", *words).startswith(sentence)
    assert not (run.work / "runs").exists()


@pytest.mark.parametrize("words", [("--epochs", "-1"), ("--threads", "0"), ("--seed", "-1")])
def test_a_number_out_of_its_range_is_refused_by_the_option(run: Command, words: tuple[str, str]) -> None:
    found = run("--methods", "zero-shot,teir", *words)
    assert found.exit_code == 2 and words[0] in found.output and not run.kept()


def test_a_report_of_results_that_there_are_not_is_refused(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["report", "--out", str(tmp_path / "missing.json")])
    assert found.exit_code == 2 and "--out" in found.output and not [*tmp_path.iterdir()]


def test_rows_of_another_base_do_not_go_among_those_of_the_first(run: Command, tmp_path_factory: Any) -> None:
    run.done("--methods", "zero-shot")
    other = write_tiny_base(tmp_path_factory.mktemp("other"), seed=1)
    assert "holds results of other text_fingerprint; name another file" in run.refused(
        "--methods", "zero-shot", "--base", other
    )


def test_a_seed_changes_nothing_that_is_shown_and_said(emoji: Command) -> None:
    emoji.done("--seed", "0")
    results = emoji.done("--seed", "1")
    said = [json.loads(path.read_text()) for path in emoji.work.glob("runs/*/captions.json")]
    assert len(said) == 2 and said[0] == said[1] and [*said[0]] == ["de", "en", "it"]
    first, second = results["methods"]["zero-shot"]["seeds"].values()
    assert first == second and {"seen", "unseen", "singles"} <= set(first) and results["seeds"] == [0, 1]


def test_a_seed_teaches_the_same_to_the_bit_and_another_does_not(run: Command) -> None:
    rows: list[bytes] = []
    for seed in (0, 1, 0):
        run.done("--methods", "shared", "--seed", seed)
        (new,) = run.work.glob("runs/*/trained/shared/*/version/rows.safetensors")
        rows.append(new.read_bytes())
        new.parents[4].rename(run.work / f"aside-{len(rows)}")
    assert rows[0] == rows[2] != rows[1]


def test_captions_made_otherwise_are_not_taken_for_those_of_before(
    emoji: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    emoji.done()
    with monkeypatch.context() as changed:
        changed.setattr(scenes, "KEYWORD_SHARE", 0.9)
        assert "holds results of other captions; name another file" in emoji.refused()
        sentence = emoji.refused("--out", emoji.work / "other.json")
        assert sentence == f"{emoji.folder() / 'captions.json'}: what lies here was made otherwise; move it away"
    emoji.done()


def test_folders_and_results_that_say_nothing_of_captions_or_base_go_on_and_say_it_from_then_on(run: Command) -> None:
    results = run.done("--methods", "shared")
    (said,) = run.work.glob("runs/*/captions.json")
    written, kept = said.read_bytes(), [path for path in run.kept() if path != run.out]
    before = {path: path.stat().st_mtime_ns for path in kept}
    said.unlink()
    run.out.write_text(
        json.dumps({key: value for key, value in results.items() if key not in ("captions", "text_fingerprint")})
    )
    assert run.done("--methods", "shared") == results
    assert said.read_bytes() == written and {path: path.stat().st_mtime_ns for path in kept} == before


@pytest.mark.parametrize("missing", ["trained/shared/training.json", "scores/shared.row.json"])
def test_what_does_not_say_how_it_was_made_is_not_taken_for_todays(run: Command, missing: str) -> None:
    run.done("--methods", "shared")
    path = run.folder() / missing
    described = path.read_text()
    path.unlink()
    if path.name == "training.json":
        (run.folder() / "scores" / "shared.json").unlink()  # versions are not read where all scores are done
    sentence = run.refused("--methods", "shared")
    assert sentence.startswith(f"{path}: this is missing, so nobody knows how {run.folder()}")
    assert not path.exists()
    path.write_text(described)
    run.done("--methods", "shared")


def test_a_claim_stands_where_nothing_was_made(tmp_path: Path) -> None:
    path, version = tmp_path / "new" / "training.json", tmp_path / "new" / "01-en" / "version"
    claim(path, {"a": 1}, [version])
    version.mkdir(parents=True)
    claim(path, {"a": 1}, [version])
    with pytest.raises(Refused, match="made otherwise"):
        claim(path, {"a": 2}, [version])
    path.unlink()
    with pytest.raises(Refused, match="nobody knows"):
        claim(path, {"a": 1}, [version])


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
