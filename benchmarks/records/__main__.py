"""`python -m benchmarks.records`: filters in a made-up gallery, modes and `match` in a demo's; asserts no time."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.records import answers, filtered, half_right, matches, modes
from benchmarks.records.material import Collection, Domains, Records, open_collection, open_records
from benchmarks.scale import measures

# Each part by its name in the report: rows of figures about one gallery, with its index or of its database alone.
PARTS: dict[str, Callable[[Collection], list[dict[str, Any]]]] = {
    "filtered": filtered.measure_selectivity,
    "far": filtered.measure_far,
    "duplicates": answers.measure_duplicates,
}
STORED: dict[str, Callable[[Records], list[dict[str, Any]]]] = {
    "followed": answers.measure_followed,
    "words": answers.measure_words,
    "facets": answers.measure_facets,
    "listed": answers.measure_listings,
}
MODES = "modes"  # of the demo's gallery
DEMO: dict[str, Callable[[Path], dict[str, Any]]] = {"match": matches.measure_all, "half": half_right.measure}
_console = Console()
app = typer.Typer(add_completion=False)


@app.command()
def run(
    pictures: Annotated[int, typer.Option(min=100, help="Pictures in the gallery")] = 100_000,
    dimension: Annotated[int, typer.Option(min=16, max=4_096, help="Of the vectors")] = 512,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Parts to measure: {', '.join([*PARTS, *STORED, MODES, *DEMO])}")
    ] = None,
    postgresql: Annotated[
        bool, typer.Option(help="The parts of the database, on PostgreSQL instead of SQLite")
    ] = False,
    out: Annotated[Path | None, typer.Option("--json", help="Where the JSON goes")] = None,
    demo: Annotated[
        Path | None, typer.Option(help="Instead of a made-up gallery: data root of a demo that learned languages")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="For the data root; several GB for a million")] = None,
    keep: Annotated[
        Path | None, typer.Option(help="A data root that stays: a stopped run goes on, a later one only measures")
    ] = None,
) -> None:
    """Measure, print, write."""
    if unknown := set(only or ()) - {*PARTS, *STORED, MODES, *DEMO}:
        raise typer.BadParameter(f"no such part: {', '.join(sorted(unknown))}")
    if demo is not None:
        for part in [part for part in only or DEMO if part in DEMO]:
            _console.print(f"Measuring in a copy of this demo: {part}.")
            write_report(DEMO[part](demo), out)
        return
    made = Domains(pictures, dimension)
    about = {"pictures": made.count, "dimension": made.dimension, "cores": measures.count_cores()}
    if postgresql:
        with (
            _start_postgresql() as url,
            measures.open_data_root("records", folder, keep) as home,
            open_records(home, made, url) as records,
        ):
            for part in [part for part in only or STORED if part in STORED]:
                _console.print(f"Measuring on PostgreSQL: {part}.")
                write_report({**about, f"{part}_postgresql": STORED[part](records)}, out)
        return
    parts = {**PARTS, **STORED}
    if wanted := [part for part in only or parts if part in parts]:
        with measures.open_data_root("records", folder, keep) as home:
            _console.print(f"Filling a gallery of {pictures:,} pictures with records.")
            with open_collection(home, made) as collection:
                for part in wanted:
                    _console.print(f"Measuring: {part}.")
                    write_report({**about, part: parts[part](collection)}, out)
    if only is None or MODES in only:
        with measures.open_data_root("records", folder) as other:
            _console.print("Measuring: modes, in the demo's gallery.")
            write_report({MODES: modes.measure_modes(other)}, out)


@contextmanager
def _start_postgresql() -> Iterator[str]:
    """Start a new server of the wheel that the tests use."""
    from tests.postgresql_server import PostgreSQLServer

    server = PostgreSQLServer()
    try:
        yield server.url
    finally:
        server.stop()


def write_report(report: dict[str, Any], out: Path | None) -> None:
    """Print the tables of a report, and write it into a file; other parts that the file has stay."""
    for part, rows in report.items():
        if isinstance(rows, list):
            _console.print(build_table(part, rows))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        earlier = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
        out.write_text(json.dumps(earlier | report, indent=2) + "\n", encoding="utf-8")


def build_table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Return the rows of one part."""
    drawn = Table(*rows[0], title=title)
    for row in rows:
        drawn.add_row(*map(_format_value, row.values()))
    return drawn


def _format_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    app()
