"""`python -m service`: sets the environment of threads before anything heavy is imported, then serves."""

import os

# OpenMP's default costs a factor of 20 in latency beside a trainer (measured); read once, when torch and faiss load
_THREADS = os.environ.get("PICTOGLOT_THREADS", "1")
os.environ.update(OMP_NUM_THREADS=_THREADS, OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="0")

from service.serve import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())
