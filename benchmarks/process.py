"""The real service, API and worker, as own processes on a temporary data root. Asks it nothing but readiness."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

_READY_WITHIN = 180.0  # seconds; the bundled base and an empty gallery need a few
_STOPPED_WITHIN = 60.0


@contextmanager
def run_service(key: str, log: Path | None = None, /, **settings: str) -> Iterator[str]:
    """Run `pictoglot up` with an admin key on a free loopback port; yield its address, and stop it again.

    What it logs is kept in the file `log`, if there is one.
    """
    with tempfile.TemporaryDirectory(prefix="pictoglot-bench-") as home:
        port = _free_port()
        own = {
            "HOME": home,
            "PORT": str(port),
            "OPEN": "1",
            "ADMIN_KEY": key,
            "LOG_LEVEL": "warning",
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PICTOGLOT_")}
        environment = clean | {f"PICTOGLOT_{name}": value for name, value in (own | settings).items()}
        log = log or Path(home) / "output"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [Path(sys.executable).parent / "pictoglot", "up"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=home,
                start_new_session=True,
            )
            try:
                url = f"http://127.0.0.1:{port}"
                _wait_until_ready(url, process, log)
                yield url
            finally:
                _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", output: Path) -> None:
    until = time.monotonic() + _READY_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.2)
    raise RuntimeError(f"the service did not become ready: {output.read_text(errors='replace')[-2_000:]}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOPPED_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
