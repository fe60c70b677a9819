"""The suite's tables: means over seeds, TEIR over without it, and the error of the sample of pictures beside both."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.emoji36.report import conclude, seed_results
from benchmarks.methods import report, sampled
from model.evaluation import average_accuracy, forgetting, gain

WAYS, NAMES = ("t2i", "i2t"), ("seen", "unseen")
OWNERS = [np.array([0, 1, 2, 3]), np.array([3, 0, 1, 0]), np.array([1, 2, 2, 0])]  # of three languages' queries
Triangle = Sequence[Sequence[str]]  # of each language after each one: which queries found their picture, as "1010"


def ledger(triangle: Triangle) -> dict[str, Any]:
    """Of a row that finds this in both directions and galleries, at every K."""
    scores = [[dict.fromkeys(NAMES, scored(said)) for said in row] for row in triangle]
    return {"triangle": scores, "by_picture": {name: sampled.sums(scores, name, OWNERS) for name in NAMES}}


def scored(said: str) -> dict[str, Any]:
    recall, ranks = said.count("1") / len(said), np.array([0 if each == "1" else 5 for each in said])
    return {way: dict.fromkeys(("R@1", "R@5", "R@10"), recall) for way in WAYS} | {"first": sampled.packed(ranks)}


FIRST = [["1100"], ["1000", "1111"], ["0000", "1000", "1110"]]
BETTER = [["1100"], ["1100", "1111"], ["1000", "1100", "1111"]]
OTHER = [["1111"], ["1111", "1111"], ["1111", "0111", "0000"]]


def results_of(shown: Mapping[str, Sequence[Triangle]]) -> dict[str, Any]:
    methods = {
        name: {"seeds": {str(seed): seed_results(ledger(triangle)) for seed, triangle in enumerate(seeds)}}
        for name, seeds in shown.items()
    }
    results: dict[str, Any] = {"methods": methods, "languages": ["en", "it", "de"]}
    conclude(results)
    return results


def test_aa_and_f_of_the_pictures_are_those_of_the_triangle_and_their_error_is_that_of_a_gain_over_nothing() -> None:
    for triangle in (FIRST, BETTER, OTHER):
        recall = [[said.count("1") / 4 for said in row] for row in triangle]
        sums = ledger(triangle)["by_picture"]["seen"]
        found, error = sampled.mean([sums], "AA")
        assert found == pytest.approx(100 * average_accuracy(recall))
        assert sampled.mean([sums], "F")[0] == pytest.approx(100 * forgetting(recall))
        ranks = np.array([0 if each == "1" else 5 for said in triangle[-1] for each in said])
        assert error == pytest.approx(100 * gain(np.full(12, 5), ranks, np.concatenate(OWNERS), (1,)).error)


def test_rows_are_means_over_seeds_and_leads_are_paired_by_query_and_seed() -> None:
    """Of what only one of the two rows has, nothing counts."""
    results = results_of({"oewc": [FIRST, OTHER, OTHER], "oewc+teir": [BETTER, OTHER]})
    rows = {line.split("`")[1]: line.split(" | ")[1:4] for line in report.rows(results)[4:]}
    assert [cell.split()[0] for cell in rows["oewc"]] == ["3", "50.0", "29.2"], rows
    assert [cell.split()[0] for cell in rows["oewc+teir"]] == ["2", "58.3", "25.0"], rows
    # right after learning 9 of 12 are found (FIRST), 10 (BETTER) or 8 (OTHER)
    learned = {line.split("`")[1]: line.split(" | ")[5:7] for line in report.rows(results)[4:]}
    assert learned == {"oewc": ["69.4", "42 %"], "oewc+teir": ["75.0", "33 %"]}, learned
    (lead,) = report.leads(results)[4:]
    assert lead.split(" | ")[3] == "+4.2, 33 %", lead
    # of the first seed three more of twelve are found in the end, and two of eight fewer forgotten; of the second none
    assert lead.startswith("| `oewc` | +12.5 ±") and lead.split(" | ")[2].startswith("-12.5 ±"), lead
    before, after = (
        np.array([0 if each == "1" else 5 for said in row[-1] for each in said]) for row in (FIRST, BETTER)
    )
    error = 100 * gain(before, after, np.concatenate(OWNERS), (1,)).error / 2  # the other seed adds nothing
    assert f"+12.5 ±{error:.1f} |" in lead and lead.endswith("| yes |"), lead


def test_ablations_and_what_was_run_at_full_size_have_tables_of_their_own(tmp_path: Path) -> None:
    shown = {"cll-clip": [FIRST], "teir": [BETTER], "teir-init": [BETTER]}
    (tmp_path / "some.json").write_text(json.dumps(results_of(shown)))
    (tmp_path / "some-full.json").write_text(json.dumps(results_of({"cll-clip": [OTHER], "teir": [BETTER]})))
    written = report.write(tmp_path / "some.json")
    suite, leads, full, _, ablations = (part for part in written.split("\n\n") if "`cll-clip`" in part)
    assert "teir-init" not in suite + leads + full and "`teir-init`" in ablations
    assert "| `cll-clip` | 1 | 25.0 " not in full and "| `cll-clip` | 1 | 58.3 " in full, full
    assert (tmp_path / "some.md").read_text().count("| `teir-init` |") == 1 and (tmp_path / "some-aa-f.png").is_file()
