"""Real children that are stopped, in their work or in a transaction: they are ended, and teaching goes on."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from service import metrics, watch
from store.errors import RegistryUnavailable
from store.leases import SEALING
from store.registry import Registry
from store.tables import ExpansionRow
from tests.house.source import ROOT
from tests.patience import PATIENCE, insist
from tests.service.harness import Service, running, wait_until
from tests.worker.harness import Site, assert_once, pairs
from worker import upkeep
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor
from worker.upkeep import IndexingChore

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1_200)]
SLEEPS = "import time; time.sleep(600)"
HOLDS = """
import os, signal, sys
from store.registry import open_registry
registry = open_registry(sys.argv[1], migrate=False)
with registry.begin():
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.slow
@pytest.mark.row("F6")
def test_an_expansion_whose_child_is_stopped_goes_on(
    site: Site, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in site.environment().items():
        monkeypatch.setenv(name, value)
    expansion = site.submit(pairs("cy", picture=True))
    supervisor = Supervisor(WorkerSettings(), still_seconds=5.0)
    with ThreadPoolExecutor(1) as worker:
        running = worker.submit(supervisor.run, expansion)
        site.training(expansion)
        stopped = site.child(psutil.Process())
        stopped.suspend()
        running.result(PATIENCE)
    assert not stopped.is_running()
    assert counted(site.registry, expansion) == ("queued", 1, "the process stood still for 5 s")
    supervisor.registry.close()
    assert site.attempt(expansion).wait(PATIENCE) == 0
    assert_once(site, site.registry.expansions.get(expansion))
    assert site.weights(expansion) == undisturbed


@pytest.mark.row("F7")
def test_a_child_that_is_stopped_in_a_transaction_is_ended_after_a_lease(site: Site) -> None:
    expansion = site.submit(pairs("cy"))
    settings = WorkerSettings(home=site.home, base=site.base, lease_seconds=3)
    supervisor = Supervisor(settings, (sys.executable, "-c", HOLDS, settings.database))
    with ThreadPoolExecutor(1) as worker:
        worker.submit(supervisor.run, expansion).result(PATIENCE)
    state, stalled, cause = counted(site.registry, expansion)
    assert (state, stalled) == ("queued", 0) and cause.startswith("the registry refused every write")
    insist(lambda: site.registry.expansions.cancel(expansion))
    supervisor.registry.close()


@pytest.mark.row("F6", "F7")
@pytest.mark.parametrize("script", [SLEEPS, HOLDS], ids=["still", "in a transaction"])
def test_a_chore_that_stands_still_is_ended_and_begun_again(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(upkeep, "count_unsealed", lambda _: 9_999)
    monkeypatch.setattr(upkeep, "_RETRY_SECONDS", 0.0)
    settings = WorkerSettings(home=tmp_path, lease_seconds=3)
    indexing = IndexingChore(settings, still_seconds=1.0 if script == SLEEPS else 600.0)
    monkeypatch.setattr(indexing, "command", [sys.executable, "-c", script, settings.database])
    pids = set[int]()
    until = time.monotonic() + PATIENCE
    while len(pids) < 2:
        assert time.monotonic() < until
        refused = refuses(registry)
        indexing.tick(registry)
        if indexing.child is not None:
            pids.add(indexing.child.pid)
            assert not (refused and len(pids) == 2), "while writes are refused, none is started"
        time.sleep(0.05)
    monkeypatch.setattr(indexing, "is_due", lambda *_: False)
    indexing.stop()
    registry.probe()
    assert registry.duties.take(SEALING, "other", 60)


@pytest.mark.row("F7")
def test_writes_that_nobody_can_make_are_told_by_readyz_and_searches_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(metrics, "_REFUSED_SECONDS", 1.0)

    def degraded(service: Service) -> list[str]:
        answer = service.http.get("/readyz")
        assert answer.status_code == 200
        found: list[str] = answer.json()["degraded"]
        return found

    with running(tmp_path) as service:
        service.put("a")
        assert degraded(service) == []
        database = service.context.settings.database
        with subprocess.Popen([sys.executable, "-c", HOLDS, database], cwd=ROOT) as stopped:
            try:
                wait_until(lambda: degraded(service) == ["writes_refused"])
                assert 'pictoglot_degraded{code="writes_refused"} 1.0' in service.admin.get("/metrics").text
                assert service.search("cat").status_code == 200
                assert service.admin.delete("/v1/pictures/a").json()["code"] == "registry_unavailable"
            finally:
                stopped.kill()
        wait_until(lambda: degraded(service) == [])
        assert service.admin.delete("/v1/pictures/a").status_code == 204


def refuses(registry: Registry) -> bool:
    try:
        registry.probe()
    except RegistryUnavailable:
        return True
    return False


def counted(registry: Registry, expansion: str) -> tuple[str, int, str]:
    """Its state, its attempts without progress, and why the last one ended."""
    with registry.read() as session:
        row = session.scalars(select(ExpansionRow).where(ExpansionRow.id == expansion)).one()
        return row.state, row.stalled, row.cause or ""
