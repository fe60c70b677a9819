"""`python -m benchmarks.large_table`: what a table of 256,000 rows costs a worker, beside one of 49,408.

Both bases are built like `ViT-B-16-SigLIP2`, 768 wide, with random weights and fewer layers: what is compared does not
depend on them. Memory is of a process of its own that opens the base and teaches some steps; steps of both bases are
taken in turn in one process. Prints a table and writes JSON; asserts nothing.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import open_clip
import psutil
import torch
import typer
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from benchmarks.cost_parts import Plan, step_seconds
from demo.dataset import build_rows
from demo.foreign_base import train_tokenizer
from model.base import open_base
from model.encoder import Encoder
from model.objectives import Corpus
from model.text import clean

SMALL, LARGE, WIDTH = 49_408, 256_000, 768
_LANGUAGE, _CAPTIONS = "de", 2_000
_PIECES = 8_000
_LAYERS = 2
_console = Console()
app = typer.Typer(add_completion=False)


@app.command()
def measure(
    rounds: Annotated[int, typer.Option(min=1, help="Of the steps of both, in turn")] = 7,
    out: Annotated[Path, typer.Option(help="Where the JSON goes")] = Path("runs/large_table.json"),
) -> None:
    """Measure, print, write."""
    with tempfile.TemporaryDirectory(prefix="pictoglot-bench-") as folder:
        specs = [write_base(Path(folder) / str(count), count) for count in (SMALL, LARGE)]
        memory = [_run_in_process("memory", spec) for spec in specs]
        steps = _run_in_process("steps", *specs, str(rounds))
    more = {name: memory[1][name] - memory[0][name] for name in ("own", "resident", "peak")}
    bytes_more = 4 * (LARGE - SMALL) * WIDTH
    results = {"rows": [SMALL, LARGE], "width": WIDTH, "memory": memory, "more": more, "steps": steps}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**results, "bytes_more": bytes_more}, indent=1) + "\n")
    _show(memory, more, steps)


def _show(memory: list[dict[str, float]], more: dict[str, float], steps: dict[str, Any]) -> None:
    table = Table("figure", *(f"{count:,} rows" for count in (SMALL, LARGE)), "more", title=f"{WIDTH} wide")
    for name, said in (
        ("own", "memory of the process's own while it teaches, MB"),
        ("resident", "resident, with pages of the file, MB"),
        ("peak", "at most, opening included, MB"),
    ):
        table.add_row(said, *(f"{each[name] / 1e6:,.0f}" for each in memory), f"{more[name] / 1e6:+,.0f}")
    sizes = [4 * count * WIDTH / 1e6 for count in (SMALL, LARGE)]
    table.add_row("the table itself, MB", *(f"{size:,.0f}" for size in sizes), f"{sizes[1] - sizes[0]:+,.0f}")
    taken = [f"{1e3 * each:.0f}" for each in steps["seconds"]]
    table.add_row("a step of teaching, ms", *taken, f"× {steps['ratio']:.2f}")
    table.add_row("to open it and begin, s", *(f"{each['seconds']:.1f}" for each in memory), "")
    _console.print(table)


@app.command("part")
def measure_part(name: str, arguments: list[str]) -> None:
    """Take one measurement in this process."""
    torch.set_num_threads(1)
    measured: Any = _measure_memory(arguments[0]) if name == "memory" else _measure_steps(*arguments)
    sys.stdout.write(json.dumps(measured) + "\n")


def write_base(folder: Path, count: int) -> str:
    """Return a base of random weights whose table has `count` rows; returns the spec for `open_base`."""
    folder.mkdir(parents=True)
    config = open_clip.get_model_config("ViT-B-16-SigLIP2")
    text = {**config["text_cfg"], "vocab_size": count, "width": WIDTH, "heads": 12, "layers": _LAYERS}
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    name = f"large-table-{count}"
    (folder / f"{name}.json").write_text(json.dumps({**config, "text_cfg": text, "vision_cfg": vision}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>"}))
    said = [row[key] for row in build_rows(_LANGUAGE) for key in ("english", "caption")]
    (folder / "tokenizer.json").write_text(train_tokenizer(said, _PIECES).to_str(), encoding="utf-8")
    open_clip.add_model_config(folder / f"{name}.json")
    torch.manual_seed(0)
    weights = open_clip.create_model(name).state_dict()
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, folder / "base.safetensors")
    return f"{name}@{folder / 'base.safetensors'}"


def _draw_corpus(encoder: Encoder) -> Corpus:
    said = [clean(row["caption"]) for row in build_rows(_LANGUAGE)][:_CAPTIONS]
    english, pictures = torch.randn((2, len(said), encoder.dimension), generator=torch.Generator().manual_seed(0))
    return Corpus(_LANGUAGE, said, english, pictures, torch.arange(len(said)))


def _measure_memory(spec: str) -> dict[str, float]:
    started = time.perf_counter()
    encoder = Encoder(open_base(spec, "cpu"))
    step_seconds(encoder, encoder.base_view, _draw_corpus(encoder), Plan(steps=4))
    process = psutil.Process()
    status = Path("/proc/self/status").read_text()
    own, peak = (1024 * int(status.partition(name)[2].split()[0]) for name in ("RssAnon:", "VmHWM:"))
    seconds = time.perf_counter() - started
    return {"own": own, "resident": process.memory_info().rss, "peak": peak, "seconds": seconds}


def _measure_steps(small: str, large: str, rounds: str) -> dict[str, Any]:
    encoders = [Encoder(open_base(spec, "cpu")) for spec in (small, large)]
    corpora = [_draw_corpus(encoder) for encoder in encoders]
    taken: list[list[float]] = [[], []]
    for _ in range(int(rounds)):
        for times, encoder, corpus in zip(taken, encoders, corpora, strict=True):
            times.append(step_seconds(encoder, encoder.base_view, corpus, Plan()))
    ratio = statistics.median(large / small for small, large in zip(*taken, strict=True))
    return {"seconds": [statistics.median(times) for times in taken], "ratio": ratio}


def _run_in_process(name: str, *arguments: str) -> Any:
    command = [sys.executable, "-m", "benchmarks.large_table", "part", name, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    app()
