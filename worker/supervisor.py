"""A child process of the worker: started here, watched, and ended when it stands still. Decides not what it does.

A child that stands still, stopped or in a deadlock, would keep its lease through its parent for ever. One goes on as
long as it says so (`pulse`) or uses the processor: a phase that says nothing for long computes.
"""

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

import psutil

from store.registry import Registry

# OpenMP must not spin in a child: otherwise a search beside it takes 20 times as long
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
STILL_SECONDS = 600.0  # without a sign of life, after which a child is killed
_SHARE = 1 / 600  # of a core, with which a child goes on; a thread that renews a duty takes a tenth of that
_LOOKS = 10  # within `still_seconds`, at least
_PULSE = "PULSE"  # names the pipe to the parent
_pipe = os.environ.pop(_PULSE, None)  # not for the processes that a child starts itself


def pulse() -> None:
    """Tell the parent that this process goes on; does nothing in one that no worker started."""
    if _pipe is not None:
        with suppress(BlockingIOError, BrokenPipeError):  # the parent has not looked for long, or is gone
            os.write(int(_pipe), b".")


class ChildProcess:
    """One child, from its start to its end."""

    def __init__(self, command: Sequence[str], threads: int, still_seconds: float = STILL_SECONDS) -> None:
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        self._pulses, writing = os.pipe()
        try:
            os.set_blocking(self._pulses, False)
            os.set_blocking(writing, False)
            environment = {**os.environ, **one, **PASSIVE, _PULSE: str(writing)}
            self._process = subprocess.Popen(command, env=environment, pass_fds=(writing,))
        except BaseException:
            os.close(self._pulses)
            raise
        finally:
            os.close(writing)
        self.pid, self._still_seconds = self._process.pid, still_seconds
        self._looked, self._still, self._worked = time.monotonic(), 0.0, 0.0

    def poll(self) -> int | None:
        """The exit status; None while the child runs."""
        return self._closed(self._process.poll())

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit status; None when the child still runs after so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.poll()

    def terminate(self) -> None:
        """Ask the child to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End the child, also one that is stopped."""
        self._process.kill()

    def end(self, seconds: float) -> None:
        """Ask the child to end, and kill it when it has not within so many seconds."""
        self.terminate()
        if self.wait(seconds) is None:
            self.kill()
            self.wait()

    def why_end(self, registry: Registry, lease_seconds: float) -> str:
        """Why the child is to be killed; empty while it goes on. Ask a few times a minute at least.

        One that stands still in a transaction has locked everybody else out of SQLite, and nobody can tell that it is
        this one: it ends after a lease's time. PostgreSQL ends such transactions itself.
        """
        if self._stands_still():
            return f"the process stood still for {self._still_seconds:.0f} s"
        if registry.near and registry.refused_seconds > lease_seconds:
            return f"the registry refused every write for {lease_seconds:.0f} s, and this process may have locked it"
        return ""

    def _stands_still(self) -> bool:
        now, worked = time.monotonic(), self._processor_seconds()
        # not the time since the last look: a parent that was stopped together with its child has not watched it
        self._still += min(now - self._looked, self._still_seconds / _LOOKS)
        self._looked, self._worked = now, min(self._worked, worked)
        if self._has_pulsed() or worked - self._worked > _SHARE * self._still_seconds:
            self._still, self._worked = 0.0, worked
        return self._still > self._still_seconds

    def _has_pulsed(self) -> bool:
        pulsed = False
        with suppress(BlockingIOError):
            while os.read(self._pulses, 65_536):
                pulsed = True
        return pulsed

    def _processor_seconds(self) -> float:
        """What the child has used of the processor, and the processes that it started."""
        with suppress(psutil.Error):  # one of them has just ended
            child = psutil.Process(self.pid)
            own = child.cpu_times()
            others = [each.cpu_times() for each in child.children(recursive=True)]
            ended = own.children_user + own.children_system
            return float(ended + sum(times.user + times.system for times in (own, *others)))
        return self._worked

    def _closed(self, status: int | None) -> int | None:
        if status is not None and self._pulses >= 0:
            os.close(self._pulses)
            self._pulses = -1
        return status
