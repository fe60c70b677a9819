"""What counts as lost by a move to another base."""

from typing import Any

import pytest

from worker.move import losses

BUDGET = 0.02


def compared(before: float, after: float) -> dict[str, Any]:
    return {side: {"t2i": {"R@1": r1}, "i2t": {"R@1": 0.5}} for side, r1 in (("before", before), ("after", after))}


@pytest.mark.parametrize(("after", "lost"), [(0.60, 0), (0.495, 0), (0.481, 0), (0.479, 1), (0.30, 1)])
def test_only_what_is_beyond_the_budget_is_a_loss(after: float, lost: int) -> None:
    report = {"languages": {"en": compared(0.9, 0.88), "cy": compared(0.5, after)}}
    told = losses(report, BUDGET)
    assert told == [f"cy would go from t2i R@1 0.500 to {after:.3f}"][:lost]


def test_english_has_the_same_budget() -> None:
    assert losses({"languages": {"en": compared(0.9, 0.8)}}, BUDGET) == ["en would go from t2i R@1 0.900 to 0.800"]


def test_a_language_without_figures_counts_as_lost_but_english_may_have_none() -> None:
    left_out = {"left_out": "pivot_not_served", "detail": ""}
    first, second = losses({"languages": {"en": {}, "cy": {}, "br": left_out}}, 1.0)
    assert first.startswith("cy has no held-out captions") and "pivot_not_served" in second
