"""Processes of their own that need not import torch: forked from one that has, and has run nothing.

They are killed and stopped like those of `python -m`, and run the same code; a start takes 0.1 s instead of 2 to 7.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from store.registry import open_registry

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "worker.child",
        "model.encoder",
        "model.backend",
        "index.indexer",
        "tests.index.world",
        "service.app",
        "service.serve",
    ]
)


class Forked:
    """As much of `subprocess.Popen` as tests need; `run` returns the exit status."""

    def __init__(self, run: Callable[..., int], *arguments: str, environment: Mapping[str, str], log: Path) -> None:
        self._process = CONTEXT.Process(target=_run, args=(run, arguments, dict(environment), str(log)))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        assert self._process.exitcode is not None, "it has not ended in time"
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()


def attempt(expansion: str) -> int:
    """Take the lease in the name of the parent, as a worker does, and run `worker.child`."""
    from worker import child

    database = f"sqlite:///{os.environ['PICTOGLOT_HOME']}/registry.db"
    with closing(open_registry(database, migrate=False)) as registry:
        lease = registry.expansions.lease(expansion, f"test:{os.getppid()}", 600)
    assert lease is not None
    return child.main([expansion, lease.owner, str(lease.fence)])


def script(source: str, *arguments: str) -> int:
    """What `python -c SOURCE ARGUMENTS` does."""
    sys.argv = ["-c", *arguments]
    exec(compile(source, "-c", "exec"), {"__name__": "__main__"})
    return 0


def _run(run: Callable[..., int], arguments: tuple[str, ...], environment: dict[str, str], log: str) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    said = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.exit(run(*arguments))
