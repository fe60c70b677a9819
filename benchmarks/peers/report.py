"""The figures as JSON and as a table. Measures nothing."""

from typing import Any

from rich.table import Table

from benchmarks.peers.turns import OURS, Rounds

_TEXT = "text "


def name_text_kind(clients: int) -> str:
    """Return the kind of a block of text queries."""
    return f"{_TEXT}{clients}"


def as_json(rates: Rounds, latencies: Rounds) -> dict[str, Any]:
    """Return `text` by number of clients, and `pictures`: everything a second, and the p50 of text queries in ms."""
    found: dict[str, Any] = {"text": {}, "pictures": {}}
    for kind in rates.values:
        summary = rates.compute_medians(kind) | rates.compute_ratios(kind)
        if kind.startswith(_TEXT):
            found["text"][kind.removeprefix(_TEXT)] = summary | {"p50_ms": latencies.compute_medians(kind)}
        else:
            found["pictures"][kind] = summary
    return found


def build_table(report: dict[str, Any]) -> Table:
    """Build a row for each figure and peer: both, and ours over the peer's as median (least to largest)."""
    figures = {f"text queries/s, clients: {clients}": row for clients, row in report["text"].items()}
    figures |= {f"pictures/s, {kind}": row for kind, row in report["pictures"].items()}
    figures |= {"memory at rest, MB": report["memory_mb"]} if "memory_mb" in report else {}
    shown = Table("", OURS, "peer", "its", f"{OURS} / peer", box=None)
    for figure, row in figures.items():
        for peer in (name.removeprefix("ratio_") for name in row if name.startswith("ratio_")):
            shown.add_row(figure, f"{row[OURS]:g}", peer, f"{row[peer]:g}", _format_ratio(row, peer))
    return shown


def _format_ratio(row: dict[str, Any], peer: str) -> str:
    least, largest = row.get(f"spread_{peer}", (None, None))
    return f"{row[f'ratio_{peer}']:g}" + (f" ({least:g} to {largest:g})" if largest else "")
