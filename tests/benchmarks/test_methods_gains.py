"""What settings gain: trials on a toy and on a part of the demo, none done twice, and the error of the difference."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks.methods import gains, report
from benchmarks.methods.__main__ import _add, _keep, app
from benchmarks.methods.gains import DemoData, Trial
from demo.gallery import outlines
from model.base import open_base
from model.encoder import Encoder
from model.evaluation import KS
from model.text import clean
from tests.benchmarks.test_methods_miniature import Toy

SHORT, LONG = (("epochs", 1),), (("batch_size", 16), ("epochs", 6), ("start", "aligned"))


@pytest.fixture(scope="module")
def encoder(spec: str) -> Encoder:
    return Encoder(open_base(spec))


def trials(settings: tuple[tuple[str, Any], ...]) -> list[Trial]:
    return [Trial("toy", "de", 90, seed, settings) for seed in (0, 1)]


@pytest.fixture(scope="module")
def held(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []
    folder = tmp_path_factory.mktemp("gains")
    gains.fill(encoder, Toy(encoder), [*trials(SHORT), *trials(LONG)], found, folder, found.append)
    yield found


def test_a_longer_training_gains_and_its_error_is_that_of_the_pictures(held: list[dict[str, Any]]) -> None:
    assert [each["steps"] for each in held] == [2, 2, 36, 36]
    found = gains.gained(held, trials(SHORT), trials(LONG), 1)
    hits = np.array([each["ranks"] for each in held]) < 1
    difference = (hits[2:].mean(axis=0) - hits[:2].mean(axis=0)).astype(float)  # of each picture, over both seeds
    assert found.mean == pytest.approx(difference.mean()) and found.mean > 0.2
    assert found.error == pytest.approx(difference.std(ddof=1) / len(difference) ** 0.5)


def test_what_is_kept_of_a_comparison_has_a_line_in_the_report(held: list[dict[str, Any]]) -> None:
    found, gain = gains.concluded(held, trials(SHORT), trials(LONG)), gains.gained(held, trials(SHORT), trials(LONG), 1)
    assert found["steps"] == [2, 36] and found["R@1 by language"] == {"de": found["R@1"]["gain"]}
    assert found["R@1"]["gain"] == pytest.approx(100 * gain.mean, abs=0.01)
    said = {"data": "scenes", "languages": ["de"], "pairs": 1_000, "seeds": 2, "set": {"epochs": "6"}, "against": {}}
    *_, line = report.gains([said | found])
    assert line.startswith("| scenes | 1,000 | 1, 2 | epochs 6 | the default | 2 → 36 |"), line
    assert f"| {found['R@1']['before']:.1f} {100 * gain.mean:+.1f} ±{100 * gain.error:.1f} |" in line, line


def test_what_is_held_is_not_measured_again(encoder: Encoder, held: list[dict[str, Any]], tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    read = json.loads(json.dumps(held[:2] + held[3:]))
    gains.fill(encoder, Toy(encoder), [*trials(SHORT), *trials(LONG)], read, tmp_path, told.append)
    (again,) = told
    assert again | {"seconds": 0} == held[2] | {"seconds": 0}


def test_several_runs_may_add_to_one_file(tmp_path: Path) -> None:
    out, concluded = tmp_path / "trials.json", tmp_path / "gains.json"
    figures = {f"R@{k}": {"before": 1.0, "after": 2.0, "gain": 1.0, "error": 0.1} for k in KS}

    def measured(seed: int) -> None:
        _add(out, {"seed": seed})
        _keep(concluded, {"seeds": seed}, figures)

    with ThreadPoolExecutor(8) as runs:
        list(runs.map(measured, range(8)))
    assert sorted(trial["seed"] for trial in json.loads(out.read_bytes())["trials"]) == [*range(8)]
    assert sorted(each["seeds"] for each in json.loads(concluded.read_bytes())["comparisons"]) == [*range(8)]


def test_the_demos_rows_are_taught_and_its_held_out_captions_ask_among_all_pictures(
    encoder: Encoder, tmp_path: Path
) -> None:
    shown = [*outlines()[:12], *outlines()[-40:]]
    data = DemoData(encoder, tmp_path, shown)
    corpus, (test,) = data.corpus("tr"), data.tests("tr").values()
    assert len(corpus.captions) + len(test.captions) == len(data.galleries["all"]) == 52 and len(test.captions) > 3
    said = {outline.id: clean(outline.caption) for outline in shown}
    assert list(corpus.texts) == [said[shown[place].id] for place in corpus.owner.tolist()]
    assert torch.equal(corpus.pictures, torch.from_numpy(data.galleries["all"]))
    assert all(len(shown[place].objects) > 1 for place in test.owner)
    assert corpus.texts == data.corpus("ja").texts  # in one order


@pytest.mark.parametrize("option", ["--out", "--concluded"])
def test_a_file_that_holds_no_results_is_refused_before_anything_is_done(option: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    arguments = ["gains", option, str(tmp_path / "broken.json"), "--work", str(tmp_path / "work")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1 and "not JSON; name another file" in result.output
    assert not (tmp_path / "work").exists()


def test_a_setting_that_the_service_would_refuse_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["gains", "--set", "start=odd", "--out", str(tmp_path / "no.json")])
    assert ended.exit_code != 0 and "--set: start: Input should be" in str(ended.exception)
    assert not [*tmp_path.iterdir()]
