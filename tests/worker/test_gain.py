"""The gate asks for gain: a version serves when it reads better than what read those texts before."""

import json
import logging
from typing import Any

import numpy as np
import pytest

from model.evaluation import gain
from tests.patience import PATIENCE
from tests.worker.harness import Site, attempt_at, pairs, teach
from tests.worker.test_assess import spoken
from worker.context import open_context
from worker.evaluate import measure
from worker.phases import run
from worker.prepare import prepare
from worker.promotion import GateFailed
from worker.validation import candidates, held_out

UNMOVED = 1e-12  # a learning rate


def test_a_language_that_nothing_read_gains_and_report_release_and_log_say_over_what(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "worker.phases")
    expansion = site.submit(pairs("cy"), force=False)
    run(attempt_at(site, expansion))
    done = site.registry.expansions.get(expansion)
    assert done.state == "succeeded" and done.report is not None
    gain = done.report["gain"]
    assert gain["version"] == 0 and gain["enough"] and not gain["forced"]
    assert gain["mean"] > gain["error"] > 0
    recalls = [sum(report["t2i"][k] for k in ("R@1", "R@10")) / 2 for report in (gain["before"], done.report)]
    assert gain["mean"] == pytest.approx(recalls[1] - recalls[0])
    assert gain["sentence"].startswith("Welsh is read better than by version 0: on the same ")
    serving = site.registry.releases.serving()
    assert "forced" not in serving.change
    assert serving.reason == f"{gain['sentence'].partition('(')[2].removesuffix(')')} over version 0"
    (line,) = (record for record in caplog.records if record.name == "worker.phases")
    assert line.getMessage() == f"promoted cy: version 1, release 2, {serving.reason}"
    assert line.__dict__["key"] == "test"


def test_the_error_of_a_gain_is_one_of_pictures_and_not_of_their_captions(site: Site) -> None:
    rows = [{**row, "picture": f"p{number // 4}"} for number, row in enumerate(pairs("cy"))]
    expansion = site.submit(rows, force=True)
    run(attempt_at(site, expansion))
    report = site.registry.expansions.get(expansion).report
    assert report is not None
    attempt = attempt_at(site, site.submit(rows, kind="assess"))  # it measures the same captions
    context = open_context(attempt)
    data = prepare(context, attempt.expansion)
    validation = held_out(context, data)
    among = candidates(context, data, validation)
    before, after = (measure(context, context.views.of(version), validation, among) for version in (0, 1))
    assert before is not None and after is not None
    owner = np.array([among.places[picture] for picture in validation.targets])
    expected = gain(before.ranks, after.ranks, owner, (1, 10))
    assert report["gain"]["error"] == pytest.approx(expected.error)
    assert report["gain"]["error"] != pytest.approx(
        gain(before.ranks, after.ranks, np.arange(len(owner)), (1, 10)).error
    )


def test_a_language_that_the_base_reads_as_well_is_refused_with_the_figures(site: Site) -> None:
    expansion = site.submit(spoken(), "sco", force=False)
    assert site.attempt(expansion).wait(PATIENCE) == 0
    failed = site.registry.expansions.get(expansion)
    assert failed.error is not None and failed.error.code == "gate_failed"
    detail = failed.error.detail
    assert detail is not None and detail.startswith("Scots is not read better than by version 0")
    assert "from 100.0 % to " in detail and "`--force`" in detail
    assert json.dumps(f"expansion {expansion} of sco failed: gate_failed: {detail}", ensure_ascii=False) in site.log()
    assert failed.report is not None and failed.report["gain"]["enough"] is False
    assert failed.report["refused_by"] == "gain"
    assert site.registry.releases.serving().number == 1


def test_what_is_forced_is_served_and_the_release_and_the_report_say_so(site: Site) -> None:
    expansion = site.submit(spoken(), "sco", force=True)
    run(attempt_at(site, expansion))
    serving = site.registry.releases.serving()
    assert serving.languages["sco"] == 1
    report = site.registry.expansions.get(expansion).report
    assert report is not None and report["gain"]["forced"] is True
    assert serving.change["forced"] == report["gain"]["sentence"]


def test_the_floor_holds_also_where_the_gain_is_forced(site: Site) -> None:
    with pytest.raises(GateFailed, match=r"at least 1\.000 is needed") as caught:
        run(attempt_at(site, site.submit(pairs("cy", picture=True)), min_recall=1.0))
    assert caught.value.extra["report"]["refused_by"] == "floor"  # type: ignore[index]


def test_a_language_taught_again_has_to_beat_its_own_version(site: Site) -> None:
    teach(site)
    again = attempt_at(site, site.submit(pairs("cy"), force=False, learning_rate=UNMOVED))
    with pytest.raises(GateFailed, match=r"Welsh is not read better than by version 1: .* \(\+0\.0 ± 0\.0 points\)"):
        run(again)
    assert site.registry.releases.serving().languages["cy"] == 1


def test_a_language_taught_again_must_not_read_worse_what_it_was_taught_before(site: Site) -> None:
    """The second dataset gives every Welsh noun the meaning of the next one, and reads well what itself holds out."""
    first = teach(site)
    rows = pairs("cy")
    wrong = [{**row, "english": other["english"]} for row, other in zip(rows, rows[10:] + rows[:10], strict=True)]
    again = attempt_at(site, site.submit(wrong, force=False), forgetting_budget=0.05)
    with pytest.raises(
        GateFailed, match=r"Of the \d+ captions that earlier datasets held out, version 1 finds"
    ) as caught:
        run(again)
    report = caught.value.extra["report"]
    assert isinstance(report, dict) and first.report is not None
    assert report["refused_by"] == "earlier" and report["gain"]["enough"]
    earlier = report["earlier"]
    assert earlier["note"] and str(caught.value.detail).endswith(f"serve it anyway. {earlier['note']}")
    assert earlier["before"] == first.report["t2i"] and earlier["pairs"] == first.report["pairs"]
    assert earlier["mean"] == pytest.approx(earlier["after"]["R@1"] - earlier["before"]["R@1"])
    assert earlier["mean"] < -0.05
    assert site.registry.releases.serving().languages["cy"] == 1


def test_a_damaged_version_can_be_replaced_by_teaching_again(site: Site) -> None:
    """Version 0 reads a language whose version cannot be opened, so that is what has to be beaten."""
    teach(site)
    expansion = site.submit(pairs("cy"), force=False)
    attempt = attempt_at(site, expansion)
    attempt.decided("plan.json", lambda: {"parent": 0, "before": [], "replaced": 0})
    (site.home / str(site.registry.versions.get(1).folder) / "rows.safetensors").write_bytes(b"")
    run(attempt)
    report = site.registry.expansions.get(expansion).report
    assert report is not None and report["gain"]["version"] == 0 and report["earlier"] is None
    assert site.registry.releases.serving().languages["cy"] == 2


def test_what_replaces_a_damaged_version_has_to_beat_the_base(site: Site) -> None:
    teach(site)
    unmoved: dict[str, Any] = {"learning_rate": UNMOVED, "start": "drawn"}  # an aligned start would gain by itself
    attempt = attempt_at(site, site.submit(pairs("cy"), force=False, replace=True, **unmoved))
    attempt.decided("plan.json", lambda: {"parent": 0, "before": [], "replaced": 1})
    (site.home / str(site.registry.versions.get(1).folder) / "rows.safetensors").write_bytes(b"")
    with pytest.raises(GateFailed, match="not read better than by version 0"):
        run(attempt)
