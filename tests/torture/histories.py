"""Whole histories: begun on an empty data root, ended by a violation or by time, and made smaller where one failed."""

import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.redis_server import RedisServer
from tests.torture.contents import write_base
from tests.torture.deployment import Deployment
from tests.torture.draws import Step, draw
from tests.torture.ledger import Ledger, Violation
from tests.torture.servers import Database, ObjectStore
from tests.torture.settle import close, settle
from tests.torture.steps import Runner


@dataclass
class Report:
    database: str
    seed: int
    steps: list[Step] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    violation: Violation | None = None
    kept: Path | None = None
    smallest: list[Step] | None = None

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        lines = [f"{self.database}, seed {self.seed}: {counted}"]
        if self.violation is None:
            return f"{lines[0]}; 0 lost, 0 back, 0 mixed, 0 undocumented"
        lines += [f"BROKEN {self.violation}", f"seed, ledger, logs and data root are in {self.kept}"]
        if self.smallest is not None:
            lines.append(f"the smallest history that was found, {len(self.smallest)} of {len(self.steps)} steps:")
            lines += [json.dumps(step, ensure_ascii=False) for step in self.smallest]
        return "\n".join(lines)


def run_history(
    database: str, seed: int, minutes: float, keep: Path, shrink_minutes: float, steps: Sequence[Step] | None = None
) -> Report:
    """Return a history of a seed, or of these steps; where it fails, a smaller one that fails in the same way."""
    planned = iter(steps) if steps is not None else _draw(seed, 60 * minutes)
    report = carry_out(database, seed, planned, keep / f"{database}-{seed}")
    if report.violation is not None and shrink_minutes > 0:
        _say(f"{report}\nlooking for a smaller history for {shrink_minutes} minutes")
        kind, deadline = report.violation.kind, time.monotonic() + 60 * shrink_minutes

        def fails(shorter: Sequence[Step]) -> bool:
            found = carry_out(database, seed, iter(shorter), None).violation
            return found is not None and found.kind == kind

        report.smallest = shrink(report.steps, fails, lambda: time.monotonic() > deadline)
        assert report.kept is not None
        (report.kept / "smallest.json").write_text(json.dumps(report.smallest, ensure_ascii=False, indent=1))
    return report


def _draw(seed: int, seconds: float) -> Iterator[Step]:
    number, until = 0, time.monotonic() + seconds  # from the first step on
    while time.monotonic() < until:
        yield draw(seed, number)
        number += 1


@contextmanager
def run_deployment(database: str, seed: int) -> Iterator[Deployment]:
    """Run a deployment in a folder of its own; nothing of it is left afterwards."""
    with ExitStack() as undone:
        folder = Path(undone.enter_context(tempfile.TemporaryDirectory(prefix="torture-", ignore_cleanup_errors=True)))
        server, store, broker = None, None, None
        if database != "sqlite":
            server = Database()
            undone.callback(server.stop)
        if database == "store":
            own = undone.enter_context(tempfile.TemporaryDirectory(prefix="broker-"))  # its process outlives the others
            store, broker = ObjectStore(), RedisServer(Path(own))
            broker.start()
            undone.callback(store.stop)
            undone.callback(broker.kill)
        deployment = Deployment(folder, write_base(folder, f"torture-{seed}", seed), server, store, broker)
        undone.callback(deployment.close)
        deployment.start()
        yield deployment


def carry_out(database: str, seed: int, steps: Iterator[Step], keep: Path | None) -> Report:
    """Return the steps on a deployment of their own, then a look at everything. What failed is copied to `keep`."""
    report = Report(database, seed)
    with run_deployment(database, seed) as deployment:
        runner = Runner(deployment, Ledger(deployment.folder / "ledger.jsonl"), report.counts)
        try:
            runner.begin()
            for step in steps:
                report.steps.append(step)
                runner.do(step)
            settle(runner)
            close(runner)
        except (Violation, TimeoutError) as error:
            report.violation = error if isinstance(error, Violation) else Violation("stuck", str(error))
            if keep is not None:
                report.kept = _keep(keep, report, deployment)
    return report


def _keep(target: Path, report: Report, deployment: Deployment) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    (target / "seed").write_text(f"{report.seed}\n")
    (target / "history.json").write_text(json.dumps(report.steps, ensure_ascii=False, indent=1))
    (target / "violation.txt").write_text(f"{report.violation}\n")
    deployment.keep(target)
    return target.resolve()


def shrink(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool], is_over: Callable[[], bool]) -> list[Step]:
    """Return a part of `steps` that still fails: runs of them are left out, long ones first, until time is over."""
    smallest, length = list(steps), max(1, len(steps) // 2)
    while length and not is_over():
        start = 0
        while start < len(smallest) and not is_over():
            shorter = smallest[:start] + smallest[start + length :]
            if fails(shorter):
                smallest = shorter
            else:
                start += length
        length //= 2
    return smallest


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
