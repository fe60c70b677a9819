"""TEIR against slow, obvious computations: where rows start, how often one counts as used, and how far it moves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.emoji36.trainer import StepScaledAdamW
from model import objectives
from model.encoder import Encoder
from model.objectives import NO_PICTURE, Corpus
from model.table import TokenRows, View, pad
from model.tokenizer import BEGIN, CLIP_TOKENS, END
from model.training import Trainer
from tests.model.toy import CAPTIONS, SETTINGS, WORDS, corpus_for, go_on, learn

RATE = 4e-3

# So small a norm of the gradient that Adam's eps counts: much above it, a factor on the gradient is divided out again.
FAINT = 1e-5
Sequences = list[NDArray[np.int64]]


def test_new_rows_are_drawn_like_the_whole_table_as_it_is_now(encoder: Encoder, tmp_path: Path) -> None:
    """After a language whose rows are far away, what a later one begins with has its mean and deviation too."""
    base = encoder.base_view
    far = TokenRows(np.arange(0, 40_000, dtype=np.int64), torch.full((40_000, encoder.base.table.shape[1]), 3.0))
    view = base.extend(1, "xx", base.tokenizer, encoder.table, far, {})
    trainer = Trainer(encoder, view, corpus_for(encoder), tmp_path, SETTINGS)
    new = trainer.rows.detach()[torch.from_numpy(trainer.ids >= view.tokenizer.size)]
    whole = encoder.table.rows[torch.from_numpy(view.physical[view.physical >= 0]).long()]
    assert len(new) > 5
    assert new.mean().item() == pytest.approx(whole.mean().item(), abs=0.4)  # the base's own mean is 0
    assert new.std().item() == pytest.approx(whole.std().item(), rel=0.2)


@pytest.mark.parametrize("kind", [objectives.ScaledAdamW, StepScaledAdamW], ids=["gradient", "step"])
@pytest.mark.parametrize("size", [1.0, 1e-6, 1e-7, 1e-8])
def test_one_step_is_the_published_one(size: float, kind: type[objectives.ScaledAdamW]) -> None:
    """Clip by the norm of the unscaled gradient, decay by the row's scale, scale the gradient, then Adam; in numpy.

    Or scale what Adam would do. Only gradients about as small as Adam's eps tell the one from no scale at all.
    """
    random = np.random.default_rng(0)
    start, rate, clip, weight_decay = random.standard_normal((3, 4)), 0.01, 0.5, 0.2
    gradients = size * random.standard_normal((2, 3, 4))
    scale = np.array([[1.0], [1 / 3], [0.0]])
    before, after = (np.ones((3, 1)), scale) if kind is StepScaledAdamW else (scale, np.ones((3, 1)))

    rows, first, second = start.copy(), np.zeros((3, 4)), np.zeros((3, 4))
    for step, gradient in enumerate(gradients, 1):
        scaled = before * gradient * min(1.0, clip / np.sqrt((gradient**2).sum()))
        first, second = 0.9 * first + 0.1 * scaled, 0.999 * second + 0.001 * scaled**2
        move = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-6)
        rows = rows * (1 - rate * weight_decay * scale) - rate * after * move

    table = nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = kind(table, torch.from_numpy(scale), [], decay=weight_decay)
    for gradient in gradients:
        table.grad = torch.from_numpy(gradient.copy())
        optimizer.step(rate, clip)
    moved = table.detach().numpy() - start
    assert np.allclose(moved[:2], (rows - start)[:2], rtol=1e-5, atol=0)
    assert np.array_equal(table.detach().numpy()[2], start[2])


@pytest.mark.parametrize("clip", [0.1, FAINT])
def test_a_gathered_step_is_the_full_tables_step(encoder: Encoder, clip: float) -> None:
    """One optimizer step over the whole table, with scale 0 outside the corpus, against the same over the used rows."""
    view = encoder.base_view
    sequences = [view.build_sequence(ids)[0].astype(np.int64) for ids in view.tokenize(CAPTIONS[:8])]
    used = np.unique(np.concatenate(sequences))
    target = torch.randn((8, encoder.dimension), generator=torch.Generator().manual_seed(3))
    frozen = np.isin(used, [BEGIN, END])
    scale = objectives.compute_row_scale(view.count_frequency(used, "cy"))
    scale[torch.from_numpy(frozen)] = 0

    full = nn.Parameter(encoder.base.table.clone())
    full_scale = torch.zeros(len(full), 1)
    full_scale[torch.from_numpy(used)] = scale
    gradient = one_step(encoder, full, full_scale, sequences, target, clip)

    gathered = nn.Parameter(encoder.base.table[torch.from_numpy(used)].clone())
    local = [np.searchsorted(used, sequence) for sequence in sequences]
    one_step(encoder, gathered, scale, local, target, clip)

    assert torch.equal(full[torch.from_numpy(used)], gathered)
    untouched = np.setdiff1d(np.arange(len(full)), used[~frozen])
    assert torch.equal(full[torch.from_numpy(untouched)], encoder.base.table[torch.from_numpy(untouched)])
    assert gradient.norm() > clip
    assert_published(full.detach(), encoder.base.table, gradient, full_scale, clip)


def one_step(
    encoder: Encoder, table: nn.Parameter, scale: Tensor, sequences: Sequences, target: Tensor, clip: float
) -> Tensor:
    """Moves the table, and returns what the gradient was."""
    optimizer = objectives.ScaledAdamW(table, scale, [], decay=SETTINGS.weight_decay)
    gradient = gradient_of(encoder, table, sequences, target)
    optimizer.step(RATE, clip)
    return gradient


def gradient_of(encoder: Encoder, table: nn.Parameter, sequences: Sequences, target: Tensor) -> Tensor:
    numbers, last = pad([sequence.astype(np.int32) for sequence in sequences], encoder.base.reading)
    loss = nn.functional.mse_loss(encoder.base.compute_text_features(table[numbers], last), target)
    loss.backward()  # type: ignore[no-untyped-call]
    assert table.grad is not None
    return table.grad.clone()


def assert_published(after: Tensor, before: Tensor, gradient: Tensor, scale: Tensor, clip: float) -> None:
    """Adam's first step is g / (|g| + eps): the moments' own factors are 1 once their bias is taken out."""
    start, scale = before.double(), scale.double()
    scaled = scale * gradient.double() * clip / gradient.double().norm()
    expected = start * (1 - RATE * SETTINGS.weight_decay * scale) - RATE * scaled / (scaled.abs() + 1e-6)
    torch.testing.assert_close(after.double() - start, expected - start, rtol=5e-3, atol=1e-8)


def test_a_row_counts_one_more_for_every_other_language_that_trained_it(encoder: Encoder, tmp_path: Path) -> None:
    first = learn(encoder, encoder.base_view, corpus_for(encoder), tmp_path / "1", SETTINGS, go_on)
    view: View = encoder.extend(encoder.base_view, 1, "cy", first)
    ids = first.rows.ids
    expected = np.where(ids < CLIP_TOKENS, 3, 2)
    assert (view.count_frequency(ids, "br") == expected).all()
    unseen = np.array([320, 321, view.tokenizer.size + 5])
    new = ~np.isin(unseen, ids)
    assert (view.count_frequency(unseen[new], "br") == np.array([2, 2, 1])[new]).all()
    # taught again, a language is not its own predecessor
    assert (view.count_frequency(ids, "cy") == expected - 1).all()
    grown = view.tokenizer.grow(CAPTIONS, 400)
    assert grown.merges == view.tokenizer.merges  # nothing new to learn from the same corpus


def test_a_second_languages_step_is_scaled_by_the_languages_before_it(encoder: Encoder, tmp_path: Path) -> None:
    """All of `learn` in one step: that of the full table, with f counted here, begin and end of text in the norm."""
    welsh = corpus_for(encoder)
    first = learn(encoder, encoder.base_view, welsh, tmp_path, SETTINGS, go_on)
    view = encoder.extend(encoder.base_view, 1, "cy", first)
    held = {number for ids in view.tokenizer.encode(CAPTIONS) for number in ids}
    captions = [f"{a} {b}" for a in WORDS[:4] for b in ("kazh", "bleunioù", "mor", "an heol")] * 2
    features = torch.randn((len(captions), encoder.dimension), generator=torch.Generator().manual_seed(2))
    breton = Corpus("br", captions, features, welsh.pictures, torch.full((len(captions),), NO_PICTURE))
    settings = replace(SETTINGS, epochs=1, batch_size=len(captions), warmup=0.0, cooldown=0.0, clip=FAINT)
    settings = replace(settings, mixed_precision=False)
    trainer = Trainer(encoder, view, breton, tmp_path / "br", settings)
    start = trainer.rows.detach().clone()
    learned = trainer.learn(go_on)

    tokens = learned.extend_tokenizer(view.tokenizer).encode(captions)
    used = np.array(sorted({number for ids in tokens for number in ids}))
    languages = [1 + (number < CLIP_TOKENS) + (number in held) for number in used.tolist()]
    assert {*languages} == {1, 2, 3}
    scale = torch.tensor([*(1 / f for f in languages), 0.0, 0.0])[:, None]
    place = {number: at for at, number in enumerate([*used.tolist(), BEGIN, END])}
    local = [np.array([place[number] for number in (BEGIN, *ids, END)]) for ids in tokens]
    gradient = gradient_of(encoder, nn.Parameter(start.clone()), local, features)
    assert gradient[-2:].norm() > gradient[:-2].norm() > FAINT  # left out of the norm, they would be missed
    assert learned.rows.ids.tolist() == used.tolist()
    after = torch.cat([learned.rows.rows, start[-2:]])
    assert_published(after, start, gradient, scale, FAINT)


def test_begin_and_end_of_text_keep_their_bits_under_teir(encoder: Encoder, tmp_path: Path) -> None:
    """They are not stored with a language, so a training that moved them would learn for a table that nobody has."""
    learn(encoder, encoder.base_view, corpus_for(encoder), tmp_path, SETTINGS, go_on)
    newest = max(tmp_path.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))
    rows = load_file(newest / "state.safetensors")["rows"]
    assert torch.equal(rows[-2:], encoder.base.table[[BEGIN, END]])
    assert not torch.equal(rows[0], encoder.base.table[BEGIN])
