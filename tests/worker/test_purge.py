"""Deleted for good: no file has anything of a deleted picture, whatever was killed; the daily scrub in a child."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import update

from index.gallery import NewPicture
from index.scrub_report import ScrubReport, list_unmended, load_report, name_duty, save_report
from index.set_states import NOTHING_SEALED
from index.sets import VectorSets
from index.vectors import Identity
from store.clock import SteadyClock
from store.data_root import DataRoot
from store.leases import PURGING
from store.reach import DeletedPictureRow
from store.tables import DiscardedContentRow, DutyRow
from tests.bitrot import flip
from tests.launcher import PARENT
from tests.patience import PATIENCE, insist
from tests.worker.harness import PICTURES, Site, pairs
from tests.worker.test_indexer import CHILD
from worker import upkeep
from worker.settings import WorkerSettings
from worker.upkeep import IndexingChore, ScrubbingChore

GONE, CONTENT = "somebody/who wants to be forgotten", f"{PICTURES:064x}"
SEARCH = """
import sys
from pathlib import Path
sought = [bytes.fromhex(each) for each in sys.argv[2:]]
for path in Path(sys.argv[1]).rglob("*"):
    if path.is_file() and any(each in path.read_bytes() for each in sought):
        print(path.name)
"""
NOW = {"PICTOGLOT_PURGE_DAYS": "0", "PICTOGLOT_LEASE_SECONDS": "3"}
SCRUB = ("worker.upkeep", "scrub")
DAY = 86_400.0


def pictures(site: Site) -> Identity:
    return Identity("pictures", site.image_fingerprint, site.dimension)


def drawn(site: Site, seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(site.dimension).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector))


def put(site: Site, seed: int, content: str = CONTENT) -> None:
    site.gallery.put([NewPicture(GONE, content, 64, 64, None, drawn(site, seed))], site.image_fingerprint)


def traces(site: Site, seed: int, id: str = GONE) -> set[str]:
    """The names of the files that have the id or the vector.

    Another process reads them: one that closes SQLite's file loses the locks of its own connections.
    """
    vector = drawn(site, seed).astype(np.float16).tobytes()
    command = [sys.executable, "-S", "-c", SEARCH, str(site.home), id.encode().hex(), vector.hex()]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def found(site: Site) -> list[str]:
    """All that is sealed, by its distance to a query."""
    sets = VectorSets(site.gallery)
    opened, lost = sets.open_sealed(pictures(site), sets.read_state(pictures(site)))
    assert not lost
    return [hit.entry.picture for hit in opened.search(drawn(site, 3), 999)]


def expected(site: Site) -> list[str]:
    """The same from the tables."""
    vectors = site.gallery.find_picture_vectors(site.gallery.list_ids(), site.image_fingerprint)
    return sorted(vectors, key=lambda id: -float(vectors[id] @ drawn(site, 3)))


def index(site: Site, **more: str) -> int:
    """What the worker's child does; returns its exit status."""
    return site.process(*CHILD, **more).wait(PATIENCE)


@pytest.fixture
def deleted(site: Site) -> Iterator[Site]:
    """A picture is deleted after its segment was sealed; the last purge was a moment ago."""
    assert VectorSets(site.gallery).register(pictures(site), NOTHING_SEALED, NOTHING_SEALED)
    put(site, 1)
    assert index(site) == 0 and "rows.safetensors" in traces(site, 1)
    site.registry.duties.note_done(PURGING)
    site.gallery.delete(GONE)
    yield site


def test_a_worker_that_is_told_so_leaves_nothing_of_what_was_deleted(
    deleted: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert index(deleted) == 0
    kept = {name.partition(".")[0] for name in traces(deleted, 1)}
    assert kept == {"rows", "index", "registry"}, "the default is to wait"
    indexing = IndexingChore(WorkerSettings(home=deleted.home, base=deleted.base, purge_days=0))
    for name, value in (("HOME", str(deleted.home)), ("PURGE_DAYS", "0")):
        monkeypatch.setenv(f"PICTOGLOT_{name}", value)
    indexing.tick(deleted.registry)
    assert indexing.is_running
    deleted.wait_until(lambda: not indexing.is_running)
    assert traces(deleted, 1) == set() and found(deleted) == expected(deleted)
    indexing.tick(deleted.registry)
    assert not indexing.is_running, "it looks again in an hour"


def test_without_the_setting_a_worker_waits_for_thirty_days(deleted: Site) -> None:
    indexing = IndexingChore(WorkerSettings(home=deleted.home, base=deleted.base))
    indexing.tick(deleted.registry)
    assert not indexing.is_running and "rows.safetensors" in traces(deleted, 1)


@pytest.mark.row("F5")
def test_a_worker_whose_clock_has_jumped_purges_nothing(deleted: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    running = [0.0]
    jumped, settings = SteadyClock(lambda: running[0]), WorkerSettings(home=deleted.home, base=deleted.base)
    assert jumped.is_steady(time.time())
    running[0] -= 40 * DAY  # as much as the database's clock is ahead
    monkeypatch.setenv("PICTOGLOT_HOME", str(deleted.home))
    with deleted.registry.begin() as session:
        for moment in (DutyRow.expires, DeletedPictureRow.deleted_at, DiscardedContentRow.discarded_at):
            session.execute(update(moment.class_).values({moment: moment - 40 * DAY}))
    for clock, purged in ((jumped, False), (SteadyClock(), True)):
        monkeypatch.setattr(deleted.registry, "_clock", clock)
        indexing = IndexingChore(settings)
        indexing.tick(deleted.registry)
        assert indexing.is_running
        deleted.wait_until(lambda: not indexing.is_running)  # noqa: B023 - called at once
        assert (traces(deleted, 1) == set()) is purged


def test_of_a_replaced_picture_the_vector_goes(deleted: Site) -> None:
    put(deleted, 1)
    assert index(deleted, **NOW) == 0
    assert "rows.safetensors" in traces(deleted, 1)
    put(deleted, 2, f"{PICTURES + 1:064x}")
    assert index(deleted, **NOW) == 0
    assert traces(deleted, 1, "no such id") == set() and "rows.safetensors" in traces(deleted, 2)
    assert found(deleted) == expected(deleted)


@pytest.mark.faults
@pytest.mark.parametrize("point", ["files.renamed:1", "purge.written:1", "purge.registered:1"])
def test_a_killed_purge_loses_nothing_and_the_next_one_ends(deleted: Site, point: str) -> None:
    assert index(deleted, **NOW, FAULT_POINT=point) == -9
    assert set(found(deleted)) - {GONE} == set(expected(deleted))
    deleted.wait_until(lambda: index(deleted, **NOW) == 0 and not traces(deleted, 1))
    assert found(deleted) == expected(deleted)


@pytest.mark.row("F4")
def test_a_child_reads_everything_once_unless_another_process_does(site: Site) -> None:
    root, expansion = DataRoot(site.home), site.submit(pairs("cy"))
    flip(site.home / "expansions" / expansion / "dataset", 99)
    duty = name_duty(root)
    assert insist(lambda: site.registry.duties.take(duty, "another", 600))
    assert site.process(*SCRUB, PARENT).wait(PATIENCE) == 0 and load_report(root) is None, site.log()[-4_000:]
    insist(lambda: site.registry.duties.give_back(duty, "another"))
    assert site.process(*SCRUB, PARENT).wait(PATIENCE) == 0, site.log()[-4_000:]
    report = load_report(root)
    assert report is not None and report.unmended_count > 100, "it has no file of any picture"
    datasets = [each.name for each in list_unmended(root) if each.kind == "dataset"]
    assert datasets == [f"dataset of expansion {expansion} of cy"] and datasets[0] in site.log()
    assert insist(lambda: site.registry.duties.take(duty, "another", 600)), "the duty was given back"


@pytest.mark.row("F4")
def test_a_child_whose_parent_is_gone_reads_nothing(site: Site) -> None:
    assert site.process(*SCRUB, "1").wait(PATIENCE) == -signal.SIGKILL and load_report(DataRoot(site.home)) is None


@pytest.mark.row("F4")
def test_it_is_due_when_nobody_has_read_everything_for_a_day(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report of a clock that was ahead counts as none."""
    clock, root = SimpleNamespace(now=1_000.0), DataRoot(site.home)
    monkeypatch.setattr(upkeep, "time", SimpleNamespace(monotonic=lambda: clock.now, time=time.time))
    chore = ScrubbingChore(WorkerSettings(home=site.home, base=site.base))

    def is_due(seconds: float = 601.0) -> bool:
        clock.now += seconds
        return chore.is_due(site.registry, None)

    assert not is_due(0), "a worker that has just started has other things to do"
    assert is_due() and not is_due(1)
    for age, due in ((60.0, False), (DAY - 60, False), (DAY + 60, True), (-600.0, True)):
        save_report(root, ScrubReport(0.0, time.time() - age, 0, 0))
        assert is_due() is due, age


@pytest.mark.row("F4")
def test_a_worker_starts_it_once_a_day(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTOGLOT_HOME", str(site.home))
    monkeypatch.setattr(upkeep, "_SCRUB_LOOK_SECONDS", 0.0)
    chore = ScrubbingChore(WorkerSettings(home=site.home, base=site.base), first=0.0)
    chore.tick(site.registry)
    assert chore.is_running
    site.wait_until(lambda: not chore.is_running)
    chore.tick(site.registry)
    assert not chore.is_running and load_report(DataRoot(site.home)) is not None
