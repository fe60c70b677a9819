"""The benchmark of imports, in small: it counts what a command reported, and loses or repeats nothing after a kill."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import imports
from tests.patience import PATIENCE
from tests.service.processes import weightless

KEY = "k" * 40
PICTURES = 24


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A service without a model."""
    service = weightless(tmp_path / "home", ADMIN_KEY=KEY, FREE_BYTES="0", OPEN="1")
    yield service.stdout.readline().split()[-1]
    service.terminate()
    service.communicate(timeout=PATIENCE)


@pytest.mark.nightly
def test_a_killed_import_goes_on_and_the_three_ways_are_timed(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "_TURN", 3)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    ids = [file.stem for file in imports.draw_pictures(tmp_path / "whole", PICTURES)]
    found = imports.measure_killed(url, KEY, tmp_path / "whole", ids, kills=1)
    assert found["then_there"] + found["then_added"] == PICTURES and found["then_there"] >= PICTURES // 2
    assert (found["sent_again"], found["missing"], found["unknown"]) == (0, 0, 0) and found["then_per_second"] > 0
    timed = imports.measure_in_turns(url, KEY, tmp_path, rounds=1)
    assert timed["one_by_one"] > 0 and timed["ratios"] == [timed["ratio"]]
    assert timed["ratio"] == pytest.approx(timed["add"] / timed["one_by_one"])
    assert timed["batch_ratios"] == [timed["batch_ratio"]] == [pytest.approx(timed["batch"] / timed["one_by_one"])]
    monkeypatch.setattr(imports, "_BLOCK", 0.5)
    beside = imports.measure_searches(url, KEY, tmp_path, rounds=1)["search_p95_ms"]
    assert beside["ratio"] == pytest.approx(beside["importing"] / beside["idle"])
    monkeypatch.setattr(imports, "_LARGE", (400, 300))
    assert imports.measure_large(url, KEY, tmp_path / "large", 6)["photographs_seconds"] > 0
