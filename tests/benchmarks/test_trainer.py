"""Methods as data, each against a slow and obvious computation of what it stands for, and methods that are added."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.emoji36.trainer import (
    CLL_CLIP,
    PRODUCT,
    TEIR,
    TEIR_INIT,
    Method,
    StepScaledAdamW,
)
from model.base import open_base
from model.encoder import Encoder
from model.objectives import Corpus, CrossLingual, CrossModal
from model.table import pad
from model.teir import ScaledAdamW
from model.tokenizer import BEGIN, END
from model.training import Trainer
from tests.model.toy import CAPTIONS, SETTINGS, corpus_for, go_on, learn, same

EXACT = replace(SETTINGS, mixed_precision=False)


@pytest.fixture
def encoder(spec: str) -> Encoder:
    return Encoder(open_base(spec))


def test_plain_adamw_over_the_whole_table_scales_no_row() -> None:
    with pytest.raises(ValueError, match="scales no row"):
        Method(dense=True)


@pytest.mark.parametrize("method", [CLL_CLIP, TEIR], ids=["normal", "table"])
def test_new_rows_are_drawn_as_named(encoder: Encoder, tmp_path: Path, method: Method) -> None:
    """With the scalar mean and unbiased deviation of all elements, though each dimension has its own, or with 0.02."""
    table = torch.tensor([[3.0, -1.0, 0.25], [3.5, -1.0, 0.0], [2.5, -3.0, 0.25], [3.0, -2.0, 0.5]])
    elements = [float(element) for row in table for element in row]
    mean = sum(elements) / 12
    std = math.sqrt(sum((element - mean) ** 2 for element in elements) / 11)  # by 12 it would be 4 % less
    if method is CLL_CLIP:
        mean, std = 0.0, 0.02
    trainer = method.trainer(encoder, encoder.base_view, corpus_for(encoder), tmp_path, SETTINGS)
    drawn = trainer.draw_rows(40_000, torch.split(table, 2), torch.Generator().manual_seed(2))
    assert drawn.mean(dim=0).tolist() == [pytest.approx(mean, abs=0.03 * std)] * 3
    assert drawn.std(dim=0).tolist() == [pytest.approx(std, rel=0.015)] * 3
    torch.testing.assert_close(torch.corrcoef(drawn.T), torch.eye(3), atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("method", "rows", "specials"),
    [
        (CLL_CLIP, [1, 1, 1], 1),
        (TEIR, [1, 1 / 2, 1 / 5], 0),
        (Method(scale="none"), [1, 1, 1], 0),
        (Method(ends=True), [1, 1 / 2, 1 / 5], 1),
        (Method(scale="gradient", scales="gradient", dense=True), [1, 1 / 2, 1 / 5], 0),
        (Method(scales="decay"), [1, 1 / 2, 1 / 5], 0),
    ],
)
def test_how_far_a_row_may_move(
    encoder: Encoder, tmp_path: Path, method: Method, rows: list[float], specials: float
) -> None:
    trainer = method.trainer(encoder, encoder.base_view, corpus_for(encoder), tmp_path, SETTINGS)
    scale = trainer.compute_row_scale(np.array([1, 2, 5]))
    assert scale.tolist() == [[pytest.approx(value)] for value in (*rows, specials, specials)]


@pytest.mark.parametrize("method", [CLL_CLIP, TEIR_INIT], ids=["cll-clip", "teir-init"])
def test_a_dense_method_is_adamw_over_the_whole_table(encoder: Encoder, tmp_path: Path, method: Method) -> None:
    """Against AdamW of torch over every row, idle ones with a gradient of zero."""
    corpus, view = corpus_for(encoder), encoder.base_view
    trainer = method.trainer(encoder, view, corpus, tmp_path, EXACT)
    drawn = trainer.rows.detach().clone()
    learned = trainer.learn(go_on)

    grown = view.tokenizer.grow(CAPTIONS, SETTINGS.vocabulary)
    tokens = grown.encode(CAPTIONS)
    used = np.unique(np.concatenate([np.array(ids) for ids in tokens]))
    table = torch.zeros(grown.size, encoder.base.table.shape[1])
    table[: len(encoder.base.table)] = encoder.base.table
    new = used >= len(encoder.base.table)
    table[torch.from_numpy(used[new])] = drawn[: len(used)][torch.from_numpy(new)]
    sequences = [np.array([BEGIN, *ids, END], dtype=np.int32) for ids in tokens]
    full = plain_adamw(trainer, nn.Parameter(table), sequences, corpus)

    assert learned.rows.ids.tolist() == [*range(len(encoder.base.table)), *used[new]]
    torch.testing.assert_close(learned.rows.rows, full[torch.from_numpy(learned.rows.ids)], rtol=1e-4, atol=1e-6)
    idle = np.setdiff1d(np.arange(1_000), used)
    assert not torch.equal(learned.rows.rows[idle], encoder.base.table[idle])
    assert not torch.allclose(learned.rows.rows[[BEGIN, END]], encoder.base.table[[BEGIN, END]], atol=1e-4)


def plain_adamw(trainer: Trainer, table: nn.Parameter, sequences: list[np.ndarray], corpus: Corpus) -> Tensor:
    lingual, modal = CrossLingual(), CrossModal()
    groups = [{"params": [table], "weight_decay": 0.05}, {"params": [modal.temperature], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-6)
    steps = math.ceil(len(sequences) / SETTINGS.batch_size) * SETTINGS.epochs
    for step, batch in trainer.make_batches(0):
        numbers, last = pad([sequences[index] for index in batch], trainer.reading)
        features = trainer.encoder.base.compute_text_features(table[numbers], last)
        chosen = torch.from_numpy(batch)
        loss = lingual(features, corpus.pivot_features[chosen])
        loss = loss + 0.01 * modal(features, corpus.pictures[corpus.picture_rows[chosen]], corpus.picture_rows[chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([table, modal.temperature], 1.0)
        for group in optimizer.param_groups:
            group["lr"] = SETTINGS.compute_rate(step, steps)
        optimizer.step()
    return table.detach()


def test_a_scaled_step_is_that_share_of_adams_step_and_a_scaled_gradient_is_not() -> None:
    """Adam divides a constant factor out again, so only on the step does 1/f mean 1/f."""
    gradient = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    moved = {}
    for kind in (StepScaledAdamW, ScaledAdamW):
        table = nn.Parameter(torch.zeros(3, 8))
        optimizer = kind(table, torch.tensor([[1.0], [1 / 3], [0.0]]), [], decay=0.0)
        table.grad = gradient.clone()
        table.grad[1:] = gradient[0]
        optimizer.step(1e-2, clip=1e9)
        moved[kind] = table.detach().norm(dim=1)
    assert (moved[StepScaledAdamW] / moved[StepScaledAdamW][0]).tolist() == [1.0, pytest.approx(1 / 3), 0.0]
    assert (moved[ScaledAdamW] / moved[ScaledAdamW][0]).tolist() == [1.0, pytest.approx(1.0, abs=0.01), 0.0]


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
