"""`python -m worker`: a worker on the broker of the settings; with `--check`, only a check of the registry."""

import sys
import warnings
from collections.abc import Sequence
from contextlib import closing

from model.settings import MISCONFIGURED, SettingsError

FAILED = 1


def main(arguments: Sequence[str] = ()) -> int:
    """With `--check`, `check()`; otherwise `run()`. Exit status 78 and one sentence for bad settings."""
    try:
        return check() if "--check" in arguments else run()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return MISCONFIGURED


def run() -> int:
    """Run until SIGTERM; a running training then writes a checkpoint and releases its lease."""
    from celery.platforms import SecurityWarning  # imported here: a check needs no Celery

    from worker.celery_app import app  # reads the settings

    app.supervisor.settings.make_home()
    # Celery warns of running as root because of pickle, which is not accepted here
    warnings.simplefilter("ignore", SecurityWarning)
    app.worker_main(["--quiet", "worker", "--without-gossip", "--without-mingle", "--without-heartbeat"])
    return 0


def check() -> int:
    """0 when the registry can be read, which a worker needs for everything; otherwise 1. Changes nothing."""
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
