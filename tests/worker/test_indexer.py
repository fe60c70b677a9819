"""The indexer as a worker runs it: one at a time for all, in a child that may be killed."""

import pytest

from index.gallery import NewPicture
from index.set_states import NOTHING_SEALED, PRUNED, SealedState, count_unsealed
from index.sets import VectorSets
from index.vectors import Identity
from store.errors import LeaseLost
from tests.launcher import PARENT
from tests.patience import PATIENCE, insisting
from tests.worker.harness import PICTURES, Site
from worker.settings import WorkerSettings
from worker.upkeep import IndexingChore

SEAL_AT = "50"
DUTY = "indexer"
CHILD = ("worker.upkeep", "seal", PARENT, SEAL_AT)


class Eager(WorkerSettings):
    seal_at = int(SEAL_AT)


@pytest.fixture
def sets(site: Site) -> VectorSets:
    """The sets of a site on which an API has opened the pictures, and sealed nothing."""
    sets = VectorSets(site.gallery)
    assert sets.register(pictures(site), NOTHING_SEALED, NOTHING_SEALED) is not None
    return sets


def pictures(site: Site) -> Identity:
    return Identity("pictures", site.image_fingerprint, 32)


def sealed(site: Site, sets: VectorSets) -> SealedState:
    """The state of the pictures as soon as there is a segment of all."""
    site.wait_until(lambda: sum(each.rows for each in sets.read_state(pictures(site)).segments) == PICTURES)
    return sets.read_state(pictures(site))


def test_a_worker_seals_what_changed_and_leaves_the_duty(site: Site, sets: VectorSets) -> None:
    assert count_unsealed(site.registry) == PICTURES
    site.process("tests.eager_worker", SEAL_AT=SEAL_AT)
    state = sealed(site, sets)
    assert state.upto_change == site.gallery.read_last_change() and count_unsealed(site.registry) == 0
    site.wait_until(lambda: insisting(lambda: site.registry.duties.take(DUTY, "another", 0.1)))


def test_after_it_has_sealed_a_worker_prunes_the_feed(site: Site, sets: VectorSets) -> None:
    site.gallery.delete("p7")
    assert site.process(*CHILD).wait(PATIENCE) == 0
    told = site.gallery.list_changes(0)
    assert told[PRUNED] == PICTURES + 1 and len(told) == PICTURES and "p7" not in told


@pytest.mark.faults
@pytest.mark.parametrize("point", ["files.written:1", "indexer.written:1", "indexer.registered:1"])
def test_a_killed_indexer_is_followed_by_another_when_its_duty_runs_out(
    site: Site, sets: VectorSets, point: str
) -> None:
    site.settings = {"LEASE_SECONDS": "3"}
    child = site.process(*CHILD, FAULT_POINT=point)
    assert child.wait(PATIENCE) == -9
    site.wait_until(lambda: site.process(*CHILD).wait(PATIENCE) == 0 and count_unsealed(site.registry) == 0)
    assert sealed(site, sets).upto_change == site.gallery.read_last_change()


def test_what_cannot_be_sealed_starts_no_child_until_as_much_has_changed_again(site: Site, sets: VectorSets) -> None:
    """A caption that nobody encodes: its version serves no more, but the release before names it."""
    captions = Identity("captions", site.text_fingerprint, site.dimension, "en", 0)
    site.gallery.put([NewPicture("p1", f"{1:064x}", 64, 64, {"en": ["unread"]})], site.image_fingerprint)
    assert sets.register(captions, NOTHING_SEALED, NOTHING_SEALED) is not None
    indexing = IndexingChore(Eager(home=site.home, base=site.base))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PICTOGLOT_HOME", str(site.home))
        indexing.tick(site.registry)
        assert indexing.is_running
        site.wait_until(lambda: not indexing.is_running)
        assert sets.read_state(pictures(site)).upto_change == site.gallery.read_last_change()
        for number in range(100, 149):
            indexing.tick(site.registry)
            assert not indexing.is_running and count_unsealed(site.registry) == PICTURES
            site.gallery.delete(f"p{number % PICTURES}")
        site.gallery.delete("p99")
        indexing.tick(site.registry)
        assert indexing.is_running
        indexing.stop()


def test_while_another_process_has_the_duty_a_second_one_ends_at_once(site: Site, sets: VectorSets) -> None:
    assert site.registry.duties.take(DUTY, "another", 600)
    assert site.process(*CHILD).wait(PATIENCE) == 0
    assert sets.read_state(pictures(site)).segments == ()
    site.registry.duties.give_back(DUTY, "another")
    assert site.process(*CHILD).wait(PATIENCE) == 0
    assert count_unsealed(site.registry) == 0


def test_a_duty_is_of_one_process_until_it_runs_out(site: Site) -> None:
    duties = site.registry.duties
    assert duties.take(DUTY, "a", 600) and duties.take(DUTY, "a", 600) and not duties.take(DUTY, "b", 600)
    with pytest.raises(LeaseLost):
        duties.keep(DUTY, "b", 600)
    duties.give_back(DUTY, "b")  # it is not b's
    assert not duties.take(DUTY, "b", 600)
    duties.keep(DUTY, "a", 0)
    site.wait_until(lambda: duties.take(DUTY, "b", 600))
    with pytest.raises(LeaseLost):
        duties.keep(DUTY, "a", 600)
