"""The command: what goes on with what, and what does not go together."""

import json
import subprocess
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from filelock import FileLock

from benchmarks.emoji36 import scenes
from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.run import claim, commit
from tests.benchmarks.command import Command
from tests.tiny import write_tiny_base


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
    assert "holds shared of another seed, made in another way; name another file" in sentence


def test_two_runs_come_to_one_file_of_results_one_after_the_other(run: Command) -> None:
    held = run.done("--methods", "zero-shot")
    with FileLock(run.out.with_name(f".{run.out.name}.lock")):  # as another run does while it merges
        (second := Thread(target=run, args=("--methods", "shared"))).start()
        scored = run.folder() / "scores" / "shared.json"
        while not (scored.is_file() and json.loads(scored.read_text()).get("done")):
            assert second.is_alive()
            second.join(0.05)
        second.join(1)
        assert json.loads(run.out.read_text()) == held
        run.out.write_text(json.dumps({**held, "methods": held["methods"] | {"teir": held["methods"]["zero-shot"]}}))
    second.join()
    assert {*json.loads(run.out.read_text())["methods"]} == {"zero-shot", "teir", "shared"}


def test_two_runs_that_need_the_same_training_do_not_both_teach_it(run: Command) -> None:
    run.done("--methods", "zero-shot")
    folder = run.folder() / "trained" / "shared"
    folder.mkdir(parents=True)
    with FileLock(folder / "01-it.lock"):  # as another run does while it teaches
        (second := Thread(target=run, args=("--methods", "shared"))).start()
        while not (folder / "training.json").is_file():
            assert second.is_alive()
            second.join(0.05)
        second.join(2)
        assert not [*folder.glob("01-it/*")]
    second.join()
    assert (folder / "01-it" / "version").is_dir()


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
        assert (
            sentence == f"{emoji.folder() / 'captions.json'}: the results here were made in another way; move them away"
        )
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
    assert sentence.startswith(f"{path}: missing, so it is unknown how {run.folder()}")
    assert not path.exists()
    path.write_text(described)
    run.done("--methods", "shared")


def test_a_claim_stands_where_nothing_was_made(tmp_path: Path) -> None:
    path, version = tmp_path / "new" / "training.json", tmp_path / "new" / "01-en" / "version"
    claim(path, {"a": 1}, [version])
    version.mkdir(parents=True)
    claim(path, {"a": 1}, [version])
    with pytest.raises(Refused, match="made in another way"):
        claim(path, {"a": 2}, [version])
    path.unlink()
    with pytest.raises(Refused, match="it is unknown"):
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
