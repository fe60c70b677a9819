"""The report's tables, on two made-up languages whose figures are reckoned by hand."""

from typing import Any

import pytest

from benchmarks.emoji36 import reach, report, tables


def seed(triangle: list[list[float]], **more: Any) -> dict[str, Any]:
    scores = {"t2i": {"R@1": triangle}, "i2t": {"R@1": triangle}}
    return {"seeds": {"0": {"seen": scores, **more}}}


def results() -> dict[str, Any]:
    held: dict[str, Any] = {
        "languages": ["en", "bn", "it"],
        "methods": {
            "cll-clip": seed([[0.80], [0.60, 0.70], [0.40, 0.50, 0.70]]),  # AA 53.3, F 30
            "teir-init": seed([[0.80], [0.60, 0.70], [0.45, 0.50, 0.70]]),  # AA 55
            "teir": seed([[0.80], [0.70, 0.70], [0.60, 0.60, 0.70]]),  # AA 63.3, F 15
            "joint": seed([[0.70, 0.70, 0.70]]),
            "addressed": seed([[0.80], [0.80, 0.70], [0.80, 0.70, 0.78]], bitwise_equal=True),  # AA 76
            "auto": seed(
                [[0.80], [0.80, 0.70], [0.80, 0.60, 0.78]],  # AA 72.7
                confusion={"en": {"en": 9, "it": 1}, "bn": {"bn": 10}, "it": {"it": 7, "unsure": 2, "en": 1}},
            ),
        },
    }
    report.conclude(held)
    return held


def reached(held: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    return {figure: (measured, holds) for figure, _, measured, holds in reach.reached(held)}


def test_what_is_to_be_reached_is_reckoned_from_the_runs() -> None:
    assert reached(results()) == {
        "AA of `teir` over `cll-clip`": ("+10.0", True),
        "F of `teir` under `cll-clip`": ("+15.0", True),
        "AA, F of `teir-init`": ("55.0, 27.5", True),
        "F, F_en of `addressed`": ("0.0, 0.0; vectors after the last language equal to the bit", True),
        "languages with marks against the median": ("bn -8.0", False),
        "AA of `addressed` over `joint`": ("+6.0", True),
        "AA of `addressed` over `auto`": ("+3.3", False),
    }


def test_rows_are_compared_on_the_seeds_that_both_have() -> None:
    held = results()
    better = [[0.80], [0.70, 0.70], [0.69, 0.60, 0.70]]  # AA 66.3
    held["methods"]["teir"]["seeds"]["1"] = seed(better)["seeds"]["0"]
    assert reached(held)["AA of `teir` over `cll-clip`"] == ("+10.0", True)
    held["methods"]["cll-clip"]["seeds"]["1"] = held["methods"]["cll-clip"]["seeds"]["0"]
    assert reached(held)["AA of `teir` over `cll-clip`"] == ("+11.5 (+10.0, +13.0)", True)


def test_vectors_that_changed_do_not_count_as_nothing_forgotten() -> None:
    held = results()
    held["methods"]["addressed"]["seeds"]["0"]["bitwise_equal"] = False
    assert reached(held)["F, F_en of `addressed`"][1] is False


@pytest.mark.parametrize(
    "line", ["| en | 90.0 | 0.0 | it 10.0 |", "| bn | 100.0 | 0.0 | – |", "| it | 70.0 | 20.0 | en 10.0 |"]
)
def test_what_languages_were_taken_for_is_told(line: str) -> None:
    assert line in "\n".join(tables.all_of(results())).splitlines()


def test_rows_that_were_not_run_are_left_out() -> None:
    held = results()
    held["methods"] = {"cll-clip": held["methods"]["cll-clip"]}
    written = [*tables.all_of(held)]
    assert reached(held) == {} and all("auto" not in table for table in written)
