"""Uploads of photograph-sized pictures in a closed loop, as load beside something that is measured. Times nothing."""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import numpy as np
from PIL import Image

_SIDE = (1_280, 960)  # 1.2 megapixels
_TIMEOUT = 60.0  # seconds for one answer


@dataclass
class Uploads:
    """How many pictures were taken, and how many were refused because too many waited."""

    taken: int = 0
    refused: int = 0


@contextmanager
def uploading(url: str, key: str, clients: int) -> Iterator[Uploads]:
    """So many clients that each send their next picture when the last one is answered, until the block ends."""
    uploads, lock, stop = Uploads(), threading.Lock(), threading.Event()

    def run(number: int) -> None:
        with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=_TIMEOUT, trust_env=False) as client:
            for turn in range(10_000):
                if stop.is_set():
                    return
                files = {"picture": ("photo.jpg", photograph(number * 10_000 + turn), "image/jpeg")}
                status = client.put(f"/v1/pictures/bench-{number}-{turn}", files=files).status_code
                with lock:
                    uploads.taken += status in (200, 201)
                    uploads.refused += status == 503
                if status == 503:
                    time.sleep(0.5)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield uploads
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def photograph(seed: int) -> bytes:
    """A JPEG of 1.2 megapixels that no other seed gives; cheap to make, so that the client costs little."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize(_SIDE, Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=85)
    return stream.getvalue()
