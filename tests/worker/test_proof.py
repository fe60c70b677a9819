"""What serves is taught everything; what a version is measured by had not seen what is held out."""

from pathlib import Path
from typing import Any

import numpy as np

from model import checkpoint
from model.encoder import View
from store.data_root import DataRoot
from tests.worker.harness import Site, attempt_at, carry_out, pairs, report_of, teach
from tests.worker.test_assess import assessed
from worker.attempt import open_context
from worker.evaluate import measure
from worker.match import MatchFitter
from worker.prepare import prepare
from worker.validation import encode_candidates, load_validation

MANY: dict[str, Any] = {"epochs": 30, "learning_rate": 0.01}


def find_folder(site: Site, number: int = 1) -> Path:
    return site.home / str(site.registry.versions.get(number).folder)


def measure_distance(context: Any, view: View, validation: Any) -> float:
    """Measure what the cosines of held-out captions and what they mean lack to 1, in the mean."""
    among = encode_candidates(context, None, validation)
    read = context.encoder.encode_texts([(view, text) for text in validation.captions]).vectors
    goal = among.vectors[[among.places[name] for name in validation.targets]]
    return 1 - float((read * goal).sum(axis=1).mean())


def test_what_serves_is_taught_what_is_held_out_and_the_report_is_of_its_proof(site: Site) -> None:
    done = carry_out(site, pairs("cy"), **MANY)
    report, validation = report_of(site, done.id), load_validation(DataRoot(site.home), done.id)
    assert validation is not None and report["dataset"]["taught"] == 100 == report["dataset"]["usable"]
    attempt = attempt_at(site, site.submit(pairs("br"), "br"))
    context = open_context(attempt)
    among = encode_candidates(context, None, validation)
    serving, proof = context.views.open(1), context.views.proofs.open(1)
    by_proof = measure(context, proof, validation, among)
    assert by_proof is not None and by_proof.figures["t2i"] == report["t2i"]
    assert measure_distance(context, serving, validation) < measure_distance(context, proof, validation) / 2
    assert serving.tokenizer.sha256 == proof.tokenizer.sha256
    content, before = (checkpoint.read_version(find_folder(site), proof=proof)[0] for proof in (False, True))
    assert {*before.rows.ids} <= {*content.rows.ids} and sum(before.ngrams.values()) < sum(content.ngrams.values())


def test_rows_that_a_file_itself_holds_out_are_never_taught(site: Site) -> None:
    """The proof is what serves then."""
    rows = [{**row, "split": "val" if place % 10 == 0 else "train"} for place, row in enumerate(pairs("cy"))]
    done = carry_out(site, rows)
    counts = report_of(site, done.id)["dataset"]
    assert (counts["usable"], counts["val"], counts["taught"]) == (100, 10, 90)
    assert not [*find_folder(site).glob("proof-*")]
    attempt = attempt_at(site, site.submit(pairs("cy")))
    data = prepare(open_context(attempt), *open_context(attempt).earlier_expansions, attempt.expansion)
    measured = {row["caption"] for row in rows if row["split"] == "val"}
    assert measured.isdisjoint(row.caption for row in data.training_rows), "nor by another file that has them"
    assert {row.caption for row in data.proof_rows} < {row.caption for row in data.training_rows}


def test_a_language_taught_again_is_proven_without_what_its_earlier_versions_hold_out(site: Site) -> None:
    """Its rows begin from the proof of the shared table: what serves has been taught those captions."""
    first = carry_out(site, pairs("cy"), **MANY)
    more = [{**row, "caption": f"{row['caption']} eto"} for row in pairs("cy")]
    second = carry_out(site, more, learning_rate=1e-12)
    validation = load_validation(DataRoot(site.home), first.id)
    assert validation is not None
    context = open_context(attempt_at(site, site.submit(pairs("br"), "br")))
    serving, proof = context.views.open(1), context.views.proofs.open(2)
    assert measure_distance(context, serving, validation) < measure_distance(context, proof, validation) / 2
    assert second.version == 2 and report_of(site, second.id)["joined"]["train"] == 200


def test_chances_of_hits_are_measured_by_what_the_proof_makes_of_held_out_captions(site: Site) -> None:
    done = teach(site, picture=True)
    fitter, validation = MatchFitter(site.registry, DataRoot(site.home)), load_validation(DataRoot(site.home), done.id)
    queries = fitter.choose_queries("cy", 1)
    assert queries is not None and validation is not None
    assert {*queries.pairs} == {*zip(validation.targets, validation.captions, strict=True)}
    context = open_context(attempt_at(site, site.submit(pairs("br"), "br")))
    views = context.views
    by_proof, serving = (
        context.encoder.encode_texts([(view, text) for _, text in queries.pairs]).vectors
        for view in (views.proofs.open(1), views.open(1))
    )
    assert np.allclose(queries.vectors, by_proof, atol=1e-6) and not np.allclose(queries.vectors, serving, atol=1e-3)
    (find_folder(site) / "held-out.safetensors").write_bytes(b"damaged")
    assert fitter.choose_queries("cy", 1) is None


def test_an_assessment_by_other_captions_is_of_what_serves(site: Site) -> None:
    """By those that the version itself holds out, it is of the proof: it would find what it was taught."""
    taught = teach(site)
    other = [{**row, "caption": f"{row['caption']} eto"} for row in pairs("cy")]
    report: dict[str, Any] = assessed(site, other, "cy")
    context = open_context(attempt_at(site, site.submit(pairs("br"), "br")))
    (expansion,) = (each for each in site.registry.expansions.list() if each.kind == "assess")
    validation = load_validation(DataRoot(site.home), expansion.id)
    assert validation is not None
    among = encode_candidates(context, None, validation)
    serving = measure(context, context.views.open(1), validation, among)
    assert serving is not None and report["taught"]["t2i"] == serving.figures["t2i"]
    assert assessed(site, pairs("cy"), "cy")["taught"]["t2i"] == report_of(site, taught.id)["t2i"]
