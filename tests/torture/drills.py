"""`python -m tests.torture.drills`: backups of a deployment under load, each restored, served, and compared.

Each drill is a line of the results when it has ended: what was stopped, or broke off, goes on where it was.
"""

import argparse
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from tests.torture.__main__ import DATABASES
from tests.torture.draws import draw
from tests.torture.histories import run_deployment
from tests.torture.ledger import Ledger, Violation
from tests.torture.steps import Runner

_TEACH_EACH = 5  # drills, so that the languages change, too
_DIFFERENT = ("lost", "back", "mixed", "damaged")  # kinds of violations; the others say that a drill broke off
_MOST_BROKEN = 3  # in a row


def run_drills(database: str, wanted: int, results: Path) -> list[dict[str, Any]]:
    """Carry out what is missing of the `wanted` drills, and return all lines of this database, also earlier ones.

    Raises Violation when one drill after another breaks off.
    """
    broken = 0
    while (number := len(done := read_results(results, database))) < wanted:
        began = time.monotonic()
        line: dict[str, Any] = {"database": database, "number": number}
        try:
            with run_deployment(database, 24 + number) as deployment:
                runner = Runner(deployment, Ledger(), Counter())
                runner.begin()
                for seconds in carry_out(runner, range(number, wanted)):
                    append(results, {**line, "difference": None, "seconds": seconds})
                    line["number"] += 1
                    broken = 0
        except (Violation, TimeoutError) as error:
            is_difference = isinstance(error, Violation) and error.kind in _DIFFERENT
            kind = "difference" if is_difference else "broke off"
            append(results, {**line, kind: str(error), "seconds": round(time.monotonic() - began, 1)})
            broken += not is_difference
            if broken >= _MOST_BROKEN:
                raise
    return done


def carry_out(runner: Runner, numbers: range) -> Iterator[float]:
    """Yield the seconds of each drill, once what was restored is what its backup was taken of."""
    for number in numbers:
        began = time.monotonic()
        for kind in ("teach", "backup") if number % _TEACH_EACH == 0 else ("backup",):
            runner.do(next(step for step in map(partial(draw, number), count()) if step["step"] == kind))
        yield round(time.monotonic() - began, 1)


def read_results(results: Path, database: str) -> list[dict[str, Any]]:
    """Read the drills of a database that were carried out to their end."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    return [found for line in lines if (found := json.loads(line))["database"] == database and "difference" in found]


def append(results: Path, line: dict[str, Any]) -> None:
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def main() -> int:
    """Exit status 0 if every restore was what its backup was taken of, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.drills", description=__doc__)
    parser.add_argument("--database", choices=(*DATABASES, "all"), default="all")
    parser.add_argument("--drills", type=int, default=50, help="of each database, with those in the results")
    parser.add_argument("--results", type=Path, default=Path("drills.jsonl"))
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up
    differences = 0
    for database in DATABASES if args.database == "all" else (args.database,):
        done = run_drills(database, args.drills, args.results)
        different = [line["difference"] for line in done if line["difference"]]
        sys.stdout.write(f"{database}: {len(done)} drills, {len(different)} differences\n")
        differences += len(different)
    return int(bool(differences))


if __name__ == "__main__":
    sys.exit(main())
