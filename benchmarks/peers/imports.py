"""A folder of JPEGs imported end to end, by each system in its own way. Each folder is new to all of them."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers.home import Home
from benchmarks.peers.material import BATCH, copy_files
from benchmarks.peers.processes import build_environment, run_program
from benchmarks.peers.servers import CLIP_RETRIEVAL, Server

OPEN_CLIP = "open_clip"
PICTURES = 96  # three batches
_WITHIN = 600.0  # seconds for one folder


def add(ours: Server, folder: Path) -> float:
    """Return seconds that `pictoglot import` needs; every picture must have been taken."""
    with tempfile.TemporaryDirectory(prefix="pictoglot-peers-") as state:
        command = [Path(sys.executable).parent / "pictoglot", "import", folder, "--json", "--state", state]
        variables = build_environment(1) | {"PICTOGLOT_URL": ours.url, "PICTOGLOT_KEY": ours.key}
        said, seconds = run_program(command, variables, within=_WITHIN, folder=folder)
    if len(json.loads(said)["added"]) < len(list(folder.iterdir())):
        raise RuntimeError(f"`pictoglot import` did not take every picture: {said[-2_000:]}")
    return seconds


def run_import(system: str, home: Home, ours: Server, threads: int, mark: str) -> float:
    """Return pictures a second of one import, without the time in which a program starts and loads its model."""
    files = sorted(home.pictures.glob("*.jpg"))[:PICTURES]
    with tempfile.TemporaryDirectory(prefix="pictoglot-peers-") as place:
        folder = Path(place) / "pictures"
        copy_files(files, folder, mark)
        if system == CLIP_RETRIEVAL:
            return _run_inference(home, threads, folder, Path(place) / "out")
        if system == OPEN_CLIP:
            return compute_rate(run_bare("loop", home, folder, threads))
        # the command's own start: the same command with one picture
        copy_files(files[:1], Path(place) / "one", f"{mark}-one")
        one = add(ours, Path(place) / "one")
        return (len(files) - 1) / (add(ours, folder) - one)


def _run_inference(home: Home, threads: int, folder: Path, out: Path) -> float:
    """Return `clip-retrieval inference`: its own count begins with the first batch, after loading and warming up."""
    options = {"input_dataset": folder, "output_folder": out, "clip_model": f"hf_clip:{home.huggingface}"}
    options |= {"enable_text": False, "use_jit": False, "batch_size": BATCH, "num_prepro_workers": 1}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    command = [home.find_program(CLIP_RETRIEVAL, "clip-retrieval"), "inference", *words]
    run_program(command, build_environment(threads), within=_WITHIN, folder=folder.parent)
    (stats,) = (out / "stats").glob("*.json")
    counted = json.loads(stats.read_bytes())
    return compute_rate({"pictures": counted["sample_count"], "seconds": counted["total_duration"]})


def run_bare(what: str, home: Home, argument: object, threads: int) -> dict[str, Any]:
    """Return what `benchmarks.peers.bare` measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.peers.bare", what, home.folder, argument]
    said, _ = run_program(command, build_environment(threads), within=_WITHIN)
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def compute_rate(measured: dict[str, Any]) -> float:
    """Return pictures a second."""
    return float(measured["pictures"] / measured["seconds"])
