"""The worker process itself: small, strict about its settings, deaf to anything but JSON hints, tidy at its start."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kombu import serialization

from tests.worker.harness import PATIENCE, Site, assert_once, pairs
from worker.celery_app import create_app
from worker.lease import Supervisor
from worker.relay import sweep_left_over
from worker.settings import WorkerSettings
from worker.tasks import HINT

ROOT = Path(__file__).parents[2]


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE, env=environment
    )


def test_the_worker_process_loads_neither_torch_nor_the_web_framework() -> None:
    code = "import sys, worker.celery_app, worker.tasks; print({'torch', 'numpy', 'fastapi', 'faiss'} & {*sys.modules})"
    assert python("-c", code).stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PICTOGLOT_MIN_RECAL", "1", "PICTOGLOT_MIN_RECAL is not a setting"),
        ("PICTOGLOT_MIN_RECALL", "2", "PICTOGLOT_MIN_RECALL"),
        ("PICTOGLOT_LEASE_SECONDS", "6", "a lease must outlast two heartbeats"),
    ],
)
def test_a_wrong_setting_ends_it_with_78_and_one_sentence(name: str, value: str, said: str) -> None:
    ended = python("-m", "worker", **{name: value})
    assert ended.returncode == 78
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_importing_the_application_writes_nothing(tmp_path: Path) -> None:
    python("-c", "import worker.celery_app", PICTOGLOT_HOME=str(tmp_path / "home"))
    assert not (tmp_path / "home").exists()


def test_an_unknown_expansion_and_a_finished_one_are_no_work(site: Site) -> None:
    supervisor = Supervisor(WorkerSettings(home=site.home, base=site.base))
    expansion = site.submit(pairs("cy"))
    site.registry.expansions.cancel(expansion)
    for hint in ("exp_unknown", expansion):
        supervisor.run(hint)
    assert site.registry.expansions.get(expansion).attempt == 0


class Poison:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.marker,))


def test_a_pickled_message_is_refused_and_the_next_hint_heard(site: Site, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    serialization.enable_insecure_serializers(["pickle"])  # type: ignore[no-untyped-call]
    expansion = site.submit([])  # fails at once: enough to see that it was looked at
    app = create_app(WorkerSettings(home=site.home))
    app.send_task(HINT, [Poison(marker)], serializer="pickle")
    site.start()
    assert site.finish(expansion).state == "failed"
    assert not marker.exists()
    assert list((site.home / "broker").glob("*.msg")) == []


def test_a_start_sweeps_what_killed_workers_left(site: Site) -> None:
    finished = site.submit(pairs("cy"))
    site.registry.expansions.cancel(finished)
    (site.home / "expansions" / finished / "checkpoints" / "step-5").mkdir(parents=True)
    sweep_left_over(Supervisor(WorkerSettings(home=site.home, base=site.base)))
    assert site.checkpoints(finished) == []
    assert (site.home / "expansions" / finished / "dataset").exists()


def test_a_child_that_starts_while_the_database_is_away_waits_for_it(site: Site) -> None:
    expansion = site.submit(pairs("cy"))
    lease = site.registry.expansions.lease(expansion, f"test:{os.getpid()}", 600)
    assert lease is not None
    site.registry.close()
    (site.home / "registry.db").rename(site.home / "registry.away")
    (site.home / "registry.db").mkdir()
    child = site.process("worker.child", expansion, lease.owner, str(lease.fence))
    deadline = time.monotonic() + PATIENCE
    while "waiting for the registry" not in site.log():
        assert child.poll() is None and time.monotonic() < deadline, site.log()
        time.sleep(0.05)
    (site.home / "registry.db").rmdir()
    (site.home / "registry.away").rename(site.home / "registry.db")
    assert child.wait(PATIENCE) == 0, site.log()
    assert_once(site, site.registry.expansions.get(expansion))
