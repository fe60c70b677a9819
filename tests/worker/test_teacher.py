"""Features of English texts are computed once for all languages, and again where what was kept does not fit."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from model.encoder import Encoder
from model.table import View
from tests.worker.harness import Site, pairs, prepare_data
from worker import prepare as preparing
from worker.learn import make_corpus

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


def test_a_second_language_with_the_same_english_encodes_none_of_it(site: Site, encoded: list[int]) -> None:
    welsh, breton = prepare_data(site, pairs("cy")), prepare_data(site, pairs("br"), "br")
    assert encoded == [100]
    assert welsh.pivot_places == breton.pivot_places and torch.equal(welsh.features, breton.features)


def test_texts_in_another_order_get_their_own_features(site: Site, encoded: list[int]) -> None:
    first, second = prepare_data(site, pairs("cy")), prepare_data(site, pairs("br")[::-1], "br")
    assert encoded == [100]
    assert [*second.pivot_places] != [*first.pivot_places]
    for text, place in second.pivot_places.items():
        assert torch.equal(second.features[place], first.features[first.pivot_places[text]])


def test_other_english_is_encoded(site: Site, encoded: list[int]) -> None:
    prepare_data(site, pairs("cy"))
    prepare_data(site, pairs("br", count=90), "br")
    assert encoded == [100, 90]


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
    learned_from, english = make_corpus(data, 0), {row["caption"]: row.get("english") for row in rows}
    assert learned_from.texts == [english[caption] for caption in learned_from.captions]
    assert {None} < {*learned_from.texts}
