"""Metrics against slow, obvious computations."""

import numpy as np
import pytest

from model.evaluation import measure_gain, measure_recalls


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
    assert not measure_gain(before, one, each, (1, 10)).is_enough and measure_gain(before, two, each, (1, 10)).is_enough
    assert not measure_gain(one, before, each, (1, 10)).is_enough


def test_of_equal_ranks_nothing_is_gained_and_one_target_says_nothing() -> None:
    same, each = np.array([0, 3, 40]), np.arange(3)
    assert (measure_gain(same, same, each, (1,)).mean, measure_gain(same, same, each, (1,)).error) == (0.0, 0.0)
    assert measure_gain(np.array([40, 30]), np.array([0, 30]), np.array([5, 5]), (1, 10)).error == 1.0
