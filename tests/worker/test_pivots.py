"""Pairs with a served language other than English: its version is the teacher, and nothing is mixed with English's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.dataset.rows import Pivot
from store.errors import PivotNotServed
from tests.tiny import write_tiny_base
from tests.worker.harness import Site, attempt_at, carry_out, pairs, report_of, teach, with_welsh
from worker.attempt import open_context
from worker.child import run
from worker.evaluate import measure
from worker.prepare import prepare
from worker.validation import decide_validation, encode_candidates, load_validation


def test_a_language_is_taught_from_pairs_with_a_taught_one(site: Site) -> None:
    teach(site)
    report = report_of(site, carry_out(site, with_welsh(), "br", force=False, epochs=20).id)
    assert (report["against"], report["dataset"]["pivots"], report["candidates"]) == ("pivots", {"cy": 100}, 100)
    assert report["t2i"]["R@10"] > 0.5
    assert site.registry.releases.get_serving().languages == {"en": 0, "cy": 1, "br": 2}


def test_the_teacher_is_the_version_of_the_pivots_language(site: Site) -> None:
    teach(site)
    site.submit(pairs("br"), "br")
    attempt = attempt_at(site, site.submit(with_welsh("cy"), "kw"))
    context = open_context(attempt)
    data = prepare(context, attempt.expansion)
    assert data.pivot_versions == {"cy": 1}
    said = [pivot.text for pivot in data.pivot_places]
    own = context.encoder.encode_texts([(context.views.open(1), text) for text in said]).vectors
    unit = torch.nn.functional.normalize(data.features, dim=-1)
    assert torch.allclose(unit, torch.from_numpy(own), atol=1e-5)
    base = context.encoder.encode_texts([(context.encoder.base_view, text) for text in said]).vectors
    assert not torch.allclose(unit, torch.from_numpy(base), atol=1e-2)


def test_the_version_is_that_of_the_first_attempt(site: Site) -> None:
    teach(site)
    first = attempt_at(site, site.submit(with_welsh(), "br"))
    expected = prepare(open_context(first), first.expansion).features
    site.registry.expansions.give_back_lease(first.lease)
    teach(site)
    second = attempt_at(site, first.expansion.id)
    data = prepare(open_context(second), second.expansion)
    assert data.pivot_versions == {"cy": 1} and torch.equal(data.features, expected)


def test_a_pivot_that_is_served_no_more_ends_the_expansion_with_its_name(site: Site) -> None:
    expansion = site.submit(with_welsh(), "br")
    with pytest.raises(PivotNotServed, match="in cy, which is not served"):
        run(attempt_at(site, expansion))
    assert site.registry.releases.get_serving().number == 1


def test_what_was_measured_with_a_pivot_can_be_measured_again_when_that_is_gone(site: Site) -> None:
    """Breton's held-out pairs are with Welsh, of which a later version is all that is left."""
    teach(site)
    expansion = carry_out(site, with_welsh(), "br").id
    again = attempt_at(site, site.submit(pairs("cy")))
    again.decide_once("plan.json", lambda: {"parent": 0, "before": [], "replaced": 0})
    run(again)
    assert site.registry.releases.get_serving().languages["cy"] == 3
    (site.home / str(site.registry.versions.get(1).folder) / "rows.safetensors").write_bytes(b"")
    attempt = attempt_at(site, site.submit(pairs("cy"), "kw"))
    attempt.decide_once("plan.json", lambda: {"parent": 0, "before": [], "replaced": 0})
    context = open_context(attempt)
    validation = load_validation(attempt.root, expansion)
    assert validation is not None and validation.pivots == {"cy": 1}
    among = encode_candidates(context, prepare(context, attempt.expansion), validation)
    assert {*among.places} == {*validation.targets, *validation.others}


def test_a_rebuild_leaves_out_a_language_whose_pivot_is_withdrawn(site: Site) -> None:
    teach(site)
    carry_out(site, with_welsh(), "br")
    plan = site.registry.releases.roll_back("cy", actor="test", reason="", rebuild=True)
    assert plan.rebuild is not None
    run(attempt_at(site, plan.rebuild))
    report = report_of(site, plan.rebuild)
    assert report["languages"]["br"]["left_out"] == "pivot_not_served"
    assert site.registry.releases.get_serving().languages == {"en": 0, "br": 2}, "its version goes on serving it"


@pytest.fixture
def multilingual(tmp_path: Path) -> Iterator[Site]:
    """On a base that says it reads Welsh."""
    (folder := tmp_path / "base").mkdir()
    site = Site(tmp_path / "home", write_tiny_base(folder, languages=["cy"]))
    yield site
    site.close()


def test_the_base_is_the_teacher_of_a_pivot_that_it_reads_itself(multilingual: Site) -> None:
    site = multilingual
    attempt = attempt_at(site, site.submit(with_welsh(), "br"))
    context = open_context(attempt)
    data = prepare(context, attempt.expansion)
    assert data.pivot_versions == {"cy": 0}
    validation = decide_validation(context, data)
    assert validation.against == "pivots" and validation.targets[0].startswith("cy\t")
    among = encode_candidates(context, data, validation)
    assert measure(context, context.encoder.base_view, validation, among) is not None
    assert Pivot("cy", validation.targets[0].partition("\t")[2]) in data.pivot_places
