"""A pool of guarded child processes that decode uploads: a native crash is a refusal and not a dead service.

Only the process and its limits; what a picture may be is in `index.pictures`. Run as a program, it is one child.
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO

from PIL import Image

from index.errors import (
    PictureAnimated,
    PictureBadDimensions,
    PictureCorrupt,
    PictureTooManyPixels,
    UnsupportedPictureFormat,
)
from index.pictures import Picture, decode
from model.errors import PictoglotError, Unavailable

_START_SECONDS = 60.0  # for a child to import Pillow beside a trainer that holds every core
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_REFUSALS: dict[str, type[PictoglotError]] = {
    refusal.code: refusal
    for refusal in (
        PictureAnimated, PictureBadDimensions, PictureCorrupt, PictureTooManyPixels, UnsupportedPictureFormat,
    )
}  # fmt: skip


class Decoder:
    """`processes` children, each limited in address space (`memory`, bytes) and time (`timeout`, seconds a picture).

    A child dies with its parent, and is replaced when it dies. Starts on the first picture.
    """

    def __init__(self, processes: int = 1, timeout: float = 5.0, memory: int = 1 << 30) -> None:
        self._timeout = timeout
        self._memory = memory
        self._local = threading.local()
        self._children: set[_Child] = set()
        # A thread owns its child: the kernel sends PDEATHSIG when the *thread* that started a process ends
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="decoder")

    def decode(self, data: bytes) -> Picture:
        """As `pictures.decode`; also `PictureCorrupt` when the child is killed or too slow. Safe from threads."""
        return self.submit(data).result()

    def submit(self, data: bytes) -> "Future[Picture]":
        """`decode` as a future, for callers that must not block."""
        return self._threads.submit(self._decode, data)

    @property
    def pids(self) -> list[int]:
        """Process ids of the children that run now."""
        return sorted(child.process.pid for child in list(self._children))

    def close(self) -> None:
        """End every child; waits for pictures in work."""
        self._threads.shutdown(cancel_futures=True)
        for child in list(self._children):
            self._drop(child)

    def _decode(self, data: bytes) -> Picture:
        child: _Child | None = getattr(self._local, "child", None)
        if child is None or child.process.poll() is not None:
            if child is not None:
                self._drop(child)
            self._local.child = child = _Child(self._memory)
            self._children.add(child)
        try:
            return child.decode(data, self._timeout)
        except (OSError, EOFError, ValueError) as error:  # the pipe broke: killed by us, the kernel or a bug in a codec
            self._drop(child)
            self._local.child = None
            raise PictureCorrupt("the picture cannot be decoded within its limits of time and memory") from error

    def _drop(self, child: "_Child") -> None:
        self._children.discard(child)
        child.end()


class _Child:
    """One child process, spoken to in frames: eight bytes of length, then that many bytes."""

    def __init__(self, memory: int) -> None:
        passed = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "index.decoder", str(memory), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parent.parent,
            env=passed,  # no secret of the service's environment goes near untrusted bytes
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        try:
            self._within(_START_SECONDS, b"")
        except (OSError, EOFError) as error:
            self.end()
            raise Unavailable("the picture decoder does not start") from error

    def decode(self, data: bytes, seconds: float) -> Picture:
        answer = self._within(seconds, data)
        head_length = int.from_bytes(answer[:8], "big")
        head = json.loads(answer[8 : 8 + head_length])
        if "code" in head:
            raise _REFUSALS[head["code"]](head["detail"])
        body = memoryview(answer)[8 + head_length :]
        pixels, stored = 3 * head["width"] * head["height"], head["stored"]
        rgb = Image.frombytes("RGB", (head["width"], head["height"]), bytes(body[:pixels]))
        return Picture(rgb, bytes(body[pixels : pixels + stored]), bytes(body[pixels + stored :]))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self._stdin, self._stdout):
            try:
                pipe.close()
            except OSError:  # what was buffered for a dead child cannot be flushed
                continue

    def _within(self, seconds: float, data: bytes) -> bytes:
        """Send a frame and read the answer; the child is killed when it takes longer."""
        timer = threading.Timer(seconds, self.process.kill)
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
        raise EOFError("the other side is gone")
    return data


def _child(memory: int, parent: int) -> None:
    """Serve a `Decoder` until its pipe closes."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing a library writes to standard output may reach the answers
    _write_frame(answers, _read_frame(requests))  # the start: an empty frame both ways
    while head := requests.read(8):
        _write_frame(answers, _answer(requests.read(int.from_bytes(head, "big"))))


def _answer(data: bytes) -> bytes:
    try:
        picture = decode(data)
    except PictoglotError as error:
        return _headed({"code": error.code, "detail": error.detail})
    facts = {"width": picture.width, "height": picture.height, "stored": len(picture.stored)}
    return _headed(facts) + picture.rgb.tobytes() + picture.stored + picture.thumbnail


def _headed(facts: Mapping[str, object]) -> bytes:
    head = json.dumps(dict(facts)).encode()
    return len(head).to_bytes(8, "big") + head


if __name__ == "__main__":
    _child(int(sys.argv[1]), int(sys.argv[2]))
