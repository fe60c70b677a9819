"""Each method of the suite, three steps of it against a slow and obvious computation, and what it leaves behind."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.methods.er import update_reservoir
from benchmarks.methods.rows import ROWS, SUITE
from benchmarks.methods.trainer import SuiteTrainer
from model.checkpoint import CachedResult
from model.encoder import Encoder
from model.objectives import Corpus
from model.training import LearnSettings, TrainingInterrupted
from tests.benchmarks.slow_steps import IDLE, by_hand, slow_of
from tests.model.toy import CAPTIONS, corpus_for, go_on

BATCH, STEPS, RATE = 4, 3, 1e-3  # the first step has the rate 0
DECAY = -math.log(1 - 0.031) / (2 * RATE)
SETTINGS = LearnSettings(
    epochs=1, batch_size=BATCH, learning_rate=RATE, warmup=0.0, cooldown=0.0, vocabulary=400, mixed_precision=False
)


def corpus(encoder: Encoder) -> Corpus:
    whole = corpus_for(encoder)
    count = BATCH * STEPS
    return Corpus("cy", CAPTIONS[:count], whole.pivot_features[:count], whole.pictures, whole.picture_rows[:count] % 5)


def left_of(name: str, encoder: Encoder) -> CachedResult:
    """Return what an earlier language may have left."""
    return slow_of(name).left(encoder)


@pytest.mark.parametrize("name", [*SUITE, "teir-whole"])
def test_three_steps_are_those_of_a_slow_and_obvious_computation(encoder: Encoder, tmp_path: Path, name: str) -> None:
    trainer = made(name, encoder, tmp_path)
    extra = trainer.get_extra_parameters()
    parts = {key: value for key, value in extra.items() if key.split("/")[0] not in ("noted", "sum")}
    slow = {key: value.detach().double().clone().requires_grad_() for key, value in parts.items()}
    rows = trainer.rows.detach().double().clone().requires_grad_()
    before = rows.detach().clone()
    learned = trainer.learn(go_on)

    by_hand(name, trainer, corpus(encoder), rows, slow, (RATE, DECAY))
    moved = (rows.detach() - before).abs().amax(dim=1)
    assert bool((moved > 1e-3).any()), "nothing was learned"
    torch.testing.assert_close(trainer.rows.detach().double(), rows.detach(), rtol=0, atol=1e-6)
    for key, value in parts.items():
        torch.testing.assert_close(value.detach().double(), slow[key].detach(), rtol=0, atol=1e-6, msg=key)
    kept = learned.rows.rows[torch.from_numpy(np.searchsorted(learned.rows.ids, trainer.used))]
    torch.testing.assert_close(kept.double(), rows.detach()[: len(trainer.used)], rtol=0, atol=1e-6)


def read(encoder: Encoder, rows: Tensor, line: NDArray[np.int32]) -> Tensor:
    """Return the feature (dimension,) of one caption by the frozen tower."""
    last = torch.tensor([len(line) - 1])
    return encoder.base.compute_text_features(rows[torch.from_numpy(line).long()][None], last)[0]


def made(name: str, encoder: Encoder, folder: Path, epochs: int = 1) -> SuiteTrainer:
    left, settings = left_of(name, encoder), replace(SETTINGS, epochs=epochs)
    trainer = ROWS[name].trainer(encoder, encoder.base_view, corpus(encoder), folder, settings, left)
    assert isinstance(trainer, SuiteTrainer)
    return trainer


@pytest.mark.parametrize("name", ["oewc", "oewc+teir"])
def test_the_fisher_is_the_sum_over_languages_of_the_mean_squared_gradient(
    encoder: Encoder, tmp_path: Path, name: str
) -> None:
    trainer = made(name, encoder, tmp_path)
    trainer.learn(go_on)
    left = trainer.leaves()
    rows = trainer.rows.detach().clone().requires_grad_()
    trainer.rows = nn.Parameter(rows)
    total = torch.zeros_like(rows)
    for first in range(0, BATCH * STEPS, BATCH):
        batch = np.arange(first, first + BATCH)
        numbers = [trainer.sequences[place] for place in batch]
        found = torch.stack([read(encoder, trainer.rows, line) for line in numbers])
        said = corpus(encoder)
        loss = F.mse_loss(found, said.pivot_features[batch])
        (modal,) = (each for each in trainer.objectives if hasattr(each, "temperature"))
        loss = loss + 0.01 * modal(found, said.pictures[said.picture_rows[batch]], said.picture_rows[batch])
        (gradient,) = torch.autograd.grad(loss, trainer.rows)
        total += gradient**2 / STEPS
    held = dict(zip(trainer.left.tensors["ids"].tolist(), trainer.left.tensors["fisher"], strict=True))
    now = dict(zip(left["ids"].tolist(), left["fisher"], strict=True))
    assert {*now} == {*held, *trainer.ids.tolist()}
    for place, number in enumerate(trainer.ids.tolist()):
        expected = total[place] + held.get(number, torch.zeros_like(total[place]))
        torch.testing.assert_close(now[number], expected, rtol=1e-4, atol=1e-9)
    if name.endswith("teir"):  # what this language did not train keeps its own
        assert all(torch.equal(now[number], held[number]) for number in IDLE)


def test_a_pair_is_as_likely_kept_as_any_other() -> None:
    """Two languages of 30 pairs, a memory of 12; over 2,000 draws each pair is kept in a fifth of them."""
    counts = np.zeros(60)
    for seed in range(2_000):
        random = np.random.default_rng(seed)
        first = update_reservoir(0, 0, 30, 12, random)
        memory = [*first, *range(30, 60)]
        for place in update_reservoir(12, 30, 30, 12, random):
            counts[memory[place]] += 1
    assert counts.sum() == 12 * 2_000
    assert np.abs(counts / 2_000 - 0.2).max() < 0.035


@pytest.mark.parametrize("name", ["er", "der"])
def test_memory_holds_captions_targets_and_pictures_of_the_same_pairs(
    encoder: Encoder, tmp_path: Path, name: str
) -> None:
    trainer, before_last = made(name, encoder, tmp_path, epochs=2), made(name, encoder, tmp_path / "cut", epochs=2)
    trainer.learn(go_on)
    with pytest.raises(TrainingInterrupted):
        before_last.learn(lambda progress: progress.step == progress.steps - 1)
    last, rows = [*trainer.make_batches(0)][-1][1], before_last.rows.detach()
    read_last = dict[str, Tensor]()
    said, older = corpus(encoder), left_of(name, encoder)
    for place in last[last < len(said.captions)]:
        line = torch.from_numpy(trainer.sequences[place]).long()
        read_last[said.captions[place]] = trainer.student(rows[line][None], torch.tensor([len(line) - 1]))[0]
    left, facts = trainer.leaves(), trainer.facts()
    assert facts["seen"] == 40 + BATCH * STEPS and len(facts["captions"]) == BATCH * STEPS
    new = 0
    for caption, target, owner in zip(facts["captions"], left["targets"], left["owner"].tolist(), strict=True):
        if caption in said.captions:
            place = said.captions.index(caption)
            assert owner == int(said.picture_rows[place])
            if name == "er":
                assert torch.equal(target, said.pivot_features[place])
            elif caption in read_last:  # as the student read it in the last step that taught it
                torch.testing.assert_close(target, read_last[caption], rtol=0, atol=1e-5)
                new += 1
        else:
            place = CAPTIONS[-6:].index(caption)
            assert torch.equal(target, older.tensors["targets"][place]) and owner == int(older.tensors["owner"][place])
    assert new or name == "er"


def test_what_is_remembered_neither_grows_the_tokenizer_nor_counts_as_spoken(encoder: Encoder, tmp_path: Path) -> None:
    alone, said = made("teir", encoder, tmp_path / "b"), corpus(encoder)
    left = CachedResult(left_of("er", encoder).tensors, {"captions": ["kazh du bras", "un ti gwenn"] * 3, "seen": 40})
    trainer = ROWS["er+teir"].trainer(encoder, encoder.base_view, said, tmp_path / "a", SETTINGS, left)
    assert isinstance(trainer, SuiteTrainer)
    assert trainer.tokenizer.sha256 == alone.tokenizer.sha256 and trainer.steps == alone.steps
    assert trainer.spoken.tolist() == alone.used.tolist() and len(trainer.used) > len(alone.used)


def test_a_prompt_is_found_by_the_nearest_key_and_earlier_ones_stay(encoder: Encoder, tmp_path: Path) -> None:
    trainer: Any = made("dualprompt", encoder, tmp_path)
    trainer.learn(go_on)
    left, before = trainer.leaves(), left_of("dualprompt", encoder).tensors
    assert all(torch.equal(left[key], before[key]) for key in ("expert/br", "key/br"))
    assert not torch.equal(left["general"], before["general"])
    queries = torch.cat([left["key/cy"] + 0.01 * before["key/br"], before["key/br"]])
    found = trainer.chosen(left, queries)[1]
    assert torch.equal(found[0], left["expert/cy"][0]) and torch.equal(found[1], before["expert/br"][0])


@pytest.mark.parametrize("name", ["der", "mla", "codaprompt-untrained", "teir-whole"])
def test_an_interrupted_language_goes_on_to_the_same_bits(encoder: Encoder, tmp_path: Path, name: str) -> None:
    whole = made(name, encoder, tmp_path / "whole")
    whole.learn(go_on)
    with pytest.raises(TrainingInterrupted):
        made(name, encoder, tmp_path / "cut").learn(lambda progress: progress.step == 2)
    again = made(name, encoder, tmp_path / "cut")
    again.learn(go_on)
    assert torch.equal(whole.rows, again.rows)
    left = whole.leaves()
    assert all(torch.equal(value, left[key]) for key, value in again.leaves().items())
