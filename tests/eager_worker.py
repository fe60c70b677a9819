"""`python -m tests.eager_worker`: a worker that seals after `SEAL_AT` changes of the gallery instead of thousands."""

import os
import sys

from worker.__main__ import main
from worker.settings import WorkerSettings

WorkerSettings.seal_at = int(os.environ["SEAL_AT"])
sys.exit(main())
