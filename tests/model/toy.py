"""A toy corpus and its training, shared by the tests of training, of TEIR and of the benchmark's methods."""

import math
from collections.abc import Callable
from pathlib import Path

import torch

from model.checkpoint import VersionContent
from model.encoder import Encoder, View
from model.objectives import NO_PICTURE, Corpus
from model.training import LearnSettings, Progress, Trainer

WORDS = ("afal", "coch", "ci", "tŷ", "môr", "haul", "cath", "llong", "blodyn", "seren")
CAPTIONS = [f"{a} a {b}" for a in WORDS for b in WORDS if a != b]
SETTINGS = LearnSettings(epochs=3, batch_size=16, learning_rate=4e-3, start="drawn", vocabulary=400, checkpoint_every=4)


def go_on(_: Progress) -> bool:
    return False


def noting(seen: list[Progress]) -> Callable[[Progress], bool]:
    def note(progress: Progress) -> bool:
        seen.append(progress)
        return False

    return note


def corpus_for(encoder: Encoder, *, english: bool = True, pictures: bool = True, seed: int = 1) -> Corpus:
    """Random teacher features: what is learned does not matter here, only that the steps are right."""
    random = torch.Generator().manual_seed(seed)
    count = len(CAPTIONS)
    features = torch.randn((count, encoder.dimension), generator=random)
    return Corpus(
        "cy",
        CAPTIONS,
        features if english else torch.full_like(features, math.nan),
        torch.randn((30, encoder.dimension), generator=random),
        torch.arange(count) % 30 if pictures else torch.full((count,), NO_PICTURE),
    )


def same(one: VersionContent, other: VersionContent) -> bool:
    return one.merges == other.merges and torch.equal(one.rows.rows, other.rows.rows)


def learn(
    encoder: Encoder,
    parent: View,
    corpus: Corpus,
    folder: Path,
    settings: LearnSettings,
    on_step: Callable[[Progress], bool],
) -> VersionContent:
    """By the product's trainer."""
    return Trainer(encoder, parent, corpus, folder, settings).learn(on_step)
