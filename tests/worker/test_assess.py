"""Assessing a language: what a base reads already is measured, nothing is trained, nothing is served otherwise."""

from typing import Any

import pytest

from store.errors import NothingHeldOut
from tests.patience import PATIENCE
from tests.worker.harness import Site, attempt_at, carry_out, pairs, teach
from worker.child import run
from worker.gate import describe_reading


def spoken(count: int = 100) -> list[dict[str, str]]:
    """Captions in a language that the base reads perfectly: they are English."""
    return [{**row, "caption": row["english"]} for row in pairs("cy", count=count)]


def assessed(site: Site, rows: list[dict[str, str]], language: str = "sco") -> dict[str, Any]:
    """The report of an assessment in this process, which changed nothing that is served."""
    before = site.registry.releases.get_serving()
    expansion = carry_out(site, rows, language, "assess").id
    done = site.registry.expansions.get(expansion)
    assert (done.state, done.version, done.release, done.progress, done.step) == ("succeeded", None, None, 1.0, 0)
    assert site.registry.releases.get_serving() == before
    assert done.report is not None
    return done.report


def test_a_language_that_the_base_reads_is_told_in_figures_and_a_sentence(site: Site) -> None:
    report = assessed(site, spoken())
    assert (report["t2i"]["R@1"], report["against"], report["reads"]) == (1.0, "english", True)
    assert report["pairs"] == report["dataset"]["val"]
    assert report["sentence"].startswith(
        f"This base already reads Scots at R@10 100 % (on {report['pairs']} held-out captions; chance gives 10 %)."
    )
    assert (report["shared"]["version"], report["taught"]) == (0, None)
    assert report["shared"]["t2i"] == report["t2i"]
    assert [version.number for version in site.registry.versions.list()] == [0]
    assert not (site.home / "teacher").exists(), "no text was encoded to learn from it"


def test_a_language_that_was_taught_is_measured_untaught_shared_and_by_its_version(site: Site) -> None:
    teach(site)
    report = assessed(site, pairs("cy"), "cy")
    assert report["reads"] is False and report["t2i"]["R@10"] < 0.5 < report["taught"]["t2i"]["R@10"]
    assert (report["shared"]["version"], report["taught"]["version"]) == (1, 1)
    assert report["sentence"].startswith("This base does not read Welsh: R@10 is ")
    assert "Version 1, which was taught, reads it at " in report["sentence"]
    newest = site.registry.expansions.find_assessments(report["base"])
    assert {tag: each.report for tag, each in newest.items()} == {"cy": report}


def test_an_assessment_ranks_pictures_as_a_training_would(site: Site) -> None:
    rows = pairs("cy", picture=True)
    taught = teach(site, picture=True)
    assert taught.report is not None
    report = assessed(site, rows, "cy")
    assert report["against"] == "pictures"
    assert report["t2i"] == taught.report["gain"]["before"]["t2i"]
    assert report["taught"]["t2i"] == taught.report["t2i"]


def test_rows_of_the_held_out_side_alone_are_enough(site: Site) -> None:
    report = assessed(site, [{**row, "split": "val"} for row in spoken(80)])
    assert report["pairs"] == 80


def test_without_a_held_out_row_nothing_is_measured(site: Site) -> None:
    expansion = site.submit([{**row, "split": "train"} for row in spoken()], "sco", "assess")
    with pytest.raises(NothingHeldOut, match="no row is held out"):
        run(attempt_at(site, expansion))


@pytest.mark.faults
def test_killed_while_it_measures_it_goes_on(site: Site) -> None:
    expansion = site.submit(spoken(), "sco", "assess")
    for point in ("phase.prepare:1", "phase.evaluate:1"):
        assert site.attempt(expansion, FAULT_POINT=point).wait(PATIENCE) == -9
        assert site.registry.expansions.get(expansion).state == "running"
        site.abandon(expansion)
    assert site.attempt(expansion).wait(PATIENCE) == 0
    done = site.registry.expansions.get(expansion)
    assert (done.state, done.attempt) == ("succeeded", 3), site.log()
    assert done.report is not None and done.report["t2i"]["R@1"] == 1.0
    assert [release.number for release in site.registry.releases.list()] == [1]


def figures(at_10: float, pairs: int = 100, candidates: int = 1_000) -> dict[str, Any]:
    t2i = {"R@1": at_10 / 2, "R@10": at_10}
    return {"t2i": t2i, "pairs": pairs, "candidates": candidates, "taught": None}


def test_a_recall_that_chance_explains_is_not_called_reading() -> None:
    # chance is 1 %, two standard errors of 100 captions are 2 %
    assert describe_reading("cy", figures(0.02))["reads"] is False
    assert describe_reading("cy", figures(0.71)) == {
        "reads": True,
        "sentence": "This base already reads Welsh at R@10 71 % (on 100 held-out captions; chance gives 1 %).",
    }
    said = describe_reading("cy", figures(0.2), min_recall=0.2)  # at least 20.8 % is needed
    assert said["reads"] is False and said["sentence"].startswith("This base reads Welsh a little: R@10 is 20 % (")
    assert describe_reading("cy", figures(0.21), min_recall=0.2)["reads"] is True
    few = describe_reading("cy", figures(1.0, candidates=20))["sentence"]  # among so few the first place is named
    assert few == "This base already reads Welsh at R@1 50 % (on 100 held-out captions; chance gives 5 %)."
