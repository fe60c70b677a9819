"""Methods as data, each against a slow and obvious computation of what it stands for, and methods that are added."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from benchmarks.emoji36.tokenizers import Oracle
from benchmarks.emoji36.trainer import (
    CLL_CLIP,
    PRODUCT,
    TEIR,
    Method,
)
from benchmarks.methods.rows import ABLATIONS, SUITE, choose_tokenizer
from model.encoder import Encoder
from model.objectives import CrossModal
from tests.model.toy import CAPTIONS, SETTINGS, corpus_for, go_on, learn, same

EXACT = replace(SETTINGS, mixed_precision=False)


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


# --- The published rows in the paper's own proportion, and its ablations: each against what its definition says ---


def test_the_papers_ablations_are_rows_and_change_one_thing_each() -> None:
    without, proposed = asdict(SUITE["cll-clip"]), asdict(SUITE["teir"])

    def changed(name: str, other: dict[str, object]) -> set[str]:
        return {key for key, value in asdict(ABLATIONS[name]).items() if value != other[key]}

    assert all(method.proportion for method in ABLATIONS.values())
    assert changed("teir-init", without) == changed("teir-reg", proposed) == {"start"}
    assert changed("teir-reg-gradient", without) == {"scale", "scales"}
    assert changed("teir-reg-decay", proposed) == {"start", "scales"}
    assert changed("teir-lingual", proposed) == changed("teir-modal", proposed) == {"losses"}
    assert changed("teir-whole", proposed) == {"kind"}
    assert changed("teir-oracle", proposed) == set() and choose_tokenizer("teir-oracle") is Oracle


@pytest.mark.parametrize("epochs", [1, 3])
def test_in_the_papers_proportion_an_idle_row_loses_the_same_whatever_the_steps(
    encoder: Encoder, tmp_path: Path, epochs: int
) -> None:
    settings = replace(EXACT, epochs=epochs, cooldown=0.0)
    method = replace(CLL_CLIP, proportion=True)
    trainer = method.trainer(encoder, encoder.base_view, corpus_for(encoder), tmp_path, settings)
    assert trainer.settings.compute_rate(1, trainer.steps) == 0 < trainer.settings.compute_rate(2, trainer.steps)
    assert trainer.idle() == pytest.approx(0.969, abs=2e-3)
    drawn = trainer.draw_rows(20_000, [encoder.base.table], torch.Generator().manual_seed(0))
    assert drawn.std().item() == pytest.approx(1.55 * encoder.base.table.std().item(), rel=0.01)


def test_the_oracle_vocabulary_grows_no_further_and_its_rows_come_with_their_languages(
    encoder: Encoder, tmp_path: Path
) -> None:
    welsh, breton = CAPTIONS, ["kazh du", "ki bras", "mor glas"] * 8
    whole = Oracle.all_at_once([*welsh, *breton])
    parent = replace(encoder.base_view, tokenizer=whole)
    trainer = TEIR.trainer(encoder, parent, corpus_for(encoder), tmp_path, EXACT)
    learned = trainer.learn(go_on)
    assert trainer.tokenizer.sha256 == whole.sha256 and learned.merges == ()
    view = encoder.extend(parent, 1, "cy", learned)
    assert [len(ids) for ids in view.tokenize(welsh)] == [len(ids) for ids in whole.encode(welsh)]
    untaught = view.shared.tokenize(breton)  # what no language has taught yet is read as its parts
    assert max(number for ids in untaught for number in ids) < view.tokenizer.size
    assert sum(map(len, untaught)) > sum(map(len, whole.encode(breton)))
