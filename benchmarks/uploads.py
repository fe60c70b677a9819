"""Uploads of photograph-sized pictures in a closed loop, as load beside something that is measured. Times nothing.

In a process of its own (`python -m benchmarks.uploads URL KEY CLIENTS`), which ends when its standard input closes.
"""

import io
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import httpx
import numpy as np
from PIL import Image

_SIZE = (1_280, 960)  # 1.2 megapixels
_TIMEOUT = 60.0  # seconds for one answer
_PICTURES = 16  # that are encoded; each is sent again and again with other bytes behind its end
_PAUSE = 0.5  # seconds after a refusal


@contextmanager
def upload_without_end(url: str, key: str, clients: int) -> Iterator[None]:
    """Let clients send the next picture whenever the last is answered; tell at the end how many there were."""
    command = [sys.executable, "-m", "benchmarks.uploads", url, key, str(clients)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    if process.stdout.readline() != b"started\n":
        raise RuntimeError("the uploads did not start")
    try:
        yield
    finally:
        process.stdin.close()
        sys.stdout.write(process.stdout.read().decode())
        process.wait()


def main(url: str, key: str, clients: int, until_closed: IO[bytes]) -> None:
    """Upload until `until_closed` ends."""
    jpegs = [draw_jpeg(seed) for seed in range(_PICTURES)]
    counts, lock, stop = {201: 0, 503: 0}, threading.Lock(), threading.Event()

    def run() -> None:
        with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=_TIMEOUT, trust_env=False) as client:
            turn, mine = 0, secrets.token_hex(4)
            while not stop.is_set():
                turn += 1
                id = f"bench-{mine}-{turn}"
                files = {"picture": ("photo.jpg", jpegs[turn % _PICTURES] + id.encode(), "image/jpeg")}
                try:
                    status = client.put(f"/v1/pictures/{id}", files=files).status_code
                except httpx.HTTPError:
                    status = 0  # no answer
                with lock:
                    counts[status] = counts.get(status, 0) + 1
                if status == 503:
                    time.sleep(_PAUSE)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    sys.stdout.write("started\n")
    sys.stdout.flush()
    until_closed.read()
    stop.set()
    for thread in threads:
        thread.join()
    sys.stdout.write(
        f"{clients} clients uploaded {counts.pop(201)} pictures; refusals for a full queue: {counts.pop(503)}.\n"
    )
    if counts:
        sys.stdout.write(f"Other answers, by status: {counts}\n")


def draw_jpeg(seed: int) -> bytes:
    """Return a picture of 1.2 megapixels, soft as a photograph; another one for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize(_SIZE, Image.Resampling.BILINEAR).save(stream, format="JPEG", quality=85)
    return stream.getvalue()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.stdin.buffer)
