"""The peers' own Python environments: which packages, and how they are installed. Starts no peer."""

import json
import os
import subprocess
import sys

from benchmarks.peers.home import Home
from benchmarks.peers.processes import run_program
from benchmarks.peers.servers import CLIP_RETRIEVAL, INFINITY

_TORCH = ("torch >= 2.10, < 2.14", "torchvision >= 0.25, < 0.29")  # as in our Makefile
RECIPES: dict[str, tuple[str, ...]] = {
    # its image route answers 500 without aiohttp, which its extras do not name
    INFINITY: ("infinity-emb[server,torch,vision] == 0.0.78", "aiohttp", *_TORCH),
    # it imports pkg_resources, which newer setuptools no longer have; transformers is as new as it was tried with
    CLIP_RETRIEVAL: ("clip-retrieval == 2.45.0", "setuptools < 80", "transformers < 5", *_TORCH),
}
_TOLD = ("infinity-emb", "clip-retrieval", "torch", "transformers", "numpy", "faiss-cpu")
_PIP = ("-m", "pip", "--disable-pip-version-check")
_WITHIN = 3_600  # seconds for one environment: some gigabytes


def make_environments(home: Home) -> None:
    """Install what is not installed yet; raises `SystemExit` with one sentence when pip fails."""
    for peer, packages in RECIPES.items():
        done = home.folder / "environments" / peer / "installed.json"
        if done.exists() and json.loads(done.read_bytes()) == list(packages):
            continue
        python = home.find_program(peer, "python")
        try:
            run_program([sys.executable, "-m", "venv", python.parent.parent], dict(os.environ), within=_WITHIN)
            run_program([python, *_PIP, "install", "--quiet", *packages], dict(os.environ), within=_WITHIN)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            raise SystemExit(f"The environment of {peer} could not be made: {error}") from error
        done.write_text(json.dumps(packages), encoding="utf-8")


def read_versions(home: Home, peer: str) -> dict[str, str]:
    """Return the releases that a peer runs with."""
    command = [home.find_program(peer, "python"), *_PIP, "list", "--format", "json"]
    listed, _ = run_program(command, dict(os.environ), within=_WITHIN)
    installed = {each["name"].lower().replace("_", "-"): each["version"] for each in json.loads(listed)}
    return {name: installed[name] for name in _TOLD if name in installed}
