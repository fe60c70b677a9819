"""The suite's runner: what it does again, what it goes on with, and what it refuses before anything is trained."""

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from benchmarks.emoji36 import sources
from benchmarks.emoji36.scenes import Sizes
from benchmarks.methods.__main__ import app
from benchmarks.methods.bench import Bench, fill
from benchmarks.methods.rows import ROWS
from model.base import open_base
from model.encoder import Encoder
from tests.benchmarks.emoji_folder import write_npm
from tests.benchmarks.test_methods_miniature import SETTINGS, Toy

METHOD = '''
from benchmarks.methods.trainer import SuiteTrainer


class Weighed(SuiteTrainer):
    """A method whose rows start larger."""

    STRENGTH = 1.0

    def start_rows(self):
        return self.STRENGTH * super().start_rows()
'''


class Told:
    """A bench that remembers what it told."""

    def __init__(self, spec: str, folder: Path) -> None:
        base = open_base(spec)
        self.lines: list[str] = []
        settings = replace(SETTINGS, epochs=1)
        self.bench = Bench(base, Toy(Encoder(base)), settings, 0, folder, self.lines.append, "a" * 40)

    def fill(self, name: str, again: bool = False) -> tuple[dict[str, Any], list[str]]:
        """Return what the ledger holds, and what was told meanwhile."""
        self.lines.clear()
        return fill(self.bench, name, again).content, [*self.lines]


@pytest.fixture
def told(spec: str, tmp_path: Path) -> Told:
    return Told(spec, tmp_path / "suite")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A method in a file of its own, as a row of the suite."""
    path = tmp_path / "weighed.py"
    monkeypatch.syspath_prepend(tmp_path)
    write(path, METHOD, monkeypatch)
    yield path
    sys.modules.pop("weighed")


def write(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change the method, as for a new process."""
    path.write_text(text)
    sys.modules.pop("weighed", None)
    importlib.invalidate_caches()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module: ModuleType = importlib.import_module("weighed")
    sources.digest.cache_clear()
    monkeypatch.setitem(ROWS, "weighed", replace(ROWS["cll-clip"], kind=module.Weighed))


def test_a_method_that_changed_is_trained_anew_and_says_so_and_one_that_did_not_is_not(
    told: Told, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, lines = told.fill("weighed")
    assert len(lines) == 2 and all("of 2" in line for line in lines)
    assert told.fill("weighed") == (first, [f"weighed: done already, at {'a' * 40}"])
    write(own, METHOD.replace("STRENGTH = 1.0", "STRENGTH = 1e3"), monkeypatch)
    changed, lines = told.fill("weighed")
    assert lines[0] == "weighed: made in another way before, by other code or settings; trained anew"
    assert len(lines) == 3 and changed["triangle"] != first["triangle"]
    write(own, METHOD.replace("A method whose rows start", "# Rows that start"), monkeypatch)
    assert told.fill("weighed")[0] == first, "a docstring makes another method"
    assert len(told.fill("weighed", again=True)[1]) == 2


def test_two_runs_of_one_row_do_not_both_train_it(told: Told) -> None:
    told.bench.folder.mkdir()
    with FileLock(told.bench.folder / "cll-clip.lock"):  # as another run does
        (second := Thread(target=told.fill, args=("cll-clip",))).start()
        second.join(1)
        assert second.is_alive() and not (told.bench.folder / "cll-clip").exists() and not told.lines
    second.join()
    assert len(told.lines) == 2


@pytest.fixture
def command(tmp_path: Path, as_before: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`run` on few scenes, in two languages."""
    write_npm(tmp_path / "npm")
    monkeypatch.setattr("benchmarks.methods.__main__.Sizes", partial(Sizes, train=40, test=8, singles=10))
    words = ["run", "--work", str(tmp_path), "--languages", "2", "--pairs", "0", "--queries", "0"]
    return lambda *more: CliRunner().invoke(app, [*words, *map(str, more)])


def test_a_run_tells_what_is_done_and_refuses_results_that_do_not_fit_before_it_trains(
    command: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    for told in ("2 of 2", "done already"):
        ended = command("--methods", "teir", "--out", out)
        assert ended.exit_code == 0 and told in ended.output, ended.output
    results = json.loads(out.read_text())
    folders, kept = [*tmp_path.glob("methods/*/*")], out.read_bytes()

    def refused(path: Path, *words: str) -> str:
        ended = command("--methods", "cll-clip", "--out", path, *words)
        assert ended.exit_code == 1 and isinstance(ended.exception, SystemExit), ended.exception
        assert [*tmp_path.glob("methods/*/*")] == folders and out.read_bytes() == kept
        return str(ended.exception)

    assert f"--out: {out} holds results of other sizes; name another file" == refused(out, "--queries", "4")
    other = tmp_path / "other.json"
    other.write_text("{'no': JSON")
    assert refused(other) == f"{other}: not JSON; name another file"
    for foreign in ([1], {"methods": [1]}, {"methods": {"teir": {"seeds": [1]}}}):
        other.write_text(json.dumps(foreign))
        assert refused(other).startswith(f"{other}: holds no results")
    assert refused(tmp_path).startswith(f"{tmp_path}: Is a directory")
    assert refused(out / "below.json").startswith(f"{out / 'below.json'}: Not a directory")
    seeds = results["methods"]["teir"]["seeds"]
    seeds["0"]["made"]["settings"]["epochs"] = 9
    other.write_text(json.dumps({**results, "methods": {"teir": {"seeds": {"5": seeds["0"]}}}}))
    assert "holds teir of another seed, made in another way" in refused(other, "--methods", "cll-clip,teir")


def test_a_row_that_there_is_not_gets_the_nearest_name(command: Any, tmp_path: Path) -> None:
    ended = command("--methods", "cll-clip,oewc+tier")
    assert isinstance(ended.exception, SystemExit) and str(ended.exception).endswith("; did you mean oewc+teir?")
    assert not (tmp_path / "methods").exists()
