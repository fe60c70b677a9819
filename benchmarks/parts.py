"""What each part of a search takes, as the service counts it itself in `/metrics`. Sends no search."""

from collections.abc import Iterable, Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table

from benchmarks.load import Timings

REST = "rest"  # what the client waits beyond the parts: the connection, HTTP, the client itself
_METRIC = "pictoglot_search_part_seconds"


def read_part_seconds(url: str) -> dict[str, float]:
    """Return seconds by part, of all searches so far."""
    text = httpx.get(f"{url}/metrics", timeout=30, trust_env=False).raise_for_status().text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.labels["part"]: sample.value for sample in samples if sample.name == f"{_METRIC}_sum"}


def compute_parts(spent: Iterable[Mapping[str, float]], timings: Timings) -> dict[str, float]:
    """Return milliseconds of a search by part: `spent` has the seconds of each block, `timings` all their searches."""
    searches = max(1, len(timings.seconds))
    seconds: dict[str, float] = {}
    for block in spent:
        for part, value in block.items():
            seconds[part] = seconds.get(part, 0.0) + value
    seconds[REST] = sum(timings.seconds) - sum(seconds.values())
    return {part: round(value * 1_000 / searches, 3) for part, value in seconds.items()}


def build_table(blocks: Mapping[str, Mapping[str, float]]) -> Table:
    """Return a row a part: milliseconds and share of the whole, in each block."""
    shown = Table("part", *(f"{name}: ms (share)" for name in blocks))
    for part in dict.fromkeys(part for parts in blocks.values() for part in parts):
        shown.add_row(part, *(_format_cell(parts.get(part, 0.0), sum(parts.values())) for parts in blocks.values()))
    return shown


def _format_cell(milliseconds: float, whole: float) -> str:
    return f"{milliseconds:.2f} ({milliseconds / whole:.0%})" if whole else "–"
