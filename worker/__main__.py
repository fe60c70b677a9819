"""A worker on the broker of the settings, `python -m worker`; with `--check`, only a check of the registry."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from model.processes import allow_descriptors
from store import logs
from store.settings import MISCONFIGURED, CommonSettings, SettingsError

_NO_TABLES = "The registry has no tables yet: it is made at the first start."


def main(arguments: Sequence[str] = ()) -> int:
    """Run a worker, or with `--check` check the registry; returns 78 for wrong settings. A wrong option exits 2."""
    parser = argparse.ArgumentParser(prog="python -m worker", description="Run a worker.", allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="start nothing; exit with 0 if the registry can be read")
    options = parser.parse_args(arguments)
    try:
        return check() if options.check else run()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return MISCONFIGURED


def run() -> int:
    """Run until SIGTERM; a running training then writes a checkpoint and releases its lease.

    Returns 1 when Celery gave up, so that whoever restarts failed workers knows: its own `worker_main` returns nothing.
    """
    from celery.apps import worker as program  # imported here: a check needs no Celery
    from celery.platforms import SecurityWarning

    from worker.celery_app import app  # reads the settings

    allow_descriptors()
    settings = app.supervisor.settings
    logs.configure(settings.log_level)
    program.safe_say = lambda *_: None  # which signal came, in plain text: `celery_app` logs it
    settings.make_home()
    if problem := find_vector_mismatch(settings):
        sys.stderr.write(f"{problem}.\n")
        return MISCONFIGURED
    # Celery warns of running as root because of pickle, which is not accepted here
    warnings.simplefilter("ignore", SecurityWarning)
    worker = app.Worker(quiet=True, without_gossip=True, without_mingle=True, without_heartbeat=True)
    worker.start()
    return int(worker.exitcode or 0)


def find_vector_mismatch(settings: CommonSettings) -> str:
    """Say why this machine cannot make the data root's vectors, or not put them where the settings say.

    Returns an empty text when settings and packages allow it, or when nobody knows yet. Instructions that the processor
    lacks show when an expansion begins, and fail that: torch knows them, and is not imported here.
    """
    from index.set_states import open_engine
    from model.backend import confirm_encoding
    from store.errors import BackendNotAvailable, EncodingMismatch, RegistryOutdated, RegistryUnavailable
    from store.registry import open_registry

    try:
        with closing(open_registry(settings.database, migrate=False)) as registry:
            if (encoding := registry.encodings.find_current()) is not None:
                confirm_encoding(settings, encoding)
            open_engine(settings.index, registry)
    except BackendNotAvailable as error:
        return f"PICTOGLOT_{error.setting}: {error.detail}"
    except SettingsError as error:
        return str(error).removesuffix(".")
    except (EncodingMismatch, RegistryOutdated) as error:
        return error.detail.removesuffix(".")
    except RegistryUnavailable:  # or without tables: the worker waits for it
        pass
    return ""


def check() -> int:
    """Return 0 if the registry can be read, which a worker needs for everything, or else 1. Changes nothing."""
    from worker.settings import WorkerSettings

    if problem := _find_problem(WorkerSettings.load().database):
        sys.stderr.write(f"{problem}\n")
        return 1
    sys.stdout.write("The registry answers.\n")
    return 0


def _find_problem(database: str) -> str:
    """Say why the registry at this URL cannot be read; returns an empty text when it can."""
    from sqlalchemy import inspect

    from store.errors import PictoglotError
    from store.registry import open_registry
    from store.tables import ExpansionRow

    kind, _, file = database.partition(":///")
    if kind.startswith("sqlite") and not Path(file.partition("?")[0]).exists():  # opening it would create it
        return _NO_TABLES
    try:
        with closing(open_registry(database, migrate=False)) as registry:
            with registry.read() as session:
                if not inspect(session.connection()).has_table(ExpansionRow.__tablename__):
                    return _NO_TABLES
            registry.expansions.count_by_state()
    except PictoglotError as error:
        return error.full_detail
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
