"""Guarded child processes that decode uploads: a native crash refuses one picture and does not stop the service.

Knows only how pictures and refusals travel: `model.pictures` decides what is accepted, `model.processes` guards. Run as
a program, it is one child.
"""

import json
import sys
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial

from PIL import Image

from model.pictures import MAX_PIXELS, Frame, Picture, decode
from model.processes import Child, GuardedPool, serve
from store.errors import PictoglotError, PictureCorrupt

_SECONDS, _PIXELS_A_SECOND = 5.0, 8_000_000  # for a picture: at least, and for so many pixels of the limit


class Decoder:
    """A pool of `processes` children, each limited to `memory` bytes of address space and `timeout` seconds a picture.

    Pictures may have at most `pixels`; without a `timeout` it follows from these. They come in `frame`, if there is
    one. A child ends with its parent and is replaced when it dies. It is started by the first picture.
    """

    def __init__(
        self,
        processes: int = 1,
        timeout: float | None = None,
        memory: int = 1 << 30,
        pixels: int = MAX_PIXELS,
        frame: Frame | None = None,
    ) -> None:
        self._timeout = max(_SECONDS, pixels / _PIXELS_A_SECOND) if timeout is None else timeout
        arguments = memory, pixels, frame.dump_json() if frame else ""
        refuse = partial(PictureCorrupt, "the picture cannot be decoded within the limits on time and memory")
        self._pool = GuardedPool(processes, "model.pictures.decoder", *arguments, refuse=refuse)
        self.close = self._pool.close

    def decode(self, data: bytes) -> Picture:
        """Decode as `pictures.decode`; also `PictureCorrupt` for what is too slow or ends two children. Thread-safe."""
        return self.submit(data).result()

    def submit(self, data: bytes) -> "Future[Picture]":
        """Decode without blocking the caller: return a future of what `decode` returns."""
        return self._pool.submit(partial(_decode_in, data, self._timeout))

    @property
    def pids(self) -> list[int]:
        return self._pool.pids


def _decode_in(data: bytes, seconds: float, child: Child) -> Picture:
    answer = child.request(data, seconds)
    head_length = int.from_bytes(answer[:8], "big")
    head = json.loads(answer[8 : 8 + head_length])
    if "code" in head:
        raise PictoglotError.kinds[head["code"]](head["detail"])
    body = memoryview(answer)[8 + head_length :]
    pixels, stored = 3 * head["width"] * head["height"], head["stored"]
    rgb = Image.frombytes("RGB", (head["width"], head["height"]), bytes(body[:pixels]))
    size = head["size"][0], head["size"][1]
    return Picture(rgb, size, bytes(body[pixels : pixels + stored]), bytes(body[pixels + stored :]))


def _answer(data: bytes, pixels: int, frame: Frame | None) -> bytes:
    try:
        picture = decode(data, pixels, frame)
    except PictoglotError as error:
        return _pack_head({"code": error.code, "detail": error.detail})
    width, height = picture.rgb.size
    head = {"width": width, "height": height, "size": picture.size, "stored": len(picture.stored)}
    return b"".join((_pack_head(head), picture.rgb.tobytes(), picture.stored, picture.thumbnail))


def _pack_head(head: Mapping[str, object]) -> bytes:
    data = json.dumps(dict(head)).encode()
    return len(data).to_bytes(8, "big") + data


if __name__ == "__main__":
    parent, memory, pixels = map(int, sys.argv[1:4])
    frame = Frame.parse_json(sys.argv[4])
    serve(parent, memory, lambda data, requests, answers: _answer(data, pixels, frame))
