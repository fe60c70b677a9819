"""Measures of a chain of languages that only benchmarks tell; the others are in `model.evaluation`."""

import numpy as np

from model.evaluation import Triangle


def measure_english_forgetting(a: Triangle) -> float:
    """Return F_en: the best past score of the first language minus its score now; 0.0 for only one language."""
    return max(row[0] for row in a[:-1]) - a[-1][0] if len(a) > 1 else 0.0


def measure_backward_transfer(a: Triangle) -> float:
    """Return BWT: the mean over the earlier languages of score now minus score right after their own turn."""
    return float(np.mean([a[-1][j] - a[j][j] for j in range(len(a) - 1)])) if len(a) > 1 else 0.0
