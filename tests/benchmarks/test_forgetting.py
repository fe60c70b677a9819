"""What a chain of languages loses, on triangles that are calculated by hand."""

import pytest

from benchmarks.forgetting import measure_backward_transfer, measure_english_forgetting


@pytest.mark.parametrize(
    ("a", "english", "transfer"),
    [
        ([[80.0], [70.0, 60.0], [75.0, 40.0, 50.0]], 80 - 75, ((75 - 80) + (40 - 60)) / 2),
        ([[50.0], [70.0, 60.0], [60.0, 65.0, 50.0]], 70 - 60, ((60 - 50) + (65 - 60)) / 2),
        ([[80.0]], 0.0, 0.0),
    ],
)
def test_losses_are_from_the_best_past_score_and_transfer_from_the_languages_own(
    a: list[list[float]], english: float, transfer: float
) -> None:
    assert measure_english_forgetting(a) == pytest.approx(english)
    assert measure_backward_transfer(a) == pytest.approx(transfer)
