"""Other programs as own processes: with a bound, in a group of their own, and ended whatever happens here."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

_READY_WITHIN = 180.0  # seconds
_STOPPED_WITHIN = 20.0
_AT_MOST = 3_600.0  # seconds that a server may run
_CHOSEN = ("BACKEND", "PRECISION")  # our own settings that the caller may choose for a measurement


def read_settings() -> dict[str, str]:
    """Return our settings that are chosen by the caller's variables, without their prefix."""
    return {name: os.environ[f"PICTOGLOT_{name}"] for name in _CHOSEN if f"PICTOGLOT_{name}" in os.environ}


def build_environment(threads: int) -> dict[str, str]:
    """Return this process's variables, ONEDNN_MAX_CPU_ISA among them, with so many threads for one matrix product.

    Of the variables of pictoglot only those that a measurement may choose: a caller's own data root stays untouched.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PICTOGLOT_")}
    ours = {f"PICTOGLOT_{name}": value for name, value in (read_settings() | {"THREADS": str(threads)}).items()}
    # without these, idle threads of OpenMP keep a core busy: ten times the time of a query beside another process
    quiet = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "OMP_NUM_THREADS": str(threads)}
    offline = {"HF_HUB_OFFLINE": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "WANDB_MODE": "disabled"}
    return clean | ours | quiet | offline


def run_program(
    command: Sequence[object], variables: dict[str, str], *, within: float, folder: Path | None = None
) -> tuple[str, float]:
    """Return what a program that ends by itself said, and the seconds it took; raises `RuntimeError` when it fails."""
    words = [str(word) for word in command]
    began = time.perf_counter()
    with subprocess.Popen(
        words, env=variables, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said, errors = process.communicate(timeout=within)
        finally:
            _kill(process.pid)
    if process.returncode:
        raise RuntimeError(f"{Path(words[0]).name} failed: {(said + errors)[-2_000:]}")
    return said, time.perf_counter() - began


@contextmanager
def start_program(
    command: Sequence[object], variables: dict[str, str], ready: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process, wait until `ready` answers 200, and end it and its children after the block."""
    with tempfile.TemporaryDirectory(prefix="pictoglot-peers-") as folder:
        said = Path(folder) / "output"
        with said.open("wb") as output:
            process = subprocess.Popen(
                [str(word) for word in command],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
            )
        last_resort = threading.Timer(_AT_MOST, _kill, [process.pid])
        last_resort.daemon = True
        last_resort.start()
        try:
            _wait_until_ready(ready, process, said)
            yield process
        finally:
            last_resort.cancel()
            _end(process)


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", said: Path) -> None:
    until = time.monotonic() + _READY_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(url, timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.2)
    raise RuntimeError(f"a peer did not become ready: {said.read_text(errors='replace')[-2_000:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOPPED_WITHIN)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _kill(process.pid)
        process.wait()


def _kill(group: int) -> None:
    """Kill a process and those it started: they are one process group."""
    with suppress(ProcessLookupError):  # all of them have ended
        os.killpg(group, signal.SIGKILL)


def free_port() -> int:
    """Return a port of loopback on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stop_on_sigterm() -> None:
    """Let a SIGTERM to this process end the servers too, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
