"""`python -m tests.torture`: a history from a seed, for some minutes; on failure the smallest one that was found.

Torture is requests and faults against real processes, checked against a model in plain Python. It knows the service as
a stranger does: HTTP, the command line, signals, files, and the settings of docs/settings.md. It imports nothing of
`model`, `index`, `service` and `worker`, so that it survives a rebuild of everything inside.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

from tests.torture.draws import draw
from tests.torture.histories import run_history

DATABASES = ("sqlite", "postgresql", "store")  # store: PostgreSQL, a data root for each machine, an object store


def main() -> int:
    """Exit status 0 if every promise was kept, 1 if one was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=3.0, help="for each database")
    parser.add_argument("--steps", type=int, help="as many instead, on however slow a machine")
    parser.add_argument("--database", choices=(*DATABASES, "both", "all"), default="both")
    parser.add_argument("--keep", type=Path, default=Path("torture-failures"), help="where seed, ledger and data go")
    parser.add_argument("--shrink", type=float, default=5.0, help="minutes to look for a smaller one")
    parser.add_argument("--history", type=Path, help="carry out the steps of this file instead")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up
    databases = {"both": DATABASES[:2], "all": DATABASES}.get(args.database, (args.database,))
    steps = [draw(args.seed, number) for number in range(args.steps)] if args.steps else None
    if args.history:
        steps = json.loads(args.history.read_text())
    reports = [run_history(name, args.seed, args.minutes, args.keep, args.shrink, steps) for name in databases]
    for report in reports:
        sys.stdout.write(f"{report}\n")
    return 0 if all(report.violation is None for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
