"""Workers that are killed at random times, their children with them: the same bits as if nothing had happened (K1)."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from store.expansions import Expansion
from tests.patience import PATIENCE
from tests.worker.harness import FINISHED, Site, assert_once, pairs

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.row("K1", "F14")]
NewSite = Callable[..., Site]
PICTURED = pairs("cy", picture=True)
# a worker is alone here, so that nobody takes its lease, however slow the machine is
SHORT = {"LEASE_SECONDS": "3"}


@dataclass
class Kills:
    """What was killed so far, and how long it took until a new worker went on, in seconds."""

    draw: random.Random
    phases: list[str] = field(default_factory=list)
    resumed: list[float] = field(default_factory=list)

    def kill_once(self, site: Site, expansion: str) -> Expansion:
        """Start a worker, and kill it with its child at a random time; without a kill when it was faster."""
        before = site.registry.expansions.get(expansion).attempt
        worker, started = site.start(), time.monotonic()
        current = site.wait(expansion, lambda e: e.attempt > before or e.state in FINISHED)
        if self.phases:
            self.resumed.append(time.monotonic() - started)
        share, late = self.draw.uniform(current.progress, 1.0), self.draw.uniform(0.0, 1.0)
        # half of them by the clock, since most of an attempt goes by before its process has begun with a phase
        until = time.monotonic() + (self.draw.uniform(0.0, 4.0) if self.draw.random() < 0.5 else PATIENCE)
        current = site.wait(expansion, lambda e: e.progress >= share or e.state in FINISHED or time.monotonic() > until)
        time.sleep(late)
        site.kill(worker)
        worker.wait()
        current = site.registry.expansions.get(expansion)
        if current.state not in FINISHED:
            self.phases.append(current.phase or "begin")
        return current


def run_with_kills(new_site: NewSite, undisturbed: dict[str, str], count: int, each: int, seed: int) -> Kills:
    """Kill workers so many times, an expansion up to `each` times, and compare what every expansion has learned."""
    kills = Kills(random.Random(seed))
    while len(kills.phases) < count:
        site = new_site(**SHORT)
        expansion = site.submit(PICTURED)
        for _ in range(min(each, count - len(kills.phases))):
            if kills.kill_once(site, expansion).state in FINISHED:
                break
        else:
            worker = site.start()
            site.finish(expansion)
            worker.terminate()
            worker.wait(PATIENCE)
        assert_once(site, site.registry.expansions.get(expansion))
        assert site.weights(expansion) == undisturbed
        site.close()
    return kills


@pytest.mark.timeout(10_800)
@pytest.mark.parametrize(("count", "each"), [(2, 2), pytest.param(100, 6, marks=pytest.mark.nightly)])
def test_workers_killed_at_random_times_end_with_the_same_bits(
    new_site: NewSite, undisturbed: dict[str, str], count: int, each: int
) -> None:
    kills = run_with_kills(new_site, undisturbed, count, each, seed=24)
    logging.getLogger(__name__).info("killed in: %s; seconds to resume: %s", kills.phases, kills.resumed)
