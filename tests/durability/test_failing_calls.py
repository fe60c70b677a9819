"""Every call of the system fails once: the answer tells it, nothing that was acknowledged is lost, nothing is left.

SQLite's own method. `make calls` fails the n-th call of each kind for n = 1, 2, … until none is left, in every
operation, once and from then on; `make test` takes a dozen of these by a fixed seed, `make nightly` sixty.
"""

import itertools
import os
import random
import re
import sys
from collections.abc import Iterator

import pytest

from tests.durability.conftest import Prepared
from tests.durability.deployment import Deployment
from tests.durability.disturbing import Disturbing
from tests.durability.failing_calls import ERRORS, EVER, KINDS, Fault, Kind
from tests.durability.operations import OPERATIONS, Asked, Operation, read_holdings

pytestmark = [pytest.mark.faults, pytest.mark.timeout(14_400)]
FULL = os.environ.get("CALLS") == "all"
_SEED = 24
_STEPS: dict[Kind, int] = {"fsync": 1, "name": 1, "open": 10, "write": 25}  # of calls of the worker, the n-th ones
_WORKERS_FIRST = 5  # call of the worker that fails: those before are of its start


def list_faults(kind: Kind) -> Iterator[Iterator[Fault]]:
    """Yield for each error, once and from then on: the first call, the second, and so on without end."""
    for error, count in itertools.product(ERRORS[kind], list_counts(kind)):
        yield (Fault(kind, error, nth, count) for nth in itertools.count(1))


def list_counts(kind: Kind) -> tuple[int, ...]:
    """Return how many calls fail: one, or all from then on. Who is never accepted has no answer to judge."""
    return (1, 3) if kind == "accept" else (1, EVER)


def fail_all(disturbing: Disturbing, operations: tuple[Operation, ...]) -> None:
    """Fail every call of every operation; the service starts anew after each that writes, and is compared."""
    for operation in operations:
        for kind in KINDS:
            for each in list_faults(kind):
                for fault in each:
                    if not disturbing.disturb(operation, fault):
                        break
        if not operation.reads:
            disturbing.restart()
        report(disturbing, operation.name)
    disturbing.restart()


def fail_some(disturbing: Disturbing, sample: int) -> None:
    draw = random.Random(_SEED)
    fired = 0
    while fired < sample:
        kind = draw.choice(KINDS)
        fault = Fault(kind, draw.choice(ERRORS[kind]), draw.randint(1, 6), draw.choice(list_counts(kind)))
        fired += disturbing.disturb(draw.choice(OPERATIONS), fault)
    disturbing.restart()


def fail_worker(disturbing: Disturbing) -> None:
    """Fail calls of the worker and its children: each that makes a name or something durable, some others."""
    for kind, step in _STEPS.items() if FULL else [*_STEPS.items()][:1]:
        for error in ERRORS[kind] if FULL else ERRORS[kind][:1]:
            for nth in itertools.count(_WORKERS_FIRST, step if FULL else EVER):
                if not disturbing.teach(Fault(kind, error, nth)):
                    break
                report(disturbing, f"taught, {kind} {nth}")
    disturbing.restart()


def report(disturbing: Disturbing, title: str) -> None:
    """Write what was tried by now, for who runs the long form."""
    counts = ", ".join(f"{kind} {error} {count}" for (kind, error), count in sorted(disturbing.counts.items()))
    answers = ", ".join(f"{answer}: {count}" for answer, count in disturbing.answers.most_common())
    sys.stderr.write(f"{title}: {counts}\n  answers {answers}\n  problems {len(disturbing.problems)}\n")
    for problem in disturbing.problems[-5:]:
        sys.stderr.write(f"    {problem[:1500]}\n")


@pytest.fixture
def disturbing(prepared: Prepared, deployment: Deployment) -> Disturbing:
    if prepared.calls is None:
        pytest.skip("calls are made to fail by a library that a C compiler makes, and there is none")
    deployment.start("service")
    assert deployment.is_ready(), deployment.log_end()
    asked = Asked(deployment)
    asked.ledger.compare(read_holdings(deployment))
    return Disturbing(asked, prepared.calls)


@pytest.mark.row("S5")
@pytest.mark.parametrize("sample", [12, pytest.param(60, id="longer", marks=pytest.mark.nightly)])
def test_no_call_of_the_service_that_fails_loses_anything(disturbing: Disturbing, sample: int) -> None:
    chosen = os.environ.get("CALLS_ONLY", "")
    if FULL:
        fail_all(disturbing, tuple(each for each in OPERATIONS if re.search(chosen, each.name)))
    else:
        fail_some(disturbing, sample)
    assert disturbing.problems == []
    assert sum(disturbing.counts.values()) >= sample


@pytest.mark.nightly
def test_no_call_of_the_worker_that_fails_loses_anything(disturbing: Disturbing) -> None:
    fail_worker(disturbing)
    assert disturbing.problems == []
    assert disturbing.counts
