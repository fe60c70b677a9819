"""Starts our programs from a process that has imported their libraries: a start costs 0.3 s instead of some seconds.

What is started is `python -m MODULE` in every other respect: an environment, a session and a log of its own.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from tests.patience import PATIENCE

# Of others alone, so that what is inside of our packages may change.
_LIBRARIES = (
    "alembic.command",
    "celery",
    "faiss",
    "fastapi",
    "open_clip",
    "pydantic_settings",
    "safetensors.torch",
    "sqlalchemy.orm",
    "torch",
    "uvicorn",
)


class Launcher:
    """The process that others are forked from. `environment` is added to its own, and so to theirs."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**os.environ, **environment}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, module: str, environment: Mapping[str, str], log: Path) -> "Program":
        """Run a module as a program of its own, with standard error at the end of `log`."""
        given = {**self._environment, **environment}
        return Program(self, self.ask({"module": module, "environment": given, "log": str(log)}))

    def ask(self, question: dict[str, Any]) -> Any:
        """The launcher's answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """The launcher ends; what it started does not."""
        self._process.communicate()


class Program:
    """As much of `subprocess.Popen` as is needed here; `pid` is that of its session, too."""

    def __init__(self, launcher: Launcher, pid: int) -> None:
        self._launcher, self.pid = launcher, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, as soon as it has ended."""
        if self.returncode is None:
            self.returncode = self._launcher.ask({"pid": self.pid})
        return self.returncode

    def wait(self) -> int:
        """The exit status, when it has ended."""
        until = time.monotonic() + PATIENCE
        while (status := self.poll()) is None:
            assert time.monotonic() < until, "it has not ended in time"
            time.sleep(0.01)
        return status

    def signal(self, sent: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to it, or to everything in its session that has not left it."""
        try:
            (os.killpg if group else os.kill)(self.pid, sent)
        except ProcessLookupError:
            return


def serve_questions() -> None:
    """Answer until standard input ends."""
    for name in _LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        question = json.loads(line)
        if "module" in question:
            answer: Any = os.fork() or _become(**question)
        else:
            pid, status = os.waitpid(question["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _become(module: str, environment: dict[str, str], log: str) -> NoReturn:
    """The new process runs the module, and ends here."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, file, flags in ((0, os.devnull, os.O_RDONLY), (1, os.devnull, os.O_WRONLY), (2, log, _APPENDING)):
        os.dup2(os.open(file, flags, 0o600), descriptor)
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit(0)


_APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CREAT

if __name__ == "__main__":
    serve_questions()
