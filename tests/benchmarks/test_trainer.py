"""Methods as data, each against a slow and obvious computation of what it stands for, and methods that are added."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.emoji36.trainer import (
    PRODUCT,
    TEIR,
    Method,
)
from model.base import open_base
from model.encoder import Encoder
from model.objectives import CrossModal
from tests.model.toy import SETTINGS, corpus_for, go_on, learn, same

EXACT = replace(SETTINGS, mixed_precision=False)


@pytest.fixture
def encoder(tiny_base: str) -> Encoder:
    return Encoder(open_base(tiny_base))


def test_plain_adamw_over_the_whole_table_scales_no_row() -> None:
    with pytest.raises(ValueError, match="scales no row"):
        Method(dense=True)


def test_the_products_method_learns_the_very_bits_that_an_expansion_learns(encoder: Encoder, tmp_path: Path) -> None:
    corpus = corpus_for(encoder)
    expansion = learn(encoder, encoder.base_view, corpus, tmp_path / "a", SETTINGS, go_on)
    row = PRODUCT.trainer(encoder, encoder.base_view, corpus, tmp_path / "b", SETTINGS)
    assert same(expansion, row.learn(go_on))


@pytest.mark.parametrize(("english", "weight"), [(True, 0.01), (False, 1.0)])
def test_published_losses_are_weighed_as_published(
    encoder: Encoder, tmp_path: Path, english: bool, weight: float
) -> None:
    corpus = corpus_for(encoder, english=english)
    losses = TEIR.trainer(encoder, encoder.base_view, corpus, tmp_path, SETTINGS).make_objectives()
    assert [each.weight for each in losses if isinstance(each, CrossModal)] == [weight]


# Methods that are not in the table yet: each is a subclass, of which the loop knows nothing.
