"""What is learned from: features computed once, pictures named by files, pivots, held-out sets that stay and prove."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from index.gallery import NewPicture
from model import checkpoint
from model.dataset.rows import Pivot
from model.encoder import Encoder, View
from store.data_root import DataRoot
from tests.tiny import write_tiny_base
from tests.worker.harness import Site, attempt_at, carry_out, pairs, prepare_data, report_of, teach, with_welsh
from tests.worker.test_assess import assessed
from worker import prepare as preparing
from worker.attempt import open_context
from worker.child import run
from worker.evaluate import measure
from worker.learn import make_corpus
from worker.match import MatchFitter
from worker.prepare import prepare
from worker.validation import decide_validation, encode_candidates, load_validation

Rows = list[dict[str, str]]
MANY: dict[str, Any] = {"epochs": 30, "learning_rate": 0.01}


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts the teacher was asked for, each time."""
    asked: list[int] = []
    honest = preparing.compute_teacher_features

    def counting(
        encoder: Encoder, texts: Sequence[str], check: Callable[[], None], view: View | None = None
    ) -> torch.Tensor:
        asked.append(len(texts))
        return honest(encoder, texts, check, view)

    monkeypatch.setattr(preparing, "compute_teacher_features", counting)
    return asked


def parts(site: Site) -> list[Path]:
    return sorted((site.home / "teacher").iterdir())


def test_a_second_language_with_the_same_english_in_another_order_encodes_none_of_it(
    site: Site, encoded: list[int]
) -> None:
    first, second = prepare_data(site, pairs("cy")), prepare_data(site, pairs("br")[::-1], "br")
    assert encoded == [100]
    assert [*second.pivot_places] != [*first.pivot_places]
    for text, place in second.pivot_places.items():
        assert torch.equal(second.features[place], first.features[first.pivot_places[text]])


def test_a_damaged_part_is_made_again(site: Site, encoded: list[int]) -> None:
    first = prepare_data(site, pairs("cy"))
    (part,) = parts(site)
    (part / "kept.safetensors").write_bytes(b"half")
    assert torch.equal(prepare_data(site, pairs("br"), "br").features, first.features)
    assert encoded == [100, 100]
    prepare_data(site, pairs("cy"))
    assert encoded == [100, 100]


def test_parts_that_were_not_used_for_longest_are_removed(
    site: Site, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "_MOST_PARTS", 2)
    for count in (70, 80):
        prepare_data(site, pairs("cy", count=count))
    prepare_data(site, pairs("cy", count=70))  # used again, so the other one is the oldest
    prepare_data(site, pairs("cy", count=90))
    assert encoded == [70, 80, 90] and len(parts(site)) == 2
    prepare_data(site, pairs("cy", count=70))
    assert encoded == [70, 80, 90]
    prepare_data(site, pairs("cy", count=80))
    assert encoded == [70, 80, 90, 80]
    monkeypatch.setattr(preparing, "_PART_SIZE", 30)  # four parts of one expansion, which a later attempt has again
    for language in ("cy", "br"):
        prepare_data(site, pairs(language), language)
    assert encoded == [70, 80, 90, 80, 30, 30, 30, 10]


def test_what_is_learned_from_has_the_english_texts_themselves(site: Site) -> None:
    rows = pairs("cy", picture=True)
    for row in rows[::3]:
        del row["english"]
    data = prepare_data(site, rows)
    learned_from, english = (
        make_corpus(data, data.training_rows, 0),
        {row["caption"]: row.get("english") for row in rows},
    )
    assert learned_from.pivot_texts == [english[caption] for caption in learned_from.captions]
    assert {None} < {*learned_from.pivot_texts}


def test_a_word_beside_a_word_of_any_pivot_is_a_word(site: Site) -> None:
    rows = [{"caption": f"{chr(0x4E00 + n)}{chr(0x6000 + n)}", "english": f"apple{n}"} for n in range(80)]
    data = replace(prepare_data(site, rows, "zh"), pivot_versions={"en": 1})  # the base reads another language
    corpus = make_corpus(data, data.training_rows, 0)
    assert {*corpus.pivot_texts} == {None} and {*corpus.captions} <= {*corpus.listed}


def by_file(language: str = "cy") -> list[dict[str, str]]:
    return [{**row, "picture": f"{row['picture']}.jpg"} for row in pairs(language, picture=True)]


def put(site: Site, id: str) -> None:
    vector = np.eye(1, site.dimension, dtype=np.float32)[0]
    site.gallery.put([NewPicture(id, f"{10**6:064x}", 64, 64, {}, vector)], site.image_fingerprint)


def test_a_later_attempt_takes_the_same_pictures(site: Site) -> None:
    expansion = site.submit(by_file())
    attempt = attempt_at(site, expansion)
    data = prepare(open_context(attempt), attempt.expansion)
    assert [*data.picture_places] == [f"p{number}" for number in range(100)] and data.report.by_file == 100
    for id in ("p3.jpg", "p4.jpg"):  # by now, pictures have these ids
        put(site, id)
    site.gallery.delete("p4")
    site.abandon(expansion)
    second = attempt_at(site, expansion)
    assert prepare(open_context(second), second.expansion).rows == data.rows


@pytest.mark.parametrize("picture", [False, True])
def test_a_table_that_did_not_change_reads_as_on_the_day_it_was_learned(site: Site, picture: bool) -> None:
    """The second dataset brings other English, and the gallery other pictures: the candidates stay the same."""
    first = teach(site, picture=picture)
    assert first.report is not None
    vectors = np.random.default_rng(1).standard_normal((300, 32), dtype=np.float32)
    site.fill("later", vectors / np.linalg.norm(vectors, axis=1, keepdims=True), first=10**6)
    other = [{**row, "english": row["english"].replace("o", "ou")} for row in pairs("br", picture=picture, count=90)]
    attempt = attempt_at(site, site.submit(other, "br"))
    context = open_context(attempt)
    validation = load_validation(attempt.root, first.id)
    assert validation is not None
    among = encode_candidates(context, prepare(context, attempt.expansion), validation)
    assert len(among.places) == first.report["candidates"]
    assert {*among.places} == {*validation.targets, *validation.others}
    run(attempt)
    report = report_of(site, attempt.expansion.id)
    welsh = report["shared"]["languages"]["cy"]
    assert welsh["before"] == welsh["learned"] == first.report["t2i"]


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
