"""Pictures a second without a service: `python -m benchmarks.peers.bare WHAT HOME ARGUMENT`, in a process of its own.

`ours SECONDS` and `open_clip SECONDS` encode decoded pictures in batches of 32; `loop FOLDER` is the script that one
would write with open_clip and Pillow for a folder of JPEGs. Prints one line of JSON.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from benchmarks.peers.home import Home
from benchmarks.peers.material import BATCH, Reference, Vectors, draw_squares
from benchmarks.peers.proof import measure_least_cosine
from service.app import open_encoder
from service.settings import Settings


def main(what: str, home: Home, argument: str) -> dict[str, Any]:
    """Return pictures, seconds, and for `ours` the least cosine to open_clip's vectors; loading is not timed."""
    if what == "open_clip":
        return _rate(Reference(home).pictures, float(argument))
    if what == "loop":
        return _run_loop(Reference(home), Path(argument))
    with TemporaryDirectory(prefix="pictoglot-peers-") as place:
        # a data root of its own, and no `.env`: the caller's registry is not touched
        encode = open_encoder(Settings(home=Path(place), base=home.base)).encode_pictures
        measured, images = _rate(encode, float(argument)), draw_squares(BATCH)
        return measured | {"cosine": measure_least_cosine(Reference(home).pictures(images), encode(images))}


def _rate(encode: Callable[[Sequence[Image.Image]], Vectors], seconds: float) -> dict[str, Any]:
    images = draw_squares(BATCH)
    encode(images)  # warm
    began, pictures = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        encode(images)
        pictures += len(images)
    return {"pictures": pictures, "seconds": passed}


def _run_loop(reference: Reference, folder: Path) -> dict[str, Any]:
    reference.pictures(draw_squares(BATCH))  # warm
    began = time.perf_counter()
    pictures = len(reference.folder(folder))
    return {"pictures": pictures, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    _, what, folder, argument = sys.argv
    sys.stdout.write(json.dumps(main(what, Home(Path(folder)), argument)) + "\n")
