"""Workers that are killed, stopped, frozen, cancelled or doubled: every expansion ends once, with the right result."""

import logging
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
import pytest

from store.expansions import Expansion
from tests.patience import PATIENCE, insist
from tests.worker.harness import FINISHED, Site, assert_once, pairs

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]
NewSite = Callable[..., Site]
PICTURED = pairs("cy", picture=True)
POINTS = (  # in the order in which an expansion passes them; those of storage fall on checkpoints
    "phase.prepare:1",
    "phase.train:1",
    "files.temp_open:1",
    "files.written:3",  # the corpus's tokens, a checkpoint, and the next one
    "files.fsynced:2",
    "files.renamed:2",
    "files.folder_fsynced:1",
    "files.renamed:6",  # a checkpoint of the second training: of the first are at most five left
    "phase.evaluate:1",
    "phase.package:1",
    "phase.encode:1",
    "build.registered:1",
    "phase.promote:1",
    "promote.committed:1",
)


@pytest.mark.row("K2")
def test_a_killed_child_is_followed_by_another_and_a_killed_worker_takes_its_child_along(
    site: Site, undisturbed: dict[str, str]
) -> None:
    expansion = site.submit(PICTURED)
    worker = site.start()
    site.training(expansion)
    assert site.child(worker).nice() == min(19, psutil.Process(worker.pid).nice() + 10), "searches come first (L3)"
    site.child(worker).kill()
    site.wait(expansion, lambda e: e.attempt == 2)
    child = site.child(worker)
    worker.kill()
    child.wait(PATIENCE)
    site.abandon(expansion)
    site.start()
    finished = site.finish(expansion)
    assert_once(site, finished)
    assert finished.attempt == 3
    assert site.weights(expansion) == undisturbed


@pytest.mark.row("K1", "K3")
def test_killed_at_every_point_it_ends_with_the_same_bits(site: Site, undisturbed: dict[str, str]) -> None:
    expansion = site.submit(PICTURED)
    for point in POINTS:
        site.attempt(expansion, FAULT_POINT=point).wait(PATIENCE)
        assert site.registry.expansions.get(expansion).state == "running", f"{point} was never passed\n{site.log()}"
        site.abandon(expansion)
    assert site.attempt(expansion).wait(PATIENCE) == 0
    assert_once(site, site.registry.expansions.get(expansion))
    assert site.weights(expansion) == undisturbed


@pytest.mark.row("K2")
def test_three_attempts_without_progress_end_it(site: Site) -> None:
    expansion = site.submit(PICTURED)
    site.start(FAULT_POINT="phase.prepare:1")
    failed = site.finish(expansion)
    assert failed.error is not None
    assert failed.error.code == "too_many_attempts"
    assert "signal 9" in failed.error.detail
    assert failed.attempt == 3


@pytest.mark.row("K7")
def test_sigterm_writes_a_checkpoint_and_gives_the_lease_back(site: Site) -> None:
    expansion = site.submit(PICTURED, epochs=2000, checkpoint_every=100_000)
    worker = site.start()
    site.wait(expansion, lambda e: e.phase == "train" and e.step > 0)
    worker.terminate()
    assert worker.wait(PATIENCE) == 0
    assert len(site.checkpoints(expansion)) == 1
    stopped = site.registry.expansions.get(expansion)
    assert stopped.state == "queued"
    site.start()
    resumed = site.wait(expansion, lambda e: e.attempt > 1 and e.phase == "train" and e.step not in (0, stopped.step))
    assert resumed.step > stopped.step


@pytest.mark.row("K4")
def test_a_frozen_worker_that_was_overtaken_writes_nothing_more(site: Site, undisturbed: dict[str, str]) -> None:
    expansion = site.submit(PICTURED, epochs=4)
    frozen = site.start()
    overtaken = site.child(frozen)
    site.training(expansion)
    site.freeze(frozen)
    site.abandon(expansion)
    site.start()
    before = site.finish(expansion)
    assert_once(site, before)
    site.kill(frozen, signal.SIGCONT)
    overtaken.wait(PATIENCE)
    assert site.registry.expansions.get(expansion) == before
    assert_once(site, before)
    assert site.weights(expansion) == undisturbed


@pytest.mark.row("E12")
def test_what_is_cancelled_while_queued_never_runs_and_while_running_ends_its_child_and_makes_no_version(
    site: Site,
) -> None:
    queued = site.submit(PICTURED)
    site.registry.expansions.cancel(queued)
    running = site.submit(pairs("br", picture=True), "br", epochs=2000)
    worker = site.start()
    site.training(running)
    child = site.child(worker)
    insist(lambda: site.registry.expansions.cancel(running))
    assert site.finish(running).state == "cancelled"
    child.wait(PATIENCE)
    assert len(site.registry.versions.list()) == 1
    site.wait(running, lambda _: site.checkpoints(running) == [])
    cancelled = site.registry.expansions.get(queued)
    assert (cancelled.state, cancelled.attempt) == ("cancelled", 0)


@pytest.mark.row("E13")
def test_a_diverging_loss_fails_the_expansion_and_serves_nothing(site: Site) -> None:
    expansion = site.submit(PICTURED, learning_rate=1e30)
    assert site.attempt(expansion).wait(PATIENCE) == 0
    failed = site.registry.expansions.get(expansion)
    assert failed.error is not None
    assert failed.error.code == "training_diverged"
    assert len(site.registry.versions.list()) == 1
    assert site.registry.releases.get_serving().number == 1


@pytest.mark.row("K8")
def test_a_damaged_checkpoint_is_skipped_for_an_older_one_and_a_picture_that_went_meanwhile_changes_nothing(
    site: Site, undisturbed: dict[str, str]
) -> None:
    expansion = site.submit(PICTURED)
    site.attempt(expansion, FAULT_POINT="phase.train:1").wait(PATIENCE)
    site.abandon(expansion)
    site.gallery.delete("p3")
    site.attempt(expansion, FAULT_POINT="phase.evaluate:1").wait(PATIENCE)
    site.abandon(expansion)
    state = site.checkpoints(expansion)[-1] / "state.safetensors"
    data = bytearray(state.read_bytes())
    data[-100] ^= 1
    state.write_bytes(data)
    assert site.attempt(expansion).wait(PATIENCE) == 0
    assert_once(site, site.registry.expansions.get(expansion))
    assert "is damaged" in site.log()
    assert site.weights(expansion) == undisturbed
    assert "cy" not in site.gallery.group_captions(["p3"])["p3"]


@pytest.mark.row("K9")
def test_a_dataset_that_changed_since_it_was_submitted_is_refused(site: Site) -> None:
    expansion = site.submit(PICTURED)
    path = site.home / "expansions" / expansion / "dataset"
    path.write_bytes(path.read_bytes().replace(b"afal", b"aval"))
    assert site.attempt(expansion).wait(PATIENCE) == 0
    failed = site.registry.expansions.get(expansion)
    assert failed.error is not None
    assert failed.error.code == "checkpoint_mismatch"


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
        site = new_site(LEASE_SECONDS="3")  # nobody else takes its lease, however slow the machine is
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


@pytest.mark.slow
@pytest.mark.row("K1", "F14")
@pytest.mark.timeout(10_800)
@pytest.mark.parametrize(("count", "each"), [(2, 2), pytest.param(100, 6, marks=pytest.mark.nightly)])
def test_workers_killed_at_random_times_end_with_the_same_bits(
    new_site: NewSite, undisturbed: dict[str, str], count: int, each: int
) -> None:
    kills = run_with_kills(new_site, undisturbed, count, each, seed=24)
    logging.getLogger(__name__).info("killed in: %s; seconds to resume: %s", kills.phases, kills.resumed)
