"""The gate's decisions on figures."""

from typing import Any

import pytest

from worker.promotion import forgotten, keeps_shared, refusal


def report(
    r10: float = 0.5, truncated: float = 0.0, pairs: int = 10, candidates: int = 1000, r1: float = 0.1, **losses: float
) -> dict[str, Any]:
    languages = {tag: {"before": {"R@1": 0.5}, "after": {"R@1": 0.5 - loss}} for tag, loss in losses.items()}
    return {
        "t2i": {"R@1": r1, "R@10": r10},
        "pairs": pairs,
        "candidates": candidates,
        "truncated": truncated,
        "shared": {"languages": languages, "unmeasured": []},
    }


def test_a_language_above_the_floor_is_served() -> None:
    assert refusal(report(0.209), 0.2) is None


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (report(0.207), "R@10 is 0.207, at least 0.208"),
        (report(truncated=0.06), "6.0% of"),
        (report(pairs=0), "no held-out"),
    ],
)
def test_a_language_below_the_floor_or_cut_or_unasked_is_refused_with_figures(
    figures: dict[str, Any], said: str
) -> None:
    reason = refusal(figures, 0.2)
    assert reason is not None
    assert said in reason


def test_the_floor_stands_above_chance() -> None:
    guesses = 10 / 60  # what garbage reaches among 60 candidates
    assert refusal(report(guesses + 0.1, candidates=60), 0.2) is not None
    assert refusal(report(0.34, candidates=60), 0.2) is None


def test_among_few_candidates_the_first_hit_is_asked_for() -> None:
    reason = refusal(report(1.0, r1=1 / 6, candidates=6), 0.2)  # what garbage reaches among six
    assert reason is not None
    assert "R@1 is 0.167, at least 0.333" in reason
    assert refusal(report(1.0, r1=0.34, candidates=6), 0.2) is None


def test_without_a_floor_nothing_is_asked() -> None:
    assert refusal(report(0.0, r1=0.0, candidates=6), 0.0) is None


def test_every_earlier_language_is_kept_within_the_budget() -> None:
    assert keeps_shared(report(de=0.04, fr=0.04), 0.05)
    assert not keeps_shared(report(de=0.1, fr=-0.1, nl=0.0), 0.05)


def test_what_could_not_be_asked_does_not_count_as_kept() -> None:
    unknown = report(de=0.0)
    unknown["shared"]["unmeasured"] = ["en", "fr"]
    assert not keeps_shared(unknown, 1.0)
    unknown["shared"]["unmeasured"] = ["en"]
    assert keeps_shared(unknown, 0.05)


def test_the_mean_loss_is_told_beside_the_largest() -> None:
    assert forgotten(report(de=0.1, fr=0.0)) == {"mean_loss": pytest.approx(0.05), "max_loss": pytest.approx(0.1)}


def test_the_first_language_has_nothing_to_forget() -> None:
    assert keeps_shared(report(), 0.0)
