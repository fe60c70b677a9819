"""`python -m benchmarks.training_cost`: the cost of learning and serving with 36 languages, with one, and of AdamW.

Prints a table and writes JSON; asserts nothing. Each part runs in a process of its own (`cost_parts.py`), so its memory
is its own; parts whose times are compared take turns, several times.
"""

import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.cost_parts import Plan, Result, pack_plan
from benchmarks.made_up import Sizes
from model.towers import can_multiply_bfloat16
from model.training import LearnSettings

_MB = 1e6
_TRAINING = ("gathered", "dense", "dense_float32", "dense_fused")
_VIEW_MB = 15  # most memory of a further open view beside its rows
_console = Console()
Line = tuple[str, str, str]  # what, measured, aim


def main(
    languages: Annotated[int, typer.Option(min=2, help="Languages of the large table")] = 36,
    rows: Annotated[int, typer.Option(help="Rows of the large table")] = 250_000,
    batch: Annotated[int, typer.Option(min=2, help="Captions a step")] = LearnSettings.batch_size,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each part that is compared with another")] = 2,
    out: Annotated[Path, typer.Option(help="Where the JSON goes")] = Path("runs/training_cost.json"),
) -> None:
    """Measure, print, write."""
    plan = Plan(Sizes(languages=languages, rows=rows), batch=batch)
    measured = {name: [_measure(name, plan)] for name in ("steps", "encoding")}
    measured |= _measure_in_turn(_TRAINING, plan, repeats)
    measured |= _measure_in_turn(("gathered_first", "one_view", "views"), plan, 1)
    lines = summarize(measured, plan)
    machine = {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    machine["bfloat16"] = can_multiply_bfloat16(torch.device("cpu"))
    out.parent.mkdir(parents=True, exist_ok=True)
    written = {"machine": machine, "plan": json.loads(pack_plan(plan)), "parts": measured}
    out.write_text(json.dumps(written, indent=1) + "\n")
    _show(lines, plan)


def summarize(measured: dict[str, list[Result]], plan: Plan) -> list[Line]:
    """Return each figure beside its aim."""
    steps, encoding = measured["steps"][0], measured["encoding"][0]
    own, dense, full, fused = (_compute_medians(measured[name]) for name in _TRAINING)
    first = measured["gathered_first"][0]
    one, many = measured["one_view"][0], measured["views"][0]
    beyond = own["peak"] - first["peak"] - (own["table"] - first["table"])
    a_view = (many["resident"] - one["resident"] - (many["rows"] - one["rows"])) / (plan.sizes.languages - 1)
    return [
        ("a step at the last language / at the first", f"{steps['ratio']:.2f}", "≤ 1.1"),
        ("bytes stored / bytes of the rows touched", f"{steps['bytes'] / steps['row_bytes']:.2f}", "≤ 1.2"),
        ("a step of plain AdamW / of ours", f"{dense['seconds'] / own['seconds']:.2f}", "≥ 2"),
        ("a step of plain AdamW in float32 / of ours", f"{full['seconds'] / own['seconds']:.2f}", "–"),
        ("a step of fused AdamW / of ours", f"{fused['seconds'] / own['seconds']:.2f}", "–"),
        ("peak memory of ours / of plain AdamW", f"{own['peak'] / dense['peak']:.2f}", "< 0.5"),
        ("the same / of fused AdamW", f"{own['peak'] / fused['peak']:.2f}", "–"),
        ("memory beside a large table, beyond the table", f"{beyond / _MB:+.0f} MB", "about 0"),
        ("texts a second through all views / through one", f"{encoding['ratio']:.2f}", "≥ 0.9"),
        ("the same, of words that no view has met", f"{encoding['ratio_new']:.2f}", "≥ 0.9"),
        ("memory of an open view beside its rows", f"{a_view / _MB:.1f} MB", f"≤ {_VIEW_MB} MB"),
    ]


def _measure(name: str, plan: Plan) -> Result:
    _console.print(f"Measuring {name}.")
    command = [sys.executable, "-m", "benchmarks.cost_parts", name, pack_plan(plan)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: Result = json.loads(done.stdout)
    return result


def _measure_in_turn(names: tuple[str, ...], plan: Plan, repeats: int) -> dict[str, list[Result]]:
    measured: dict[str, list[Result]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            measured[name].append(_measure(name, plan))
    return measured


def _compute_medians(results: list[Result]) -> Result:
    return {key: statistics.median(result[key] for result in results) for key in results[0]}


def _format_title(plan: Plan) -> str:
    return f"{plan.sizes.languages} languages, {plan.sizes.rows:,} rows, {plan.batch} captions a step"


def _show(lines: list[Line], plan: Plan) -> None:
    table = Table("figure", "measured", "aim", title=_format_title(plan))
    for line in lines:
        table.add_row(*line)
    _console.print(table)


if __name__ == "__main__":
    typer.run(main)
