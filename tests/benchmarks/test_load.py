"""The closed loop: it counts what was answered, sends what it was given, and reads percentiles as anyone would."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks.load import Timings, run_closed_loop, search_body
from benchmarks.parts import REST, compute_parts, read_part_seconds
from benchmarks.serving import compare
from tests.doubles import SlowEncoder
from tests.http_server import QuietHandler, serve
from tests.service.harness import running


@contextmanager
def start_server(status: int) -> Iterator[tuple[str, list[str]]]:
    texts: list[str] = []

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    with serve(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as listening:
        yield f"http://127.0.0.1:{listening.server_port}", texts


def test_every_answer_is_counted_and_every_text_gets_its_turn() -> None:
    bodies = [search_body(text, "en") for text in ("red apple", "rocket", "cat")]
    with start_server(200) as (url, texts):
        timings = run_closed_loop(url, bodies, clients=2, seconds=1.0)
    assert timings.failed == 0 and len(timings.seconds) == len(texts)
    assert set(texts) == {"red apple", "rocket", "cat"}


def test_a_refusal_is_a_failure_and_not_a_fast_answer() -> None:
    with start_server(503) as (url, _):
        timings = run_closed_loop(url, [search_body("cat", "en")], clients=1, seconds=0.1)
    assert timings.failed > 0 and timings.seconds == []


def test_percentiles_are_milliseconds() -> None:
    timings = Timings([value / 1_000 for value in range(1, 102)], duration=2.0)
    assert (timings.compute_percentile(50), timings.compute_percentile(95), timings.rate) == (51.0, 96.0, 50.5)


def test_what_became_worse_than_in_the_last_release_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def make_report(processor: str, p50: float, rate: float, gain: float) -> dict[str, Any]:
        return {
            "machine": {"processor": processor},
            "software": {"commit": "abc"},
            "blocks": {"idle": {"p50_ms": p50, "p95_ms": 9.0, "per_second": rate}},
            "ratios": {"throughput of 8 clients over 1": gain, "p95 while learning over idle": 2.0},
        }

    compare(make_report("a", 3.0, 100, 1.5), make_report("a", 2.0, 90, 1.4))
    assert "Worse by more than 1.25 times: idle: p50_ms." in capsys.readouterr().out
    compare(make_report("a", 2.0, 70, 1.5), make_report("a", 2.0, 90, 1.4))
    assert "Worse by more than 1.25 times: idle: per_second." in capsys.readouterr().out
    compare(make_report("b", 9.0, 10, 1.0), make_report("a", 2.0, 90, 1.4))
    printed = capsys.readouterr().out
    assert "not compared" in printed and "Worse by more than 1.25 times: throughput of 8 clients over 1." in printed


# --- The parts of a search: read from a real service's metrics, and as long in all as what the client waited ---


def test_the_parts_of_a_block_are_as_long_as_the_client_waited(tmp_path: Path) -> None:
    with running(tmp_path, SlowEncoder(0.02), open=True, cache_size=0) as service:
        bodies = [search_body(text, "en") for text in ("red apple", "rocket")]
        run_closed_loop(service.url, bodies, clients=1, seconds=0.1)
        before = read_part_seconds(service.url)
        timings = run_closed_loop(service.url, bodies, clients=1, seconds=0.5)
        spent = {part: value - before[part] for part, value in read_part_seconds(service.url).items()}
    assert timings.failed == 0
    parts = compute_parts([spent], timings)
    assert parts["encode"] >= 20 and parts[REST] > 0
    assert sum(parts.values()) == pytest.approx(sum(timings.seconds) * 1_000 / len(timings.seconds), abs=0.05)
