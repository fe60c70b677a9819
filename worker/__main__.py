"""`python -m worker`: a worker with our options, on the broker that the settings name."""

import sys
import warnings

from celery.platforms import SecurityWarning

from model.settings import MISCONFIGURED, SettingsError


def main() -> int:
    """Run until SIGTERM; a training under way then writes a checkpoint and gives its lease back. 78: bad settings."""
    try:
        from worker.celery_app import app  # reads the settings

        app.supervisor.settings.make_home()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return MISCONFIGURED
    # Celery warns of running as root because of pickle, which is not accepted here
    warnings.simplefilter("ignore", SecurityWarning)
    app.worker_main(["--quiet", "worker", "--without-gossip", "--without-mingle", "--without-heartbeat"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
