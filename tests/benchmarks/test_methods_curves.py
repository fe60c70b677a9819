"""Learning curves: what a point measures, that none is measured twice, and what the report makes of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.methods import curves, report
from model.base import open_base
from model.encoder import Encoder
from tests.benchmarks.test_methods_miniature import Toy


@pytest.fixture(scope="module")
def encoder(spec: str) -> Encoder:
    return Encoder(open_base(spec))


@pytest.fixture(scope="module")
def held(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """From both starts, without training and at a quarter of the length."""
    found: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "PAIRS", (90,))
        patch.setattr(curves, "SHARES", (0.0, 0.25))
        patch.setattr(curves, "LANGUAGES", ("de",))
        curves.run(encoder, Toy(encoder), found, 0, tmp_path_factory.mktemp("curves"), found.append)
        yield found


def test_an_aligned_start_reads_something_without_training_and_a_plain_one_learns(held: list[dict[str, Any]]) -> None:
    recall = {(each["start"], each["share"]): each["seen"]["t2i"] for each in held}
    assert {*recall} == {(start, share) for start in ("plain", "agreed") for share in (0.0, 0.25)}
    assert recall["agreed", 0.0] > recall["plain", 0.0] + 0.2
    assert recall["plain", 0.25] > recall["plain", 0.0] + 0.2
    assert [each["steps"] for each in held] == [0, 0, 20, 20] and all(each["pairs"] == 90 for each in held)


def test_what_is_held_is_not_measured_again(encoder: Encoder, held: list[dict[str, Any]], tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    curves.run(encoder, Toy(encoder), held[:1] + held[2:], 0, tmp_path, told.append)
    (again,) = told
    untimed = {key: value for key, value in held[1].items() if key != "seconds"}
    assert {key: value for key, value in again.items() if key != "seconds"} == untimed


def test_the_report_gives_means_over_trainings_and_paired_gains() -> None:
    def point(tag: str, start: str, share: float, recall: float) -> dict[str, Any]:
        found = {gallery: {"t2i": recall, "i2t": 0.0} for gallery in ("seen", "unseen")}
        return {"language": tag, "pairs": 200, "start": start, "share": share, "seed": 0, "steps": 7, **found}

    recalls = {
        ("plain", 1.0): (0.1, 0.3), ("aligned", 1.0): (0.2, 0.5),
        ("aligned", 0.25): (0.2, 0.4), ("agreed", 1.0): (0.2, 0.4),
    }  # fmt: skip
    held = [point(tag, *key, value) for key, values in recalls.items() for tag, value in zip("ab", values, strict=True)]
    written = "\n".join(report.points({"curves": held}))
    assert "| 200 | full | plain | 7 | 20.0 / 20.0 | 10.0 / 10.0 | 30.0 / 30.0 |" in written
    gains = report.starts({"curves": held})
    assert "| 200 | full | full | 2 | +15.0 ±5.0 | +15.0 ±5.0 |" in gains
    assert "| 200 | a quarter | full | 2 | +10.0 ±0.0 | +10.0 ±0.0 |" in gains
    assert "| 200 | full, agreed | full | 2 | +10.0 ±0.0 | +10.0 ±0.0 |" in gains
