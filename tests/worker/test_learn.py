"""What an expansion does from its first phase to its last, in this process: reports, gate, shared table, rebuild."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from index.sets import VectorSets
from index.vectors import Identity
from store.errors import LeaseLost, PictoglotError, RegistryUnavailable, StorageFull, VersionCorrupt
from store.leases import Lease
from tests.bitrot import flip
from tests.worker.harness import Site, attempt_at, pairs, report_of, teach
from worker.attempt import Attempt, Stopped, open_context
from worker.child import run, run_to_status
from worker.evaluate import measure
from worker.gate import GateFailed
from worker.prepare import prepare
from worker.validation import decide_validation, encode_candidates

NewSite = Callable[..., Site]


@pytest.fixture(scope="module")
def taught(tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that has learned Welsh from pictures, for tests that only look."""
    site = Site(tmp_path_factory.mktemp("taught"), tiny_base)
    teach(site, picture=True)
    yield site
    site.close()


def rows_of(site: Site, version: int) -> str | None:
    return site.registry.versions.get(version).manifest_sha256


def test_a_taught_language_is_served_and_shared_and_its_captions_are_searchable(taught: Site) -> None:
    (done,) = taught.registry.expansions.list()
    assert (done.state, done.version, done.release, done.progress) == ("succeeded", 1, 2, 1.0)
    serving = taught.registry.releases.get_serving()
    assert (serving.shared, serving.languages) == (1, {"en": 0, "cy": 1})
    identity = Identity("captions", taught.text_fingerprint, 32, "cy", 1)
    state = VectorSets(taught.gallery).read_state(identity)
    assert [written.rows for written in state.segments] == [100]
    assert taught.gallery.group_captions(["p0"])["p0"] == {"cy": ["afal der"]}


def test_the_report_has_recall_dataset_fertility_english_the_shared_table_and_who_is_taken_for_whom(
    taught: Site,
) -> None:
    report = report_of(taught, taught.registry.expansions.list()[0].id)
    assert set(report["t2i"]) == set(report["i2t"]) == {"R@1", "R@5", "R@10"}
    assert (report["against"], report["truncated"]) == ("pictures", 0.0)
    assert report["pairs"] == report["dataset"]["val"]
    assert 1.0 <= report["fertility"]["per_word"] < 3.0
    english, shared = report["english"], report["shared"]
    assert shared["moved"] is True and set(shared["languages"]) == {"en"}
    assert (english["against"], english["pairs"]) == ("pictures", report["pairs"])
    assert english["t2i"] == shared["languages"]["en"]["learned"] == shared["languages"]["en"]["before"]
    assert {tag: sum(row.values()) for tag, row in report["detected"].items()} == {"cy": 10, "en": 10}
    assert report["detected"]["cy"].get("cy", 0) >= 8
    assert report["detected"]["en"].get("cy", 0) <= 2


def test_a_second_language_is_measured_on_the_first_and_leaves_its_version(site: Site) -> None:
    first = teach(site)
    before = rows_of(site, 1)
    second = teach(site, "br")
    assert first.report is not None and second.report is not None
    assert first.report["against"] == "english" and first.report["t2i"]["R@10"] > 0.5
    assert first.report["candidates"] == 100 > first.report["pairs"], "it could be confused with what was taught"
    languages, so_far = second.report["shared"]["languages"], second.report["shared"]["so_far"]
    assert first.report["shared"]["so_far"]["languages"] == ["en", "cy"]
    assert so_far["languages"] == ["en", "cy", "br"]
    now = [languages["en"]["after"]["R@1"], languages["cy"]["after"]["R@1"], second.report["shared"]["own"]["R@1"]]
    assert so_far["AA"] == pytest.approx(sum(now) / 3)
    assert languages["cy"]["learned"] == first.report["t2i"]
    assert languages["cy"]["before"] == first.report["shared"]["own"], "by the same table, on the same captions"
    assert set(second.report["detected"]) == {"en", "cy", "br"} and set(languages) == {"en", "cy"}
    assert second.report["shared"]["parent"] == first.version
    assert site.registry.releases.get_serving().languages == {"en": 0, "cy": 1, "br": 2}
    assert rows_of(site, 1) == before


def test_a_damaged_version_of_another_language_is_left_out_of_the_guessing(site: Site) -> None:
    first = teach(site)
    expansion = site.submit(pairs("br"), "br")
    attempt = attempt_at(site, expansion)
    attempt.folder.mkdir(exist_ok=True)
    (attempt.folder / "plan.json").write_text(json.dumps({"parent": 0, "before": [], "replaced": 0}))
    folder = site.home / str(site.registry.versions.get(first.version or 0).folder)
    (folder / "ngrams.json.gz").write_bytes(b"")
    run(attempt)
    report = report_of(site, expansion)
    assert "cy" not in report["detected"]["cy"]


@pytest.mark.row("E14")
def test_below_the_floor_nothing_is_served_and_the_version_is_kept(site: Site) -> None:
    attempt = attempt_at(site, site.submit(pairs("cy", picture=True)), min_recall=1.0)
    with pytest.raises(GateFailed, match=r"R@10 is 0\.\d+, at least 1\.000 is needed among 120 candidates") as caught:
        run(attempt)
    attempt.fail(caught.value)
    failed = site.registry.expansions.get(attempt.expansion.id)
    assert failed.error is not None
    assert failed.error.code == "gate_failed"
    assert failed.report is not None
    assert failed.report["pairs"] == 10
    assert site.registry.releases.get_serving().number == 1
    assert [version.number for version in site.registry.versions.list()] == [1, 0]


@pytest.mark.row("E14")
def test_beyond_the_forgetting_budget_the_language_is_served_and_shared_stays(site: Site) -> None:
    teach(site)
    expansion = site.submit(pairs("br"), "br", learning_rate=0.3)  # tramples on what the two languages share
    run(attempt_at(site, expansion, forgetting_budget=0.0))
    done = site.registry.expansions.get(expansion)
    assert done.report is not None
    assert done.report["shared"]["max_loss"] > 0
    assert done.report["shared"]["moved"] is False
    serving = site.registry.releases.get_serving()
    assert (serving.shared, serving.languages) == (1, {"en": 0, "cy": 1, "br": 2})


def test_a_rollback_of_the_parent_meanwhile_keeps_shared_where_it_was_put(site: Site) -> None:
    teach(site)
    expansion = site.submit(pairs("br"), "br")
    attempt = attempt_at(site, expansion)
    attempt.folder.mkdir(exist_ok=True)
    (attempt.folder / "plan.json").write_text(json.dumps({"parent": 1, "before": [], "replaced": 0}))
    site.registry.releases.roll_back("cy", actor="test", reason="")
    run(attempt)
    serving = site.registry.releases.get_serving()
    assert (serving.shared, serving.languages) == (0, {"en": 0, "br": 2})


@pytest.mark.parametrize("error", [RegistryUnavailable(), StorageFull()])
def test_a_registry_away_while_progress_is_written_stops_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: PictoglotError
) -> None:
    """It is away whenever a step is written, and here every step is."""
    missed: list[int] = []
    honest = site.registry.expansions.record_progress

    def progress(lease: Lease, **now: Any) -> None:
        if now["phase"] == "train" and now["step"] and not now["made_progress"]:
            missed.append(now["step"])
            raise error
        honest(lease, **now)

    monkeypatch.setattr(site.registry.expansions, "record_progress", progress)
    monkeypatch.setattr("worker.attempt.PROGRESS_SECONDS", 0.0)
    attempt = attempt_at(site, site.submit(pairs("cy")))
    run(attempt)
    assert len(missed) > 10
    assert site.registry.expansions.get(attempt.expansion.id).state == "succeeded"


def test_a_stop_is_heard_while_texts_are_scored(site: Site) -> None:
    stop = Event()
    attempt = attempt_at(site, site.submit(pairs("cy", picture=True)), stop=stop)
    context = open_context(attempt)
    data = prepare(context, attempt.expansion)
    validation = decide_validation(context, data)
    among = encode_candidates(context, data, validation)
    stop.set()
    with pytest.raises(Stopped):
        measure(context, context.view, validation, among)


class RollsBack(Attempt):
    """In the midst of the evaluation, Welsh is rolled back; the service may do so at any time."""

    evaluating = rolled_back = False

    @contextmanager
    def enter_phase(self, name: str) -> Iterator[None]:
        with super().enter_phase(name):
            self.evaluating = name == "evaluate"
            yield

    def check_stop(self) -> None:
        super().check_stop()
        if self.evaluating and not self.rolled_back:
            self.rolled_back = True
            self.registry.releases.roll_back("cy", actor="test", reason="")


def test_a_language_rolled_back_while_another_is_evaluated_is_measured_all_the_same(site: Site) -> None:
    """One evaluation is of one release: the one that it began with."""
    teach(site)
    expansion = site.submit(pairs("br"), "br")
    attempt = attempt_at(site, expansion, kind=RollsBack)
    run(attempt)
    report = report_of(site, expansion)
    assert isinstance(attempt, RollsBack) and attempt.rolled_back
    assert {*report["shared"]["languages"]} == {*report["detected"]} - {"br"} == {"en", "cy"}
    assert report["shared"]["unmeasured"] == []
    assert report["detected"]["cy"].get("cy", 0) > 0  # the language rolled back is still among the detector's choices
    assert site.registry.releases.get_serving().languages == {"en": 0, "br": 2}


class StopsWithVersion(Attempt):
    """Asked to stop as soon as its version is on disk."""

    def record_durable_progress(self) -> None:
        super().record_durable_progress()
        if (self.settings.home / "versions" / self.expansion.id).exists():
            self.stop.set()


def test_a_version_damaged_between_attempts_is_not_served(site: Site) -> None:
    expansion = site.submit(pairs("cy", picture=True))
    with pytest.raises(Stopped):
        run(attempt_at(site, expansion, kind=StopsWithVersion))
    site.abandon(expansion)
    rows = site.home / "versions" / expansion / "rows.safetensors"
    flip(rows, 8 * rows.stat().st_size - 1)
    with pytest.raises(VersionCorrupt, match=r"rows\.safetensors"):
        run(attempt_at(site, expansion))
    assert site.registry.releases.get_serving().number == 1


@pytest.mark.parametrize(("times", "error"), [(2, errno.EMFILE), (3, errno.EIO)])
def test_a_version_that_could_not_be_read_is_read_again_before_it_counts_as_damaged(
    site: Site, times: int, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach(site)
    attempt, left, read = attempt_at(site, site.submit(pairs("br"), "br")), [0] * times, Path.read_text

    def fail(path: Path, *given: Any, **more: Any) -> str:
        if path.name == "tokenizer.json" and left:
            left.pop()
            raise OSError(error, os.strerror(error))
        return read(path, *given, **more)

    monkeypatch.setattr("worker.child._PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(Path, "read_text", fail)
    assert run_to_status(attempt) == 0 and left == []
    ended = site.registry.expansions.get(attempt.expansion.id)
    assert (ended.error and ended.error.code) == (None if times < 3 else "version_corrupt")
    assert site.registry.releases.get_serving().number == (3 if times < 3 else 2)


@pytest.mark.row("S5")
def test_what_is_missing_for_now_ends_no_expansion(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = [StorageFull(), OSError(errno.ENOSPC, ""), OSError(errno.EDQUOT, ""), RegistryUnavailable()]
    attempt, phases = attempt_at(site, site.submit(pairs("cy"))), list[str | None]()

    def fail(_: Attempt) -> None:
        phases.append(site.registry.expansions.get(attempt.expansion.id).phase)
        if missing:
            raise missing.pop(0)

    monkeypatch.setattr("worker.child._PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("worker.child.run", fail)
    assert run_to_status(attempt) == 0
    assert phases == [None, *["paused_storage_full"] * 3, "paused_registry_unavailable"]


@pytest.mark.row("S5")
@pytest.mark.parametrize(
    ("refusals", "state"), [([StorageFull(), RegistryUnavailable()], "failed"), ([LeaseLost()], "running")]
)
def test_that_it_failed_is_recorded_as_soon_as_it_can_be(
    site: Site, monkeypatch: pytest.MonkeyPatch, refusals: list[PictoglotError], state: str
) -> None:
    attempt, left = attempt_at(site, site.submit([])), [*refusals]
    record = attempt.fail

    def fail(error: PictoglotError) -> None:
        if left:
            raise left.pop()
        record(error)

    monkeypatch.setattr("worker.child._PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(attempt, "fail", fail)
    assert run_to_status(attempt) == 0 and left == []
    assert site.registry.expansions.get(attempt.expansion.id).state == state
