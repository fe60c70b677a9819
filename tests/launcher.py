"""Starts our programs from a process that has imported their libraries: 0.3 s of processor instead of 3 to 8.

What is started is `python -m MODULE`, or `-c SOURCE`, in every other respect: a process with an environment, streams
and, if asked, a session of its own. A worker that is started here starts its children in this way, too.
"""

import ctypes
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fcntl import F_DUPFD, fcntl
from functools import cache
from itertools import count
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import psutil

# Of others alone, so that what is inside of our packages may change.
_LIBRARIES = (
    "alembic.command",
    "celery.bin.worker",
    "celery.worker",
    "faiss",
    "fastapi",
    "open_clip",
    "pydantic_settings",
    "safetensors.torch",
    "sqlalchemy.orm",
    "torch._dynamo",  # which any optimizer imports
    "typer",
    "uvicorn",
)
PARENT = "{parent}"  # an argument that becomes the id of the process that forks the program
HELPER = "launcher"  # the name of the process from which a worker's children are forked
_MOST = 1 << 20  # bytes of a question
_ABOVE = 100  # descriptors on their way to their place are numbered from here
# Below those that the system gives to connections; a hundred for each process of tests.
_PORTS = count(10_000 + os.getpid() % 200 * 100)
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36  # linux/prctl.h


class Launcher:
    """The process that others are forked from. `environment` is added to its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = {**os.environ, **environment}
        self._lock = Lock()
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The parent of what is started here."""
        return self._process.pid

    def ask(self, question: Mapping[str, object], descriptors: Sequence[int] = ()) -> Any:
        """Return the launcher's answer."""
        with self._lock:
            return _ask(self._end, question, descriptors)

    def close(self) -> None:
        """End the launcher; what it started goes on."""
        self._end.close()
        self._process.wait()


@cache
def share_launcher() -> Launcher:
    """Return one launcher for all tests of this process, with which it ends."""
    return Launcher({})


class Program(subprocess.Popen[Any]):
    """A program that a launcher starts. Its command is `python [-P] -m MODULE …` or `python -c SOURCE …`."""

    def __init__(self, command: Sequence[str], *, launcher: Launcher | None = None, **more: Any) -> None:
        self._launcher = launcher or share_launcher()
        super().__init__(command, **more)

    def _execute_child(self, command: Sequence[str], *given: Any) -> None:
        question, descriptors = _build_question(command, given)
        self.pid = self._launcher.ask(question, descriptors)
        self._child_created = True
        self._close_pipe_fds(*given[9:15])  # type: ignore[attr-defined]

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None:
            self.returncode = self._launcher.ask({"pid": self.pid})
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        until = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (status := self._internal_poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(0.01)
        return status


class _OfWorker(subprocess.Popen[Any]):
    """In a program of a launcher: its own child, forked by the process that was forked before it began."""

    helper: socket.socket
    lock = Lock()

    def _execute_child(self, command: Sequence[str], *given: Any) -> None:
        if list(command[:3]) == [sys.executable, "-P", "-m"] and command[3].startswith("worker."):
            question, descriptors = _build_question(command, given)
            with suppress(OSError, ValueError), self.lock:  # the helper was killed
                self.pid = _ask(self.helper, question, descriptors)
                self._child_created = True
                return
        super()._execute_child(command, *given)  # type: ignore[misc]


def start_module(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    launcher: Launcher | None = None,
    folder: Path | None = None,
) -> Program:
    """Start a module of ours in a session of its own; what it says is added to a log."""
    words = [sys.executable, "-m", *command]
    with log.open("ab") as said:
        streams: Any = {"stdout": said, "stderr": said, "start_new_session": True}
        return Program(words, launcher=launcher, env=environment, cwd=folder, **streams)


def find_free_port() -> int:
    """Return a port on which nobody listens, another one with each call."""
    while True:
        with suppress(OSError), socket.create_server(("127.0.0.1", port := next(_PORTS))):
            return port


def is_program(process: psutil.Process, module: str) -> bool:
    """Whether a process runs this module, however it was started; raises psutil.Error when it has ended."""
    return module in process.cmdline() or process.name() == module


def _build_question(command: Sequence[str], given: Sequence[Any]) -> tuple[dict[str, object], list[int]]:
    """Return a launcher's question and the descriptors with it; `given` are arguments of `_execute_child`."""
    passed, folder, environment = given[3:6]
    streams = {0: given[9], 1: given[12], 2: given[14]}
    places = {place: own for place, own in streams.items() if own != -1} | {own: own for own in passed}
    kind, what, *arguments = [word for word in command[1:] if word != "-P"]
    question = {
        "kind": kind,
        "what": what,
        "arguments": arguments,
        "environment": dict(os.environ if environment is None else environment),
        "folder": str(folder or Path.cwd()),
        "places": [*places],
        "session": bool(given[20]),
    }
    return question, [*places.values()]


def _ask(end: socket.socket, question: Mapping[str, object], descriptors: Sequence[int]) -> Any:
    socket.send_fds(end, [json.dumps(question).encode()], descriptors)
    return json.loads(end.recv(_MOST))


def _serve(asked: socket.socket, *, adopted: bool) -> None:
    """Fork programs until nobody asks any more; `adopted` ones become children of whoever asks."""
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(asked, _MOST, 16)
        except ConnectionResetError:  # who asked was killed before it read an answer
            message = b""
        if not message:
            os._exit(0)
        question = json.loads(message)
        if "pid" in question:
            pid, status = os.waitpid(question["pid"], os.WNOHANG)
            answer: int | None = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = _fork_adopted() if adopted else os.fork()
            if not answer:
                asked.close()
                return _become(descriptors, **question)
            for descriptor in descriptors:
                os.close(descriptor)
        asked.send(json.dumps(answer).encode())


def _fork_adopted() -> int:
    """Fork a process whose parent ends at once, so that the nearest subreaper becomes its parent; 0 within it."""
    reading, writing = os.pipe()
    between = os.fork()
    if not between:
        between = os.getpid()
        if pid := os.fork():
            os.write(writing, str(pid).encode())
            os._exit(0)
        while os.getppid() == between:
            time.sleep(0.001)
        return 0
    os.waitpid(between, 0)
    pid = int(os.read(reading, 32))
    os.close(reading)
    os.close(writing)
    return pid


def _become(
    descriptors: Sequence[int],
    kind: str,
    what: str,
    arguments: list[str],
    environment: dict[str, str],
    folder: str,
    places: list[int],
    session: bool,
) -> None:
    if session:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    above = [fcntl(descriptor, F_DUPFD, _ABOVE) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for descriptor, place in zip(above, places, strict=True):
        os.dup2(descriptor, place)
        os.close(descriptor)
    if kind == "-m" and sys.platform == "linux":
        _name(what)
        if what.endswith("worker"):
            _prepare_children()
    words = [str(os.getppid()) if word == PARENT else word for word in arguments]
    sys.argv = [what if kind == "-m" else kind, *words]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(compile(what, kind, "exec"), vars(main))


def _prepare_children() -> None:
    """Fork, while there is one thread, the process from which this one's children will be forked."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        _call_prctl(_PR_SET_CHILD_SUBREAPER, 1)
        _OfWorker.helper = ours
        subprocess.Popen = _OfWorker  # type: ignore[misc]
        return
    ours.close()
    _call_prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _name(HELPER)
    _serve(theirs, adopted=True)
    sys.exit(0)


def _name(module: str) -> None:
    _call_prctl(_PR_SET_NAME, module.encode()[:15])


def _call_prctl(*arguments: Any) -> None:
    ctypes.CDLL(None).prctl(*arguments, 0, 0, 0)


if __name__ == "__main__":
    for name in _LIBRARIES:
        importlib.import_module(name)
    _serve(socket.socket(fileno=int(sys.argv[1])), adopted=False)
