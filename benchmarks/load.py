"""A closed loop of searches over kept-alive connections, timed one by one. Starts no service and judges nothing."""

import http.client
import itertools
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np

_TIMEOUT = 30.0  # seconds for one answer


@dataclass
class Timings:
    """What a block measured: seconds of each answered search, the failed ones, and how long the block took."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    duration: float = 0.0

    def compute_percentile(self, share: float) -> float:
        """Return milliseconds under which this percentage of the answers stayed; NaN when there was none."""
        return float(np.percentile(self.seconds, share)) * 1_000 if self.seconds else float("nan")

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.duration if self.duration else 0.0

    def summarize(self) -> dict[str, float]:
        """Return the block in numbers, for a table or a file."""
        return {
            "searches": len(self.seconds),
            "failed": self.failed,
            "per_second": round(self.rate, 1),
            **{f"p{share}_ms": round(self.compute_percentile(share), 2) for share in (50, 95, 99)},
        }


def run_closed_loop(
    url: str, bodies: Sequence[bytes], *, clients: int, seconds: float, path: str = "/v1/search/pictures"
) -> Timings:
    """Let each client send its next search when the last is answered, for so many seconds; no text follows itself."""
    timings = Timings()
    lock = threading.Lock()
    began = time.perf_counter()
    until = began + seconds

    def run(first: int) -> None:
        mine, failed = _run_client(url + path, itertools.cycle([*bodies[first:], *bodies[:first]]), until)
        with lock:
            timings.seconds += mine
            timings.failed += failed

    starts = [client * len(bodies) // clients for client in range(clients)]
    threads = [threading.Thread(target=run, args=(start,)) for start in starts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    timings.duration = time.perf_counter() - began
    return timings


def _run_client(url: str, bodies: "itertools.cycle[bytes]", until: float) -> tuple[list[float], int]:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "127.0.0.1", where.port, timeout=_TIMEOUT)
    timed: list[float] = []
    failed = 0
    while (now := time.perf_counter()) < until:
        connection.request("POST", where.path, next(bodies), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            timed.append(time.perf_counter() - now)
        else:
            failed += 1
    connection.close()
    return timed, failed


def search_body(text: str, language: str, mode: str = "both") -> bytes:
    """Return the body of one search for ten pictures, by words and meaning unless `mode` is another."""
    return json.dumps({"text": text, "language": language, "limit": 10, "mode": mode}, ensure_ascii=False).encode()
