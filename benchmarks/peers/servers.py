"""Our service and the two peers as own processes on loopback, each ended with the block that starts it."""

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.load import Timings, run_closed_loop, search_body
from benchmarks.peers.home import Home
from benchmarks.peers.processes import build_environment, free_port, read_settings, start_program
from benchmarks.peers.turns import OURS
from benchmarks.process import run_service

INFINITY, CLIP_RETRIEVAL = "infinity", "clip_retrieval"
_BACK = Path(__file__).with_name("clip_retrieval_back.py")  # run by the peer's interpreter


@dataclass(frozen=True)
class Server:
    """A running system: how it is asked for one text, and its processes."""

    name: str
    url: str
    path: str
    body: Callable[[str], bytes]
    processes: list[psutil.Process]
    key: str = ""

    def ask(self, texts: list[str], *, clients: int, seconds: float) -> Timings:
        """Run a closed loop of clients; raises `RuntimeError` when nothing was answered, or a process has ended."""
        bodies = [self.body(text) for text in texts]
        timings = run_closed_loop(self.url, bodies, clients=clients, seconds=seconds, path=self.path)
        if not all(_is_running(process) for process in self.processes):
            raise RuntimeError(f"{self.name} has ended while it was asked")
        if not timings.seconds:
            raise RuntimeError(f"{self.name} answered none of {timings.failed} searches")
        return timings

    def memory(self) -> dict[str, float]:
        """Return MB of all its processes: shared pages counted once (`pss`), and in each process with them (`rss`)."""
        infos = [each.memory_full_info() for process in self.processes for each in list_family(process)]
        # only Linux tells PSS
        shared_once = sum(getattr(info, "pss", info.rss) for info in infos)
        return {"pss": round(shared_once / 1e6, 1), "rss": round(sum(info.rss for info in infos) / 1e6, 1)}


def _is_running(process: psutil.Process) -> bool:
    running: bool = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return running


def list_family(process: psutil.Process) -> list[psutil.Process]:
    """Return the process and all below it."""
    return [process, *process.children(recursive=True)]


@contextmanager
def start_ours(home: Home, threads: int, mode: str = "both") -> Iterator[Server]:
    """Start `pictoglot up` with the random weights, an empty gallery and no cache of query vectors.

    It is searched by words and meaning, as searches come, unless `mode` is another.
    """
    key, before = secrets.token_urlsafe(32), set(psutil.Process().children())
    # the peers never refuse a request for taking too long; on a slow machine ours shall not either
    settings = {
        "BASE": home.base,
        "CACHE_SIZE": "0",
        "REQUEST_SECONDS": "30",
        "THREADS": str(threads),
        **read_settings(),
    }
    with run_service(key, **settings) as url:
        own = list(set(psutil.Process().children()) - before)
        yield Server(OURS, url, "/v1/search/pictures", lambda text: search_body(text, "en", mode), own, key)


@contextmanager
def start_infinity(home: Home, threads: int, tuning: Sequence[str] = ("--dtype", "float32")) -> Iterator[Server]:
    """Start infinity's bare encoder: it has no index. Of its engines, only torch reads a CLIP."""
    port = free_port()
    options = ["--engine", "torch", "--device", "cpu", "--no-bettertransformer", "--no-model-warmup", *tuning]
    options += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    command = [home.find_program(INFINITY, "infinity_emb"), "v2", "--model-id", home.huggingface, *options]
    url = f"http://127.0.0.1:{port}"
    with start_program(command, build_environment(threads), f"{url}/health") as process:
        # base64 is its cheapest answer
        yield Server(INFINITY, url, "/embeddings", _build_infinity_body, [psutil.Process(process.pid)])


def _build_infinity_body(text: str) -> bytes:
    return json.dumps({"model": "any", "input": [text], "encoding_format": "base64"}).encode()


@contextmanager
def clip_retrieval(home: Home, threads: int) -> Iterator[Server]:
    """Start clip-retrieval's backend over the reference vectors of the gallery, without its optional filters."""
    port = free_port()
    command = [home.find_program(CLIP_RETRIEVAL, "python"), _BACK, port, home.huggingface, home.indices]
    url = f"http://127.0.0.1:{port}"
    with start_program(command, build_environment(threads), f"{url}/indices-list") as process:
        yield Server(CLIP_RETRIEVAL, url, "/knn-service", _clip_retrieval_body, [psutil.Process(process.pid)])


def _clip_retrieval_body(text: str) -> bytes:
    return json.dumps({"text": text, "modality": "image", "num_images": 10, "indice_name": "gallery"}).encode()
