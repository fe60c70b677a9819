"""Servers and programs beside which we are measured: asked by so many clients, given their settings, and ended."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from benchmarks.load import search_body
from benchmarks.peers.material import texts
from benchmarks.peers.processes import environment, free_port, started
from benchmarks.peers.servers import Server
from tests.patience import PATIENCE, within


@contextmanager
def listening(status: int) -> Iterator[tuple[str, list[object]]]:
    """A server, and who asked: the address of the connection of each request, which stays open between requests."""
    asked: list[object] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.client_address)
            self.send_response(status if self.path == "/ask" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def test_so_many_clients_ask_for_so_long_and_no_more() -> None:
    with listening(200) as (url, asked):
        server = Server("ours", url, "/ask", lambda text: search_body(text, "en"), [])
        began = time.monotonic()
        with within(5):
            timings = server.ask(texts(), clients=3, seconds=0.3)
        assert time.monotonic() - began >= 0.3
    assert len({*asked}) == 3 and len(timings.seconds) == len(asked) > 3 and timings.failed == 0


def test_a_server_that_has_ended_is_no_result() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        own = psutil.Process(process.pid)
        process.kill()  # not waited for: until then it is a zombie
        with listening(200) as (url, _), pytest.raises(RuntimeError, match="infinity has ended"):
            Server("infinity", url, "/ask", lambda text: b"{}", [own]).ask(texts(), clients=1, seconds=0.3)


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
