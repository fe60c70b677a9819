"""The suite's tables: means over seeds, and TEIR over without it, paired by language and seed."""

from typing import Any

from benchmarks.emoji36.report import conclude, seed_results
from benchmarks.methods import report

WAYS = ("t2i", "i2t")


def ledger(triangle: list[list[float]]) -> dict[str, Any]:
    """Of a row whose recall is this in both directions and galleries, at every K."""
    return {
        "triangle": [
            [{name: {way: dict.fromkeys(("R@1", "R@5", "R@10"), recall) for way in WAYS} for name in ("seen", "unseen")}
             for recall in row]
            for row in triangle
        ]
    }  # fmt: skip


def test_rows_are_means_over_seeds_and_leads_are_paired_by_language_and_seed() -> None:
    """Of what only one of the two rows has, nothing counts."""
    shown: dict[str, dict[str, list[list[float]]]] = {
        "oewc": {
            "0": [[0.5], [0.5, 0.3], [0.4, 0.3, 0.2]],
            "1": [[0.5], [0.5, 0.3], [0.3, 0.2, 0.4]],
            "2": [[0.9], [0.9, 0.9], [0.0, 0.0, 0.0]],
        },
        "oewc+teir": {"0": [[0.5], [0.5, 0.4], [0.5, 0.4, 0.3]], "1": [[0.5], [0.5, 0.4], [0.5, 0.3, 0.5]]},
    }
    methods = {
        name: {"seeds": {seed: seed_results(ledger(triangle)) for seed, triangle in seeds.items()}}
        for name, seeds in shown.items()
    }
    results: dict[str, Any] = {"methods": methods, "languages": ["en", "it", "de"]}
    conclude(results)
    rows = {line.split("`")[1]: line.split(" | ")[1:5] for line in report.rows(results)[4:]}
    assert rows == {"oewc": ["3", "20.0", "36.7", "40.0"], "oewc+teir": ["2", "41.7", "2.5", "0.0"]}
    (lead,) = report.leads(results)[4:]
    # by language 15, 10, 10 of AA, and -15, 0 of F: means of seeds 0 and 1
    assert lead.startswith("| `oewc` | +11.7 ±1.7 | -7.5 ±7.5 |") and lead.endswith("| yes |")
