"""Limits of this process, and children that read untrusted bytes: limited, without secrets, replaced.

Knows no format: a module that is run as a child calls `serve`, its counterpart in the parent talks to a `GuardedChild`.
"""

import ctypes
import gc
import logging
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeVar

from store.errors import PictoglotError, Unavailable

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_DESCRIPTORS = (
    65_536  # enough for all we open; where "no limit" is allowed, some libraries loop over all there could be
)
_TURN = 0.0005  # seconds that a thread keeps the interpreter while others wait; Python's own is ten times as long
PULSE = "PULSE"  # names the pipe to the parent of a worker's child
_pipe = os.environ.pop(PULSE, None)  # not for the processes that a child starts itself


def name_owner(pid: int | None = None, *, unique: bool = False) -> str:
    """Return the name of a process on this machine, by default of this one, as the owner of a duty.

    With `unique`, another one each time: for a duty that several threads of a process take.
    """
    name = f"{socket.gethostname()}:{pid or os.getpid()}"
    return f"{name}:{secrets.token_hex(4)}" if unique else name


def pulse() -> None:
    """Tell the parent that this process goes on; does nothing in one that no worker started."""
    if _pipe is not None:
        with suppress(BlockingIOError, BrokenPipeError):  # the parent has not looked for long, or is gone
            os.write(int(_pipe), b".")


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies, or more exactly the thread of it that started this one.

    Elsewhere nothing happens: such a child has to notice by itself.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it had died before the call
            os.kill(os.getpid(), signal.SIGKILL)


def allow_descriptors() -> None:
    """Raise the limit of open files and connections of this process, and of its children, to what the system allows.

    Systems begin with 1,024 for old programs, and let each program raise it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def give_way() -> None:
    """Let the threads of this process wait less for each other; for one that serves, when it has opened everything.

    What is open now is left out of the searches for garbage: among the 450,000 objects of a service each takes 0.3
    seconds, in which no thread runs (decision 2). And a search, which needs the interpreter some twenty times,
    waits each time for the turn of a thread that follows the gallery.
    """
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_TURN)


def free_closed() -> None:
    """Free what was open at `give_way` and is closed now; does nothing in a process that did not call it."""
    if gc.get_freeze_count():
        gc.unfreeze()
        give_way()


_log = logging.getLogger(__name__)
T = TypeVar("T")
_START_SECONDS = 60.0  # for a child to import its libraries while a training uses every core
_PATIENCE, _LOOK = 5, 0.1  # times the seconds allowed, that a child has on a busy machine; seconds between two looks
_NICE = 10  # a search that wants the processor goes before what a child reads


class GuardedChild:
    """One child process. Requests and answers are frames: eight bytes of length, then that many bytes."""

    def __init__(self, module: str, *arguments: object) -> None:
        """Run the module, whose `serve` gets its own arguments first, then the `arguments` as texts."""
        self.is_late = False  # it was killed for being too slow
        self.is_fresh = True  # it has done no task yet
        environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        environment["OPENBLAS_NUM_THREADS"] = "1"  # each of its threads takes address space, which is limited
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, str(os.getpid()), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[1],
            env=environment,  # no secrets: this process reads untrusted bytes
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        try:
            self.request(b"", _START_SECONDS)
        except (OSError, EOFError) as error:
            self.end()
            raise Unavailable("a process that reads uploads could not be started") from error

    def request(self, data: bytes, seconds: float) -> bytes:
        """Send a frame and return the answer; kill the child if that takes it more than `seconds` of a processor.

        Where it has to wait for one, or for anything else, it has some times as long.
        """
        done = threading.Event()
        threading.Thread(target=self._watch, args=(done, seconds), daemon=True).start()
        try:
            write_frame(self._stdin, data)
            return read_frame(self._stdout)
        finally:
            done.set()

    def _watch(self, done: threading.Event, seconds: float) -> None:
        most, end = _count_seconds(self.process.pid) + seconds, time.monotonic() + _PATIENCE * seconds
        left = seconds
        while not done.wait(max(left, _LOOK)):
            left = most - _count_seconds(self.process.pid)
            if left <= 0 or time.monotonic() > end:
                self.is_late = True
                self.process.kill()
                return

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self._stdin, self._stdout):
            try:
                pipe.close()
            except OSError:  # data buffered for a dead child cannot be flushed
                continue


class GuardedPool:
    """Threads that each own a child, which is started by the first task."""

    def __init__(self, processes: int, module: str, *arguments: object, refuse: Callable[[], PictoglotError]) -> None:
        """Take the `arguments` of `GuardedChild`; `refuse` makes the error of a task whose child ended."""
        self._module, self._arguments = module, arguments
        self._refuse = refuse
        self._local = threading.local()
        self._children: set[GuardedChild] = set()
        self._closing = False
        # A thread owns its child: the kernel sends PDEATHSIG when the *thread* that started a process ends
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix=module.rpartition(".")[2])

    def submit(self, talk: Callable[[GuardedChild], T]) -> "Future[T]":
        """Call `talk` with a child in a thread; what is too slow or ends two children is refused."""
        return self._threads.submit(self._talk, talk)

    def renew(self, child: GuardedChild) -> None:
        """End this child, as after a task that took much memory; the next task of its thread starts another one."""
        self._children.discard(child)
        child.end()

    @property
    def pids(self) -> list[int]:
        return sorted(child.process.pid for child in list(self._children))

    def close(self, *, at_once: bool = False) -> None:
        """Stop every child after the tasks that run, or `at_once`: then these are refused."""
        self._closing = at_once
        for child in list(self._children) if at_once else ():
            child.process.kill()
        self._threads.shutdown(cancel_futures=True)
        for child in list(self._children):
            self.renew(child)

    def _talk(self, talk: Callable[[GuardedChild], T]) -> T:
        while True:
            child = self._get_child()
            try:
                result = talk(child)
            except PictoglotError:  # an answer as well
                child.is_fresh = False
                raise
            except (OSError, EOFError, ValueError) as error:  # broken pipe: killed by us, the kernel or a library's bug
                self.renew(child)
                _log.warning("a child of %s ended with status %d", self._module, child.process.returncode)
                # A kernel short of memory ends a child whatever it reads: what a client sent is refused for good only
                # if it was too slow, or if a fresh child ended as well. Who closes the pool wants no other child.
                if child.is_late or child.is_fresh or self._closing:
                    raise self._refuse() from error
            else:
                child.is_fresh = False
                return result

    def _get_child(self) -> GuardedChild:
        child: GuardedChild | None = getattr(self._local, "child", None)
        if child is not None and child.process.poll() is None:
            return child
        if child is not None:
            self.renew(child)
        self._local.child = child = GuardedChild(self._module, *self._arguments)
        self._children.add(child)
        return child


def serve(parent: int, memory: int, answer: Callable[[bytes, IO[bytes], IO[bytes]], bytes]) -> None:
    """Run as the child of `parent` until its pipe closes, within `memory` bytes of address space.

    `answer` answers a frame; until then it may write frames and read the answers to those.
    """
    die_with_parent(parent)
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that output of a library cannot get into the answers
    write_frame(answers, read_frame(requests))  # started: an empty frame in both directions
    while head := requests.read(8):
        write_frame(answers, answer(requests.read(int.from_bytes(head, "big")), requests, answers))


def _count_seconds(pid: int) -> float:
    """Return for how many seconds a process has had a processor; where Linux cannot tell, how late it is."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # the clock of a process, as clock_getcpuclockid makes it
    except OSError:
        return time.monotonic()


def write_frame(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(len(data).to_bytes(8, "big"))
    pipe.write(data)
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> bytes:
    """Return the data of one frame; raises `EOFError` when the other process closed the pipe."""
    length = int.from_bytes(_require_length(pipe.read(8), 8), "big")
    return _require_length(pipe.read(length), length)


def _require_length(data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise EOFError("the other process closed the pipe")
    return data
