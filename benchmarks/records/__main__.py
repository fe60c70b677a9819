"""`python -m benchmarks.records`: filters in a made-up gallery, modes and `match` in a demo's; asserts no time."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.records import filtered, matches, modes
from benchmarks.records.material import Collection, Domains, opened
from benchmarks.scale import measures

# Each part by its name in the report: rows of figures about one gallery.
PARTS: dict[str, Callable[[Collection], list[dict[str, Any]]]] = {
    "filtered": filtered.measured,
    "far": filtered.far,
}
MODES = "modes"  # of the demo's gallery
_console = Console()
app = typer.Typer(add_completion=False)


@app.command()
def run(
    pictures: Annotated[int, typer.Option(min=100, help="Pictures in the gallery")] = 100_000,
    dimension: Annotated[int, typer.Option(min=16, max=4_096, help="Of the vectors")] = 512,
    only: Annotated[list[str] | None, typer.Option(help=f"Parts to measure: {', '.join([*PARTS, MODES])}")] = None,
    out: Annotated[Path | None, typer.Option("--json", help="Where the JSON goes")] = None,
    demo: Annotated[
        Path | None, typer.Option(help="Instead of a made-up gallery: data root of a demo that learned languages")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="For the data root; several GB for a million")] = None,
) -> None:
    """Measure, print, write."""
    if unknown := set(only or ()) - {*PARTS, MODES}:
        raise typer.BadParameter(f"no such part: {', '.join(sorted(unknown))}")
    if demo is not None:
        return written(matches.figures(demo), out)
    report: dict[str, Any] = {"pictures": pictures, "dimension": dimension, "cores": measures.cores()}
    made_up = [part for part in only or PARTS if part in PARTS]
    if made_up:
        with tempfile.TemporaryDirectory(prefix="pictoglot-records-", dir=folder) as home:
            _console.print(f"Filling a gallery of {pictures:,} pictures with records.")
            with opened(Path(home), Domains(pictures, dimension)) as collection:
                for part in made_up:
                    _console.print(f"Measuring: {part}.")
                    report[part] = PARTS[part](collection)
    if only is None or MODES in only:
        with tempfile.TemporaryDirectory(prefix="pictoglot-records-", dir=folder) as home:
            _console.print("Measuring: modes, in the demo's gallery.")
            report[MODES] = modes.measured(Path(home))
    written(report, out)


def written(report: dict[str, Any], out: Path | None) -> None:
    """Print the tables of a report, and write it into a file; other parts that the file has stay."""
    for part, rows in report.items():
        if isinstance(rows, list):
            _console.print(table(part, rows))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        earlier = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
        out.write_text(json.dumps(earlier | report, indent=2) + "\n", encoding="utf-8")


def table(title: str, rows: list[dict[str, Any]]) -> Table:
    """The rows of one part."""
    drawn = Table(*rows[0], title=title)
    for row in rows:
        drawn.add_row(*map(_shown, row.values()))
    return drawn


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    app()
