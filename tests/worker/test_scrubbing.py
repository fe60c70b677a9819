"""The scrub as a worker runs it: once a day for each data root, in a child that ends with its parent."""

import signal
import time
from types import SimpleNamespace

import pytest

from index.scrub_report import ScrubReport, list_unmended, load_report, name_duty, save_report
from store.data_root import DataRoot
from tests.bitrot import flip
from tests.launcher import PARENT
from tests.patience import PATIENCE, insist
from tests.worker.harness import Site, pairs
from worker import upkeep
from worker.settings import WorkerSettings
from worker.upkeep import ScrubbingChore

pytestmark = pytest.mark.row("F4")
CHILD = ("worker.upkeep", "scrub")
DAY = 86_400.0


def test_a_child_reads_everything_once_unless_another_process_does(site: Site) -> None:
    root, expansion = DataRoot(site.home), site.submit(pairs("cy"))
    flip(site.home / "expansions" / expansion / "dataset", 99)
    duty = name_duty(root)
    assert insist(lambda: site.registry.duties.take(duty, "another", 600))
    assert site.process(*CHILD, PARENT).wait(PATIENCE) == 0 and load_report(root) is None, site.log()[-4_000:]
    insist(lambda: site.registry.duties.give_back(duty, "another"))
    assert site.process(*CHILD, PARENT).wait(PATIENCE) == 0, site.log()[-4_000:]
    report = load_report(root)
    assert report is not None and report.unmended_count > 100, "it has no file of any picture"
    datasets = [each.name for each in list_unmended(root) if each.kind == "dataset"]
    assert datasets == [f"dataset of expansion {expansion} of cy"] and datasets[0] in site.log()
    assert insist(lambda: site.registry.duties.take(duty, "another", 600)), "the duty was given back"


def test_a_child_whose_parent_is_gone_reads_nothing(site: Site) -> None:
    assert site.process(*CHILD, "1").wait(PATIENCE) == -signal.SIGKILL and load_report(DataRoot(site.home)) is None


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


def test_a_worker_starts_it_once_a_day(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICTOGLOT_HOME", str(site.home))
    monkeypatch.setattr(upkeep, "_SCRUB_LOOK_SECONDS", 0.0)
    chore = ScrubbingChore(WorkerSettings(home=site.home, base=site.base), first=0.0)
    chore.tick(site.registry)
    assert chore.is_running
    site.wait_until(lambda: not chore.is_running)
    chore.tick(site.registry)
    assert not chore.is_running and load_report(DataRoot(site.home)) is not None
