"""One whole measurement: starts the systems, takes turns block by block, and gives the report."""

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import httpx

from benchmarks.peers import proof
from benchmarks.peers.home import Home
from benchmarks.peers.imports import OPEN_CLIP, add, compute_rate, run_bare, run_import
from benchmarks.peers.machine import describe_cpu
from benchmarks.peers.material import Reference, list_texts
from benchmarks.peers.report import as_json, name_text_kind
from benchmarks.peers.servers import CLIP_RETRIEVAL, Server, clip_retrieval, start_infinity, start_ours
from benchmarks.peers.turns import OURS, Rounds, order, round_figure

Tuning = tuple[int, tuple[str, ...]]  # of infinity: threads and options
PARTS = ("text", "memory", "import", "encode")
_WARM = 2.0  # seconds
_REST = 5.0  # seconds before memory is read
_TRIAL = 4.0  # seconds that each way to run infinity is tried for
# Infinity (0.0.78) heeds a 16-bit `--dtype` on a GPU alone; int8 quantizes its linear layers
_TUNINGS = [("--dtype", dtype, each) for dtype in ("float32", "int8") for each in ("--compile", "--no-compile")]


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    home: Home
    parts: Sequence[str]
    clients: Sequence[int]
    seconds: float
    rounds: int
    threads: int
    mode: str  # of our searches
    say: Callable[[str], None]


def measure(plan: Plan) -> dict[str, Any]:
    """Return the report; raises `SystemExit` with one sentence before anything is started when `make` has not run."""
    made = plan.home.load_made()
    rates, latencies = Rounds(), Rounds()
    report: dict[str, Any] = {"cpu": describe_cpu(), "versions": made["versions"], "same_vectors": made["same_vectors"]}
    with ExitStack() as running:
        plan.say("Starting our service and filling its gallery.")
        mine = running.enter_context(start_ours(plan.home, plan.threads, plan.mode))
        add(mine, plan.home.pictures)
        report["backend"] = read_backend(mine)
        if {"text", "memory"} & {*plan.parts}:
            alike = proof.ALIKE_IN_INT8 if "int8" in report["backend"] else proof.ALIKE
            report |= _measure_beside_peers(plan, mine, rates, latencies, alike)
        if "import" in plan.parts:
            _measure_imports(plan, mine, rates)
    if "encode" in plan.parts:
        for kind, system in order(["encode"], [OURS, OPEN_CLIP], plan.rounds):
            _tell(plan, rates, kind, system, compute_rate(run_bare(system, plan.home, plan.seconds, plan.threads)))
    return report | as_json(rates, latencies)


def _measure_beside_peers(plan: Plan, mine: Server, rates: Rounds, latencies: Rounds, alike: float) -> dict[str, Any]:
    with ExitStack() as running:
        tried: dict[Tuning, dict[str, float]] = {
            each: _try_tuning(plan, each) for each in product((1, describe_cpu()["cores"]), _TUNINGS)
        }
        threads, options = best = choose_fastest(tried, alike)
        plan.say(f"Starting the peers, infinity as it is fastest: {name_tuning(best)}.")
        infinity = running.enter_context(start_infinity(plan.home, threads, options))
        peers = [infinity, running.enter_context(clip_retrieval(plan.home, plan.threads))]
        servers = {each.name: each for each in (mine, *peers)}
        same = proof.compare(Reference(plan.home), [*servers.values()], pictures=False)
        proof.require_same(same, alike)
        found: dict[str, Any] = {"same_vectors": plan.home.load_made()["same_vectors"] | same}
        found["infinity"] = {"as": name_tuning(best), "tried": {name_tuning(each): tried[each] for each in tried}}
        for server in servers.values():
            server.ask(list_texts(), clients=1, seconds=_WARM)
        if "text" in plan.parts:
            _measure_texts(plan, servers, rates, latencies)
        if "memory" in plan.parts:
            time.sleep(_REST)
            found["memory_mb"] = measure_memory({name: server.memory() for name, server in servers.items()})
    return found


def _try_tuning(plan: Plan, tuning: Tuning) -> dict[str, float]:
    """Return texts a second by number of clients, and the least cosine to open_clip's vectors; 0 if it does not run."""
    figures: dict[str, float] = {"cosine": 0.0}
    with suppress(RuntimeError, httpx.HTTPError), start_infinity(plan.home, *tuning) as server:
        # its first texts take long where it compiles
        cosine = proof.compare(Reference(plan.home), [server], pictures=False)["text"][server.name]
        for clients in plan.clients:
            server.ask(list_texts(), clients=clients, seconds=_WARM)
            timings = server.ask(list_texts(), clients=clients, seconds=_TRIAL)
            figures[str(clients)] = round_figure(timings.rate)
        figures["cosine"] = cosine
    plan.say(f"infinity, {name_tuning(tuning)}: {figures}")
    return figures


def choose_fastest(tried: dict[Tuning, dict[str, float]], alike: float) -> Tuning:
    """Choose the tuning of the highest rates, by their geometric mean, whose vectors are at least so `alike`."""
    same = {each: figures for each, figures in tried.items() if figures["cosine"] >= alike}
    return max(same, key=lambda each: prod(value for name, value in same[each].items() if name != "cosine"))


def name_tuning(tuning: Tuning) -> str:
    """Return its options and threads, as one would give them."""
    threads, options = tuning
    return f"OMP_NUM_THREADS={threads} {' '.join(options)}"


def _measure_texts(plan: Plan, servers: dict[str, Server], rates: Rounds, latencies: Rounds) -> None:
    clients = {name_text_kind(number): number for number in plan.clients}
    for kind, system in order([*clients], [*servers], plan.rounds):
        timings = servers[system].ask(list_texts(), clients=clients[kind], seconds=plan.seconds)
        if timings.failed:
            plan.say(f"{system} refused {timings.failed} of {timings.failed + len(timings.seconds)} queries.")
        latencies.add(kind, system, timings.compute_percentile(50))
        _tell(plan, rates, kind, system, timings.rate)


def _measure_imports(plan: Plan, mine: Server, rates: Rounds) -> None:
    for kind, system in order(["import"], [OURS, CLIP_RETRIEVAL, OPEN_CLIP], plan.rounds):
        rate = run_import(system, plan.home, mine, plan.threads, secrets.token_hex(4))
        _tell(plan, rates, kind, system, rate)


def _tell(plan: Plan, rates: Rounds, kind: str, system: str, rate: float) -> None:
    rates.add(kind, system, rate)
    plan.say(f"{kind}, {system}: {rate:.3g}/s")


def measure_memory(measured: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return MB of each system with shared pages counted once, ours over each peer's, and `rss` beside it."""
    found: dict[str, Any] = {name: each["pss"] for name, each in measured.items()}
    ratios = {f"ratio_{peer}": round_figure(found[OURS] / value) for peer, value in found.items() if peer != OURS}
    return found | ratios | {"rss": {name: each["rss"] for name, each in measured.items()}}


def read_backend(server: Server) -> str:
    """Return what computes the vectors of our service, as `/readyz` says, for example `openvino in bfloat16`."""
    answer = httpx.get(f"{server.url}/readyz", timeout=10, trust_env=False).raise_for_status().json()
    return str(answer.get("encoding", "torch in float32"))  # said by no release before backends
