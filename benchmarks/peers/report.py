"""The figures as JSON and as a table. Measures nothing."""

from typing import Any

from rich.table import Table

from benchmarks.peers.turns import OURS, Rounds

_TEXT = "text "


def text_kind(clients: int) -> str:
    """The kind of a block of text queries."""
    return f"{_TEXT}{clients}"


def as_json(rates: Rounds, latencies: Rounds) -> dict[str, Any]:
    """`text` by number of clients, and `pictures`: everything a second, and the p50 of text queries in ms."""
    found: dict[str, Any] = {"text": {}, "pictures": {}}
    for kind in rates.values:
        summary = rates.medians(kind) | rates.ratios(kind)
        if kind.startswith(_TEXT):
            found["text"][kind.removeprefix(_TEXT)] = summary | {"p50_ms": latencies.medians(kind)}
        else:
            found["pictures"][kind] = summary
    return found


def table(report: dict[str, Any]) -> Table:
    """One row a figure: what each system did, and ours over each peer as median (least to largest of the rounds)."""
    shown = {f"text queries/s, {clients} clients": row for clients, row in report["text"].items()}
    shown |= {f"pictures/s, {kind}": row for kind, row in report["pictures"].items()}
    if memory := report.get("memory_mb"):
        shown["memory at rest, MB"] = memory
    peers = [name.removeprefix("ratio_") for row in shown.values() for name in row if name.startswith("ratio_")]
    columns = list(dict.fromkeys(peers))
    found = Table("", OURS, *columns, *(f"{OURS} / {peer}" for peer in columns))
    for name, row in shown.items():
        found.add_row(name, *(_number(row.get(each)) for each in (OURS, *columns)), *(_ratio(row, p) for p in columns))
    return found


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def _ratio(row: dict[str, Any], peer: str) -> str:
    if f"ratio_{peer}" not in row:
        return "–"
    spread = row.get(f"spread_{peer}")
    between = f" ({spread[0]:g} to {spread[1]:g})" if spread else ""
    return f"{row[f'ratio_{peer}']:g}{between}"
