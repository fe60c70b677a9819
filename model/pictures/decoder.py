"""Decodes uploads in guarded child processes: a native crash refuses one picture and does not stop the service.

Manages processes and limits only: `model.pictures` decides what is accepted. Run as a program, it is one child.
"""

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO

from PIL import Image

from model.errors import (
    PictoglotError,
    PictureAnimated,
    PictureBadDimensions,
    PictureCorrupt,
    PictureTooManyPixels,
    Unavailable,
    UnsupportedPictureFormat,
)
from model.framing import Frame
from model.pictures import MAX_PIXELS, Picture, decode
from model.processes import die_with_parent

_START_SECONDS = 60.0  # for a child to import Pillow while a training uses every core
_SECONDS, _PIXELS_A_SECOND = 5.0, 8_000_000  # for a picture: at least, and for so many pixels of the limit
_NICE = 10  # a search that wants the processor goes before a picture that is decoded
_REFUSALS: dict[str, type[PictoglotError]] = {
    refusal.code: refusal
    for refusal in (
        PictureAnimated, PictureBadDimensions, PictureCorrupt, PictureTooManyPixels, UnsupportedPictureFormat,
    )
}  # fmt: skip


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
        self._arguments = memory, pixels, os.getpid(), frame.as_json() if frame else ""
        self._local = threading.local()
        self._children: set[_Child] = set()
        # A thread owns its child: the kernel sends PDEATHSIG when the *thread* that started a process ends
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="decoder")

    def decode(self, data: bytes) -> Picture:
        """Decode as `pictures.decode` does; also `PictureCorrupt` for what is too slow or ends two children.

        Thread-safe.
        """
        return self.submit(data).result()

    def submit(self, data: bytes) -> "Future[Picture]":
        """As `decode`, but returns a future, for callers that must not block."""
        return self._threads.submit(self._decode, data)

    @property
    def pids(self) -> list[int]:
        """Process ids of the running children."""
        return sorted(child.process.pid for child in list(self._children))

    def close(self) -> None:
        """Stop every child, after the pictures that are being decoded."""
        self._threads.shutdown(cancel_futures=True)
        for child in list(self._children):
            self._drop(child)

    def _decode(self, data: bytes) -> Picture:
        while True:
            child = self._child()
            try:
                return child.decode(data, self._timeout)
            except (OSError, EOFError, ValueError) as error:  # broken pipe: killed by us, the kernel or a codec bug
                self._drop(child)
                # A kernel short of memory ends a child whatever it decodes: what a client has is refused for good
                # only if it was too slow, or if a fresh child ended as well.
                if child.is_late or child.is_fresh:
                    message = "the picture cannot be decoded within the limits on time and memory"
                    raise PictureCorrupt(message) from error

    def _child(self) -> "_Child":
        child: _Child | None = getattr(self._local, "child", None)
        if child is not None and child.process.poll() is None:
            return child
        if child is not None:
            self._drop(child)
        self._local.child = child = _Child(self._arguments)
        self._children.add(child)
        return child

    def _drop(self, child: "_Child") -> None:
        self._children.discard(child)
        child.end()


class _Child:
    """One child process. Requests and answers are frames: eight bytes of length, then that many bytes."""

    def __init__(self, arguments: Iterable[object]) -> None:
        """`arguments` are those of `_child`."""
        self.is_late = False  # it was killed for being too slow
        self.is_fresh = True  # it has decoded nothing yet
        environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "model.pictures.decoder", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
            env=environment,  # no secrets: this process reads untrusted bytes
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        try:
            self._request(b"", _START_SECONDS)
        except (OSError, EOFError) as error:
            self.end()
            raise Unavailable("the picture decoder could not be started") from error

    def decode(self, data: bytes, seconds: float) -> Picture:
        answer = self._request(data, seconds)
        self.is_fresh = False
        head_length = int.from_bytes(answer[:8], "big")
        head = json.loads(answer[8 : 8 + head_length])
        if "code" in head:
            raise _REFUSALS[head["code"]](head["detail"])
        body = memoryview(answer)[8 + head_length :]
        pixels, stored = 3 * head["width"] * head["height"], head["stored"]
        rgb = Image.frombytes("RGB", (head["width"], head["height"]), bytes(body[:pixels]))
        size = head["size"][0], head["size"][1]
        return Picture(rgb, size, bytes(body[pixels : pixels + stored]), bytes(body[pixels + stored :]))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self._stdin, self._stdout):
            try:
                pipe.close()
            except OSError:  # data buffered for a dead child cannot be flushed
                continue

    def _kill_late(self) -> None:
        self.is_late = True
        self.process.kill()

    def _request(self, data: bytes, seconds: float) -> bytes:
        """Send a frame and read the answer; kill the child if that takes longer than `seconds`."""
        timer = threading.Timer(seconds, self._kill_late)
        timer.start()
        try:
            _write_frame(self._stdin, data)
            return _read_frame(self._stdout)
        finally:
            timer.cancel()


def _write_frame(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(len(data).to_bytes(8, "big"))
    pipe.write(data)
    pipe.flush()


def _read_frame(pipe: IO[bytes]) -> bytes:
    length = int.from_bytes(_exactly(pipe.read(8), 8), "big")
    return _exactly(pipe.read(length), length)


def _exactly(data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise EOFError("the other process closed the pipe")
    return data


def _child(memory: int, pixels: int, parent: int, frame: Frame | None) -> None:
    """Serve a `Decoder` until its pipe closes."""
    die_with_parent(parent)
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that output of a library cannot get into the answers
    _write_frame(answers, _read_frame(requests))  # started: an empty frame in both directions
    while head := requests.read(8):
        _write_frame(answers, _answer(requests.read(int.from_bytes(head, "big")), pixels, frame))


def _answer(data: bytes, pixels: int, frame: Frame | None) -> bytes:
    try:
        picture = decode(data, pixels, frame)
    except PictoglotError as error:
        return _with_length({"code": error.code, "detail": error.detail})
    width, height = picture.rgb.size
    head = {"width": width, "height": height, "size": picture.size, "stored": len(picture.stored)}
    return b"".join((_with_length(head), picture.rgb.tobytes(), picture.stored, picture.thumbnail))


def _with_length(head: Mapping[str, object]) -> bytes:
    data = json.dumps(dict(head)).encode()
    return len(data).to_bytes(8, "big") + data


if __name__ == "__main__":
    memory, pixels, parent = map(int, sys.argv[1:4])
    _child(memory, pixels, parent, Frame.from_json(sys.argv[4]))
