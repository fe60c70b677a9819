"""Chances of hits: right on what they were not fitted to, falling with scores, and of any page of an answer."""

from dataclasses import replace

import numpy as np
import pytest

from model.match import (
    RIVALS,
    SCORES_LOW,
    Answers,
    Calibration,
    Curves,
    compute_expected_error,
    fit,
    measure_error,
)

TRUE = Curves(sharpness=4.0, trust=0.8, lead=-0.3, most=0.96, steepness=5.0, threshold=3.8, usual=0.1)


def drawn(count: int, curves: Curves = TRUE, seed: int = 0, closeness: float = 0.8) -> Answers:
    """Answers whose hits are right as often as `curves` say; `closeness`: how near to each other the first hits are."""
    random = np.random.default_rng(seed)
    first = random.normal(4.6, 0.5, (count, 1))
    z = first - np.cumsum(np.c_[np.zeros(count), random.exponential(closeness, (count, RIVALS - 1))], axis=1)
    chances = np.array([curves.compute_matches(row, row) for row in z])
    right = random.random(z.shape) < chances
    return Answers(z, right, np.sort(random.normal(2.6, 0.4, z.shape))[:, ::-1], curves.usual)


def slow_matches(curves: Curves, first: list[float], z: float, place: int | None) -> float:
    """As the docstring says it, for one hit that is at `place` of the first ones, or after them."""
    weight = [np.exp(curves.sharpness * each) for each in first]
    odds = np.exp(curves.sharpness * z) / sum(each for number, each in enumerate(weight) if number != place)
    there = SCORES_LOW + (1 - SCORES_LOW) / (1 + np.exp(-curves.steepness * (first[0] - curves.threshold)))
    return float(curves.most * there / (1 + np.exp(-curves.trust * np.log(odds) - curves.lead)))


def test_chances_are_those_of_the_formula_also_of_a_later_page() -> None:
    first = [4.5, 4.2, 4.1, 3.3, 3.0, 2.9, 2.8, 2.7, 2.6, 2.5]
    z = np.array([*first, 2.4, 1.0])
    expected = [slow_matches(TRUE, first, each, place if place < RIVALS else None) for place, each in enumerate(z)]
    assert TRUE.compute_matches(np.array(first), z) == pytest.approx(expected, rel=1e-9)
    assert TRUE.compute_matches(np.array(first), z[7:]) == pytest.approx(expected[7:], rel=1e-9)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_answer_with_few_hits_has_chances(count: int) -> None:
    z = np.linspace(4.4, 4.0, count)
    chances = TRUE.compute_matches(z, z)
    assert len(chances) == count and ((chances > 0) & (chances <= 1)).all()
    assert TRUE.compute_matches(np.empty(0), np.empty(0)).shape == (0,)


def test_no_hit_has_a_higher_chance_than_one_before_it() -> None:
    for row in drawn(200, seed=3).z:
        assert (np.diff(TRUE.compute_matches(row, row)) <= 0).all()


def test_chances_do_not_change_when_all_scores_of_a_base_are_narrower() -> None:
    """z is in deviations: a base whose scores lie closer together and higher gets the same chances."""
    random = np.random.default_rng(0)
    query = np.array([1.0, 0.0], dtype=np.float32)
    cosines = random.normal(0.0, 0.1, 256)
    chances = []
    for factor, shift in ((1.0, 0.0), (0.3, 0.2)):
        sample = np.array([[factor * each + shift, 0.0] for each in cosines], dtype=np.float32)
        calibration = Calibration(replace(TRUE, usual=0.1 * factor), sample, 1_000, 0)
        scores = [factor * each + shift for each in (0.45, 0.40, 0.2)]
        chances.append(calibration.compute_matches(query, scores, scores))
    assert chances[0] == pytest.approx(chances[1], abs=1e-3) and chances[0][0] > 0.3


def test_a_fit_finds_chances_that_are_right_on_other_texts() -> None:
    curves = fit(drawn(2_000))
    others = drawn(2_000, seed=1)
    chance = np.array([curves.compute_matches(row, row) for row in others.z])
    assert compute_expected_error(chance[:, 0], others.right[:, 0]) < 0.03
    assert np.mean([curves.compute_matches(row, row)[0] < 0.5 for row in others.absent]) > 0.98


def test_few_texts_move_a_language_little_from_the_one_it_leans_on() -> None:
    near, few = fit(drawn(2_000)), drawn(5, seed=2)
    wrong = replace(few, right=np.zeros_like(few.right))  # by chance nothing was right
    assert fit(wrong, near).threshold == pytest.approx(near.threshold, abs=0.3)
    assert fit(wrong).threshold > near.threshold + 1  # alone they would be believed
    many = drawn(2_000, replace(TRUE, threshold=4.4), seed=3)
    assert fit(many, near).threshold > near.threshold + 0.2  # and many are


def test_what_is_measured_is_told_of_texts_that_were_not_fitted() -> None:
    figures = measure_error(drawn(600))
    assert figures["captions"] == 600 and figures["error"] < 2 * figures["by_chance"] + 0.02
    assert figures["error_all"] < figures["error"] and figures["absent"] > 0.95
    assert 0.4 < figures["found"] < 1 and 0.7 < figures["kept"] <= 1
    assert sum(each["count"] for each in figures["bins"]) == 600
    halves = drawn(400)
    upside = np.arange(400) % 2 == 0  # one half is right where the other is not
    odd = replace(halves, right=np.where(upside[:, None], halves.right, False))
    assert measure_error(odd)["error"] > 0.2
