"""Deleted for good: after `PICTOGLOT_PURGE_DAYS` no file has anything of a deleted picture, whatever was killed."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from index.gallery import NewPicture
from index.set_states import NOTHING_SEALED
from index.sets import VectorSets
from index.vectors import Identity
from store.leases import PURGING
from tests.patience import PATIENCE
from tests.worker.harness import PICTURES, Site
from tests.worker.test_indexer import CHILD
from worker.settings import WorkerSettings
from worker.upkeep import IndexingChore

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
    assert lost == []
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
