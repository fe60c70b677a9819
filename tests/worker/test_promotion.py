"""The gate's decisions on figures."""

from typing import Any

import pytest

from worker.promotion import forgotten, keeps_shared, refusal


def report(r10: float = 0.5, truncated: float = 0.0, pairs: int = 10, **losses: float) -> dict[str, Any]:
    languages = {tag: {"before": {"R@1": 0.5}, "after": {"R@1": 0.5 - loss}} for tag, loss in losses.items()}
    return {"t2i": {"R@10": r10}, "pairs": pairs, "truncated": truncated, "shared": {"languages": languages}}


def test_a_language_above_the_floor_is_served() -> None:
    assert refusal(report(0.2), 0.2) is None


@pytest.mark.parametrize(
    ("figures", "said"),
    [(report(0.19), "R@10 is 0.190"), (report(truncated=0.06), "6.0% of"), (report(pairs=0), "no held-out")],
)
def test_a_language_below_the_floor_or_cut_or_unasked_is_refused_with_figures(
    figures: dict[str, Any], said: str
) -> None:
    reason = refusal(figures, 0.2)
    assert reason is not None
    assert said in reason


def test_the_budget_is_on_the_mean_over_the_earlier_languages() -> None:
    assert forgotten(report(de=0.1, fr=0.0)) == pytest.approx(0.05)
    assert keeps_shared(report(de=0.1, fr=-0.02), 0.05)
    assert not keeps_shared(report(de=0.1, fr=0.02), 0.05)


def test_the_first_language_has_nothing_to_forget() -> None:
    assert keeps_shared(report(), 0.0)
