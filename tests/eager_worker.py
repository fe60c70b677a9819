"""`python -m tests.eager_worker`: a worker that seals after `SEAL_AT` changes and fits each `MATCH_SECONDS`."""

import os
import sys

from worker.__main__ import main
from worker.settings import WorkerSettings

WorkerSettings.seal_at = int(os.environ.get("SEAL_AT", WorkerSettings.seal_at))
WorkerSettings.match_seconds = float(os.environ.get("MATCH_SECONDS", WorkerSettings.match_seconds))
sys.exit(main())
