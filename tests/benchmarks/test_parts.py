"""The parts of a search: read from a real service's metrics, and as long in all as what the client waited."""

from pathlib import Path

import pytest

from benchmarks.load import run_closed_loop, search_body
from benchmarks.parts import REST, compute_parts, read_part_seconds
from tests.doubles import SlowEncoder
from tests.service.harness import running


def test_the_parts_of_a_block_are_as_long_as_the_client_waited(tmp_path: Path) -> None:
    with running(tmp_path, SlowEncoder(0.02), open=True, cache_size=0) as service:
        bodies = [search_body(text, "en") for text in ("red apple", "rocket")]
        run_closed_loop(service.url, bodies, clients=1, seconds=0.1)
        before = read_part_seconds(service.url)
        timings = run_closed_loop(service.url, bodies, clients=1, seconds=0.5)
        spent = {part: value - before[part] for part, value in read_part_seconds(service.url).items()}
    assert timings.failed == 0
    parts = compute_parts([spent], timings)
    assert 20 <= parts["encode"] < 40
    assert 0 < parts[REST] < 10
    assert sum(parts.values()) == pytest.approx(sum(timings.seconds) * 1_000 / len(timings.seconds), abs=0.05)
