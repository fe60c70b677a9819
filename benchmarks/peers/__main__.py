"""`python -m benchmarks.peers make`, then `python -m benchmarks.peers run`: our service beside its peers, in turns.

docs/measured.md says what is measured and how.
"""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from benchmarks.peers import proof
from benchmarks.peers.environments import RECIPES, make_environments, read_versions
from benchmarks.peers.home import Home
from benchmarks.peers.imports import run_bare
from benchmarks.peers.material import Reference, write_indices, write_pictures
from benchmarks.peers.processes import stop_on_sigterm
from benchmarks.peers.report import build_table
from benchmarks.peers.run import PARTS, Plan, measure
from benchmarks.peers.servers import clip_retrieval, start_infinity, start_ours
from benchmarks.peers.turns import OURS
from benchmarks.peers.weights import write

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Our service beside infinity and clip-retrieval.",
)
_console = Console(soft_wrap=True, highlight=False)
AtHome = Annotated[Path, typer.Option(help="Folder of the peers; made once, a few gigabytes.")]
Threads = Annotated[int, typer.Option(min=1, max=64, help="Threads of one matrix product, in every system.")]
Mode = Annotated[Literal["both", "meaning"], typer.Option(help="By what ours searches; the peers know no words.")]


@app.command()
def make(home: AtHome = Path(".cache/peers"), threads: Threads = 1) -> None:
    """Build the peers' environments and one set of weights, and prove that all systems give the same vectors."""
    stop_on_sigterm()
    place = Home(home.absolute())
    _console.print(f"Installing the peers below {home}; the first time takes some minutes.")
    make_environments(place)
    write(place.checkpoint, place.huggingface)
    write_pictures(place.pictures)
    reference = Reference(place)
    write_indices(place, reference.folder(place.pictures))
    _console.print("Comparing vectors.")
    with ExitStack() as running:
        servers = [
            running.enter_context(start(place, threads)) for start in (start_ours, start_infinity, clip_retrieval)
        ]
        same = proof.compare(reference, servers, pictures=True)
    same["pictures"][OURS] = run_bare(OURS, place, 0, threads)["cosine"]
    proof.require_same(same)
    place.is_made({"versions": {peer: read_versions(place, peer) for peer in RECIPES}, "same_vectors": same})
    _console.print(f"Least cosine to open_clip's vectors: texts {same['text']}, pictures {same['pictures']}.")


@app.command()
def run(
    home: AtHome = Path(".cache/peers"),
    as_json: Annotated[Path | None, typer.Option("--json", help="Where the figures go too.")] = None,
    seconds: Annotated[float, typer.Option(min=0.5, max=300, help="Length of one block.")] = 10.0,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Blocks of each kind and system.")] = 3,
    clients: Annotated[list[int], typer.Option(min=1, max=64, help="Clients at once; may be repeated.")] = [1, 4, 16],  # noqa: B006
    only: Annotated[list[str], typer.Option(help=f"One of {', '.join(PARTS)}; may be repeated.")] = [*PARTS],  # noqa: B006
    threads: Threads = 1,
    mode: Mode = "both",
) -> None:
    """Measure, print, and write JSON."""
    stop_on_sigterm()
    if unknown := [part for part in only if part not in PARTS]:
        raise SystemExit(f"There is no part {unknown[0]}; there are {', '.join(PARTS)}.")
    home_folder = Home(home.absolute())
    report: dict[str, Any] = measure(Plan(home_folder, only, clients, seconds, rounds, threads, mode, _console.print))
    report |= {"seconds": seconds, "rounds": rounds, "threads": threads, "mode": mode}
    if as_json:
        as_json.parent.mkdir(parents=True, exist_ok=True)
        as_json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    Console(width=max(_console.width, 100)).print(build_table(report))  # a row on one line, in a file too
    machine = report["cpu"]
    _console.print(
        f"{machine['name']}, {machine['cores']} cores, {' '.join(machine['flags'])};"
        f" ONEDNN_MAX_CPU_ISA={machine['onednn_max_cpu_isa']}; backend {report['backend']};"
        f" {threads} threads; load before {machine['load_before']}."
    )


if __name__ == "__main__":
    app()
