"""An adapter beside the rows of a language: rows are taught as without it, it learns at its own rate, and is read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.methods import addressed, gains
from benchmarks.methods.addressed import Adapter
from benchmarks.methods.gains import Trial
from model.base import open_base
from model.encoder import Encoder
from model.training import LearnSettings, Trainer
from tests.benchmarks.test_methods_miniature import Toy

UNCLIPPED = LearnSettings(epochs=2, batch_size=16, clip=1e9, mixed_precision=False)


@pytest.fixture(scope="module")
def encoder(tiny_base: str) -> Encoder:
    return Encoder(open_base(tiny_base))


@pytest.mark.parametrize("start", ["auto", "drawn"])
def test_rows_beside_an_adapter_that_stays_are_those_of_the_product(
    encoder: Encoder, tmp_path: Path, start: str
) -> None:
    corpus = Toy(encoder).build_corpus("de")
    settings = LearnSettings(**{**vars(UNCLIPPED), "start": start})
    trainer = Trainer(encoder, encoder.base_view, corpus, tmp_path / "alone", settings)
    view = encoder.extend(encoder.base_view, 1, "de", trainer.learn(lambda _: False))
    taught = addressed.teach(encoder, corpus, tmp_path / "beside", settings, Adapter("lora", 0.0))
    assert taught.steps == trainer.steps == 12
    ours, theirs = (
        encoder.table.rows[torch.from_numpy(each.physical[trainer.used]).long()] for each in (taught.view, view)
    )
    assert torch.equal(ours, theirs)
    texts = corpus.captions[:8]
    sides = (taught.reader, taught.view), (encoder, view)
    read = [by.encode_texts([(each, text) for text in texts]) for by, each in sides]
    np.testing.assert_allclose(read[0].vectors, read[1].vectors, atol=1e-5)


@pytest.mark.parametrize("kind", [*addressed.KINDS])
def test_an_adapter_learns_with_the_rows_and_its_trials_are_told_apart(
    encoder: Encoder, tmp_path: Path, kind: str
) -> None:
    settings = (("batch_size", 16), ("epochs", 6), ("mixed_precision", False))
    alone, beside = (Trial("toy", "de", 90, 0, settings, each) for each in (None, Adapter(kind, 0.25)))
    held: list[dict[str, Any]] = []
    gains.fill(encoder, Toy(encoder), [alone, beside], held, tmp_path, held.append)
    assert [each["steps"] for each in held] == [36, 36] and held[0]["ranks"] != held[1]["ranks"]
    found = gains.pool_gain(json.loads(json.dumps(held)), [alone], [beside], 1)
    assert found.after > 0.25
    again: list[dict[str, Any]] = []
    older = [{key: value for key, value in held[0].items() if key != "adapter"}, held[1]]  # of an earlier release
    gains.fill(encoder, Toy(encoder), [alone, beside], json.loads(json.dumps(older)), tmp_path, again.append)
    assert again == []
