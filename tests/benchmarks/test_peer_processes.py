"""Servers and programs beside which we are measured: asked by so many clients, given their settings, and ended."""

import signal
import subprocess
import sys

import psutil
import pytest

from benchmarks.peers.processes import environment, free_port, started
from benchmarks.peers.servers import Server
from tests.patience import PATIENCE

SERVER = """
import http.server, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def test_a_server_and_its_children_end_with_the_block_even_after_an_error() -> None:
    port = free_port()
    command = [sys.executable, "-c", SERVER, port]
    with (
        pytest.raises(KeyboardInterrupt),
        started(command, environment(1), f"http://127.0.0.1:{port}/") as process,
    ):
        own = psutil.Process(process.pid)
        running = [own, *own.children()]
        assert len(running) == 2
        assert Server("ours", "", "", bytes, [own]).memory()["rss"] > 10  # type: ignore[arg-type]
        raise KeyboardInterrupt
    _, alive = psutil.wait_procs(running, timeout=PATIENCE)
    assert not alive


STOPPED = """
import signal, sys, time
from benchmarks.peers.processes import environment, started, stop_on_sigterm
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored
stop_on_sigterm()
port = sys.argv[1]
command = [sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1"]
with started(command, environment(1), f"http://127.0.0.1:{port}/") as process:
    print(process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_ends_its_servers(sent: signal.Signals) -> None:
    command = [sys.executable, "-c", STOPPED, str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        server = psutil.Process(int(run.stdout.readline()))
        run.send_signal(sent)
        assert run.wait(PATIENCE) != 0
    _, alive = psutil.wait_procs([server], timeout=PATIENCE)
    assert not alive
