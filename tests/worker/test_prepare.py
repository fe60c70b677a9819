"""What is learned from: features that are computed once, pictures named by files, held-out sets that stay."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from index.gallery import NewPicture
from model.encoder import Encoder, View
from tests.worker.harness import Site, attempt_at, pairs, prepare_data, report_of, teach
from worker import prepare as preparing
from worker.attempt import open_context
from worker.child import run
from worker.learn import make_corpus
from worker.prepare import prepare
from worker.validation import encode_candidates, load_validation

Rows = list[dict[str, str]]


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


def by_file(language: str = "cy") -> list[dict[str, str]]:
    return [{**row, "picture": f"{row['picture']}.jpg"} for row in pairs(language, picture=True)]


def put(site: Site, id: str) -> None:
    """One more picture."""
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
