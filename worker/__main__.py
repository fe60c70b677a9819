"""`python -m worker`: a worker with our options, on the broker that the settings name. `--check` only looks."""

import sys
import warnings
from collections.abc import Sequence
from contextlib import closing

from model.settings import MISCONFIGURED, SettingsError

FAILED = 1


def main(arguments: Sequence[str] = ()) -> int:
    """With `--check`, `check()`; otherwise `run()`. 78: bad settings, said in one sentence."""
    try:
        return check() if "--check" in arguments else run()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return MISCONFIGURED


def run() -> int:
    """Run until SIGTERM; a training under way then writes a checkpoint and gives its lease back."""
    from celery.platforms import SecurityWarning  # late: a check needs no Celery

    from worker.celery_app import app  # reads the settings

    app.supervisor.settings.make_home()
    # Celery warns of running as root because of pickle, which is not accepted here
    warnings.simplefilter("ignore", SecurityWarning)
    app.worker_main(["--quiet", "worker", "--without-gossip", "--without-mingle", "--without-heartbeat"])
    return 0


def check() -> int:
    """0 when the registry can be read, without which a worker can do nothing; otherwise 1. Changes nothing there."""
    from model.errors import PictoglotError
    from model.registry import open_registry
    from worker.settings import WorkerSettings

    try:
        with closing(open_registry(WorkerSettings.load().database, migrate=False)) as registry:
            registry.expansions.counts()
    except PictoglotError as error:
        sys.stderr.write(f"{error}\n")
        return FAILED
    sys.stdout.write("The registry answers.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
