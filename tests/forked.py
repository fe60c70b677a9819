"""Processes of their own that need not import torch: forked from one that has, and has run nothing.

They are killed and stopped like those of `python -m`, and run the same code; a start takes 0.1 s instead of 2 to 7.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from store.registry import open_registry
from tests.patience import PATIENCE

CONTEXT = multiprocessing.get_context("forkserver")
_PRELOADED = (
    "worker.child model.encoder model.backend index.indexer tests.index.world service.app service.connections uvicorn"
)
CONTEXT.set_forkserver_preload(_PRELOADED.split())


class Forked:
    """A process that runs `run`; it writes to the file `log`, standard output to `output` if there is one."""

    def __init__(
        self, run: Callable[..., int], *words: str, environment: Mapping[str, str], log: Path, output: Any = None
    ) -> None:
        self._process = CONTEXT.Process(target=_run, args=(run, words, dict(environment), str(log), output))
        self._process.start()
        self.pid = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = PATIENCE) -> int:
        self._process.join(timeout)
        assert self.returncode is not None, "it has not ended in time"
        return self.returncode

    def send_signal(self, sent: int) -> None:
        os.kill(self.pid, sent)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def run_attempt(expansion: str) -> int:
    """Take the lease in the name of the parent, as a worker does, and run `worker.child`."""
    from worker import child

    database = f"sqlite:///{os.environ['PICTOGLOT_HOME']}/registry.db"
    with closing(open_registry(database, migrate=False)) as registry:
        lease = registry.expansions.take_lease(expansion, f"test:{os.getppid()}", 600)
    assert lease is not None
    return child.main([expansion, lease.owner, str(lease.fence)])


def run_source(source: str, *arguments: str) -> int:
    """Do what `python -c SOURCE ARGUMENTS` does."""
    sys.argv = ["-c", *arguments]
    exec(compile(source, "-c", "exec"), {"__name__": "__main__"})
    return 0


def _run(run: Callable[..., int], words: Sequence[str], environment: dict[str, str], log: str, output: Any) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
    os.dup2(2 if output is None else output.fileno(), 1)
    if output is not None:
        output.close()
    sys.exit(run(*words))
