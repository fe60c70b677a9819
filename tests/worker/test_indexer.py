"""The indexer as a worker runs it: one at a time for all, in a child that is started, ended and may be killed."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from milvus_lite.server_manager import server_manager_instance

from index.engine.milvus import Milvus
from index.gallery import NewPicture
from index.set_states import NOTHING_SEALED, PRUNED, SealedState, count_unsealed
from index.sets import VectorSets
from index.vectors import Identity
from model.processes import name_owner
from store import leases
from store.errors import LeaseLost, RegistryUnavailable
from store.leases import SEALING
from store.registry import Registry
from store.tables import DutyRow
from tests.index.world import wait_until
from tests.launcher import PARENT
from tests.patience import PATIENCE, insist
from tests.worker.harness import PICTURES, Site, pairs
from worker import supervisor, upkeep
from worker.settings import WorkerSettings
from worker.upkeep import IndexingChore

SEAL_AT = "50"
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
    site.wait_until(lambda: insist(lambda: site.registry.duties.take(SEALING, "another", 0.1)))


def test_after_it_has_sealed_a_worker_prunes_the_feed(site: Site, sets: VectorSets) -> None:
    site.gallery.delete("p7")
    assert site.process(*CHILD).wait(PATIENCE) == 0
    changes = site.gallery.list_changes(0)
    assert changes[PRUNED] == PICTURES + 1 and len(changes) == PICTURES and "p7" not in changes


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
    assert site.registry.duties.take(SEALING, "another", 600)
    assert site.process(*CHILD).wait(PATIENCE) == 0
    assert sets.read_state(pictures(site)).segments == ()
    site.registry.duties.give_back(SEALING, "another")
    assert site.process(*CHILD).wait(PATIENCE) == 0
    assert count_unsealed(site.registry) == 0


def test_a_duty_is_of_one_process_until_it_runs_out(site: Site) -> None:
    duties = site.registry.duties
    assert duties.take(SEALING, "a", 600) and duties.take(SEALING, "a", 600) and not duties.take(SEALING, "b", 600)
    with pytest.raises(LeaseLost):
        duties.keep(SEALING, "b", 600)
    duties.give_back(SEALING, "b")  # it is not b's
    assert not duties.take(SEALING, "b", 600)
    duties.keep(SEALING, "a", 0)
    site.wait_until(lambda: duties.take(SEALING, "b", 600))
    with pytest.raises(LeaseLost):
        duties.keep(SEALING, "a", 600)


ROOT = Path(__file__).parents[2]
SLEEPS = """
import sys, time
from index.indexer import Indexer
from worker import upkeep
Indexer.run = lambda *_: time.sleep(600)
sys.exit(upkeep.seal(*sys.argv[1:]))
"""
REFUSED = """
import sys
from index import sets
from store.errors import RegistryUnavailable
from worker import upkeep
def refuse(*_): raise RegistryUnavailable
sets.open_engine = refuse
sys.exit(upkeep.seal(*sys.argv[1:]))
"""
STOPPED_LATE = f"""
import atexit, os, signal
atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))
{REFUSED}"""
DEAF = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").close()
time.sleep(600)
"""
ENDS = "import sys; sys.exit({status})"


@pytest.fixture
def registry(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("PICTOGLOT_HOME", str(tmp_path))
    monkeypatch.setenv("PICTOGLOT_LEASE_SECONDS", "600")
    return registry


@pytest.fixture
def indexing(tmp_path: Path) -> Iterator[IndexingChore]:
    indexing = IndexingChore(WorkerSettings(home=tmp_path))
    yield indexing
    indexing.stop()


def child(script: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", script, *(arguments or [str(os.getpid()), "50"])]
    return subprocess.Popen(command, cwd=ROOT)


def starting_with(monkeypatch: pytest.MonkeyPatch, start: Callable[[], subprocess.Popen[bytes]]) -> None:
    """Have the worker start this instead of its child."""
    popen = SimpleNamespace(Popen=lambda *_, **__: start(), TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(supervisor, "subprocess", popen)


def free(registry: Registry) -> bool:
    """Whether nobody has the duty; looks without taking it, which a child would notice."""
    with registry.read() as session:
        return session.get(DutyRow, SEALING) is None


def until_busy(registry: Registry) -> None:
    wait_until(lambda: not free(registry))


def test_a_child_that_is_told_to_end_gives_the_duty_back(registry: Registry) -> None:
    process = child(SLEEPS)
    until_busy(registry)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM and free(registry)


@pytest.mark.parametrize(
    ("script", "arguments", "status"),
    [(REFUSED, (), 1), (STOPPED_LATE, (), -signal.SIGTERM), (SLEEPS, ("1", "50"), -signal.SIGKILL)],
    ids=["its engine cannot be opened", "stopped while it ends", "its parent is gone"],
)
def test_a_child_that_ends_by_itself_gives_the_duty_back(
    registry: Registry, script: str, arguments: tuple[str, ...], status: int
) -> None:
    assert child(script, *arguments).wait(PATIENCE) == status and free(registry)


@pytest.mark.parametrize("kind", [IndexingChore, upkeep.FittingChore])
def test_a_child_that_does_not_end_is_killed_and_its_duty_given_back(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: type[IndexingChore | upkeep.FittingChore]
) -> None:
    monkeypatch.setattr(supervisor, "_CHORE_SECONDS", 0.2)
    monkeypatch.setattr(WorkerSettings, "match_seconds", 0.0)
    monkeypatch.setattr(upkeep, "count_unsealed", lambda _: 9_999)
    monkeypatch.setattr(upkeep, "list_languages_to_fit", lambda _: [("en", 0)])
    starting_with(monkeypatch, lambda: child(DEAF, str(tmp_path / "deaf")))
    chore = kind(WorkerSettings(home=tmp_path))
    chore.tick(registry)
    process = chore.child
    assert process is not None
    wait_until((tmp_path / "deaf").exists)
    assert registry.duties.take(chore.duty, name_owner(process.pid), 600)
    chore.stop()
    assert process.poll() == -signal.SIGKILL and registry.duties.take(chore.duty, "another", 600)


@pytest.mark.parametrize("status", [1, 0], ids=["failed", "could not seal everything"])
def test_after_a_child_that_did_not_seal_everything_the_next_one_comes_later(
    registry: Registry, indexing: IndexingChore, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    clock, started = SimpleNamespace(now=1_000.0), list[subprocess.Popen[bytes]]()
    monkeypatch.setattr(upkeep, "count_unsealed", lambda _: 9_999)
    monkeypatch.setattr(upkeep, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def start() -> subprocess.Popen[bytes]:
        started.append(process := child(ENDS.format(status=status)))
        assert registry.duties.take(SEALING, name_owner(process.pid), 600)
        process.wait(PATIENCE)
        return process

    starting_with(monkeypatch, start)
    indexing.tick(registry)
    indexing.tick(registry)
    assert len(started) == 1 and free(registry), "the duty of a child that has ended is free"
    clock.now += 59
    indexing.tick(registry)
    assert len(started) == 1
    clock.now += 3_600
    indexing.tick(registry)
    assert len(started) == 2


@pytest.mark.row("F7")
def test_while_writes_are_refused_no_child_is_started(
    registry: Registry, indexing: IndexingChore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It could only wait, or lock the registry as the one before may have done."""
    monkeypatch.setattr(upkeep, "count_unsealed", lambda _: 9_999)
    starting_with(monkeypatch, lambda: child(SLEEPS))
    with closing(sqlite3.connect(tmp_path / "registry.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryUnavailable):
            registry.probe()
        indexing.tick(registry)
        assert not indexing.is_running
    insist(registry.probe)
    indexing.tick(registry)
    assert indexing.is_running


def test_a_duty_is_renewed_as_long_as_the_work_takes(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def expires() -> datetime:
        with registry.read() as session:
            row = session.get(DutyRow, SEALING)
            assert row is not None and row.owner == "a"
            return row.expires

    def until_renewed() -> None:
        before = expires()
        wait_until(lambda: expires() > before)

    monkeypatch.setattr(leases, "_RENEWALS", 100)
    with registry.duties.hold(SEALING, "a", 30) as ours:
        assert ours
        until_renewed()
        with registry.duties.hold(SEALING, "b", 30) as theirs:
            assert not theirs
        until_renewed()
    assert free(registry)


BUSY = """
import sys
if "worker.upkeep" in sys.orig_argv:
    import time
    from index.indexer import Indexer
    Indexer.run = lambda *_: time.sleep(600)
"""


@pytest.mark.slow
def test_a_worker_that_is_stopped_while_its_indexer_works_leaves_the_duty(site: Site, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BUSY)
    sets = VectorSets(site.gallery)
    sets.ensure_registered(Identity("pictures", site.image_fingerprint, 32))
    worker = site.process("tests.eager_worker", SEAL_AT="50", PYTHONPATH=f"{tmp_path}:{ROOT}")
    until_busy(site.registry)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0 and free(site.registry), site.log()[-2_000:]


# --- A worker whose vector sets go to an engine: an expansion, and what changed in the gallery ---


@pytest.mark.slow
def test_a_language_that_is_learned_is_in_the_engine(new_site: Callable[..., Site], tmp_path: Path) -> None:
    file = str(tmp_path / "milvus.db")
    address = str(server_manager_instance.start_and_get_uri(file))
    site = new_site(INDEX=f"milvus+{address}")
    pictures = Identity("pictures", site.image_fingerprint, site.dimension)
    milvus = Milvus(address)
    sets = VectorSets(site.gallery, milvus)
    sets.ensure_registered(pictures)  # as a service does when it opens the set
    site.process("tests.eager_worker", SEAL_AT="1")
    ended = site.finish(site.submit(pairs("cy", picture=True)))
    assert ended.state == "succeeded" and ended.version is not None
    captions = Identity("captions", site.text_fingerprint, site.dimension, "cy", ended.version)
    (part,) = sets.make_engine_parts(captions, sets.read_state(captions))
    assert sum(len(rows.ids) for rows in milvus.read_pages(part.sealed_view)) == 100
    site.wait(ended.id, lambda _: sets.read_state(pictures).upto_change == site.gallery.read_last_change())
    assert sets.make_engine_parts(pictures, sets.read_state(pictures))[0].count == PICTURES
    assert not (site.home / "segments").exists() or not list((site.home / "segments").glob("*"))
    milvus.close()
    server_manager_instance.release_server(file)
