"""Chances of hits on what they were not fitted to, and of any page; metrics against slow, obvious computations."""

from dataclasses import replace

import numpy as np
import pytest

from model.evaluation import measure_gain, measure_recalls
from model.match import (
    RIVALS,
    SCORES_LOW,
    Calibration,
    Curves,
    MatchSample,
    compute_expected_error,
    fit,
    measure_error,
)

TRUE = Curves(sharpness=4.0, trust=0.8, lead=-0.3, most=0.96, steepness=5.0, threshold=3.8, usual=0.1)


def drawn(count: int, curves: Curves = TRUE, seed: int = 0, closeness: float = 0.8) -> MatchSample:
    """Answers whose hits are right as often as `curves` say; `closeness`: how near to each other the first hits are."""
    random = np.random.default_rng(seed)
    first = random.normal(4.6, 0.5, (count, 1))
    z = first - np.cumsum(np.c_[np.zeros(count), random.exponential(closeness, (count, RIVALS - 1))], axis=1)
    chances = np.array([curves.compute_matches(row, row) for row in z])
    right = random.random(z.shape) < chances
    return MatchSample(z, right, np.sort(random.normal(2.6, 0.4, z.shape))[:, ::-1], curves.usual)


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


def unit(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    vectors = random.standard_normal(shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def slow(texts: np.ndarray, pictures: np.ndarray, owner: np.ndarray, k: int) -> tuple[float, float]:
    scores = texts @ pictures.T
    hits = [owner[i] in sorted(range(len(pictures)), key=lambda p: (-scores[i, p], p))[:k] for i in range(len(texts))]
    pictured = sorted(set(owner.tolist()))
    hit = []
    for p in pictured:
        top = sorted(range(len(texts)), key=lambda t: (-scores[t, p], t))[:k]
        hit.append(any(owner[t] == p for t in top))
    return float(np.mean(hits)), float(np.mean(hit))


def test_recall_equals_sorting_everything() -> None:
    random = np.random.default_rng(0)
    pictures, texts = unit(random, (40, 8)), unit(random, (70, 8))
    owner = random.integers(0, 30, 70)
    result = measure_recalls(texts, pictures, owner)
    assert result["pairs"] == 70
    for k in (1, 5, 10):
        t2i, i2t = slow(texts, pictures, owner, k)
        assert result["t2i"][f"R@{k}"] == pytest.approx(t2i)
        assert result["i2t"][f"R@{k}"] == pytest.approx(i2t)


def test_twins_are_decided_by_their_index_and_not_by_rounding() -> None:
    random = np.random.default_rng(1)
    pictures = unit(random, (300, 256))
    pictures[1::2] = pictures[::2]  # each twice
    texts = unit(random, (300, 256))
    texts[:] = pictures + 0.01 * texts
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    first = np.arange(300) // 2 * 2
    assert measure_recalls(texts, pictures, first)["t2i"]["R@1"] == 1.0
    assert measure_recalls(texts, pictures, first + 1)["t2i"]["R@1"] == 0.0


def test_of_nothing_and_of_what_is_not_finite_no_recall_is_measured() -> None:
    eye = np.eye(12, dtype=np.float32)
    assert measure_recalls(eye, eye, np.arange(12))["i2t"] == {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0}
    with pytest.raises(ValueError, match="nothing"):
        measure_recalls(eye[:0], eye, np.arange(0))
    with pytest.raises(ValueError, match="finite"):
        measure_recalls(np.full_like(eye, np.nan), eye, np.arange(12))


def test_a_picture_whose_best_text_ties_with_a_later_ones_is_found_first() -> None:
    """Picture to text, ties by index too: both texts are equally near to both pictures."""
    same = np.array([[1.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    assert measure_recalls(same, same, np.array([0, 1]))["i2t"]["R@1"] == 0.5


def test_a_gain_is_that_of_the_mean_recall_with_the_error_of_paired_differences() -> None:
    before, after = np.array([0, 5, 20, 20]), np.array([0, 0, 5, 30])  # scores 1, 1/2, 0, 0 and 1, 1, 1/2, 0
    measured = measure_gain(before, after, np.arange(4), (1, 10))
    assert (measured.before, measured.after, measured.mean) == (0.375, 0.625, 0.25)
    differences = np.array([0, 0.5, 0.5, 0])
    assert measured.error == pytest.approx(np.sqrt(((differences - 0.25) ** 2).sum() / (4 * 3)))


def test_the_error_of_a_gain_is_how_much_it_differs_from_sample_to_sample() -> None:
    """Against 2,000 samples drawn again from the same 300 pictures (the bootstrap), whose captions rank alike."""
    random = np.random.default_rng(1)
    owner = np.repeat(np.arange(300), random.choice((1, 3, 9), 300))
    of_picture = random.integers(0, 30, 300), random.integers(0, 20, 300)
    before, after = (ranks[owner] + random.integers(0, 3, len(owner)) for ranks in of_picture)
    measured = measure_gain(before, after, owner, (1, 10))
    own = [np.flatnonzero(owner == picture) for picture in range(300)]
    samples = (np.concatenate([own[picture] for picture in random.integers(0, 300, 300)]) for _ in range(2_000))
    means = [measure_gain(before[sample], after[sample], owner[sample], (1, 10)).mean for sample in samples]
    assert measured.error == pytest.approx(np.std(means), rel=0.1)


@pytest.mark.parametrize("count", [5, 6, 7, 11, 13, 49, 69])
def test_one_query_alone_is_never_enough_of_a_gain_and_two_are(count: int) -> None:
    """The error of one is its gain, whatever the rounding; that of two is less."""
    before, each = np.full(count, 30), np.arange(count)
    one, two = (np.where(each < better, 0, before) for better in (1, 2))
    assert (
        not measure_gain(before, one, each, (1, 10)).is_beyond_error
        and measure_gain(before, two, each, (1, 10)).is_beyond_error
    )
    assert not measure_gain(one, before, each, (1, 10)).is_beyond_error


def test_of_equal_ranks_nothing_is_gained_and_one_target_says_nothing() -> None:
    same, each = np.array([0, 3, 40]), np.arange(3)
    assert (measure_gain(same, same, each, (1,)).mean, measure_gain(same, same, each, (1,)).error) == (0.0, 0.0)
    assert measure_gain(np.array([40, 30]), np.array([0, 30]), np.array([5, 5]), (1, 10)).error == 1.0
