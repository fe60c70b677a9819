"""The base for figures that reads six languages: begun as the bundled base, trained in small, opened as any."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from demo import train_base
from demo.batches import Batches
from demo.emojis import load_catalogue
from demo.foreign_base import FEW, FOREIGN, SIX, ForeignLearner, load_tokenizer, prepare, train_tokenizer
from model.base import open_base
from model.encoder import Encoder


@pytest.fixture(scope="module")
def few() -> str:
    """A tokenizer of English names alone: the whole one takes half a minute to train."""
    return train_tokenizer([each.name for each in load_catalogue()], 1_500).to_str()


def test_it_begins_with_the_bundled_bases_blocks_and_the_rows_of_the_same_letters(tmp_path: Path, few: str) -> None:
    (tmp_path / "tokenizer.json").write_text(few, encoding="utf-8")
    prepare(tmp_path)
    learner, bundled = ForeignLearner(tmp_path), open_base("bundled", "cpu")
    tower = learner.clip.text
    old = bundled.model.state_dict()
    for name, weight in tower.transformer.state_dict().items():
        assert torch.equal(weight, old[f"transformer.{name}"]), name
    pooled = torch.ones(1, tower.transformer.width)
    torch.testing.assert_close(tower.text_projection(pooled), pooled @ old["text_projection"])
    clip, tokenizer = open_clip.get_tokenizer("ViT-B-32"), load_tokenizer(tmp_path)
    words = [
        piece for piece in tokenizer.get_vocab() if piece[0] == "▁" and piece[1:].isascii() and piece[1:].isalpha()
    ]
    several = 0
    for piece, parts in [*((word, clip.encode(word[1:])) for word in words), ("</s>", [clip.eot_token_id])]:
        several += len(parts) > 1
        row = tower.token_embedding.weight[tokenizer.token_to_id(piece)]
        torch.testing.assert_close(row, bundled.table[parts].mean(0))
    assert several and len(words) > several + 100

    said = ["a red apple", "サル яблоко"]
    tokens = load_tokenizer(tmp_path).encode_batch(said)
    filled = torch.tensor([[*line.ids, *[line.ids[-1]] * (64 - len(line.ids))] for line in tokens])
    with torch.no_grad():
        torch.testing.assert_close(learner.encode_captions(said), learner.clip.encode_text(filled))
        batch = Batches(load_catalogue(), torch.empty(0), 0).draw(0, 2, None)
        losses = [learner.compute_loss_in_all_places(batch), learner.compute_loss_in_few_places(batch)]
        assert losses[0] != losses[1]
        tower.positional_embedding[FEW - 1 : -1].normal_()
        again = learner.compute_loss_in_few_places(batch)
        torch.testing.assert_close(
            again, losses[1], rtol=0, atol=0.02, msg="of the others the last place alone is read"
        )


def test_it_is_opened_by_its_name_reads_as_a_siglip_and_sees_as_the_bundled_base(
    tmp_path: Path, few: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizer.json").write_text(few, encoding="utf-8")
    monkeypatch.setattr(
        train_base, "FOREIGN_PHASES", tuple(replace(phase, steps=1, examples=8) for phase in train_base.FOREIGN_PHASES)
    )
    drawn, draw = list[str](), Batches.draw

    def noted(batches: Batches, step: int, size: int, wildness: float | None = 1.0) -> object:
        batch = draw(batches, step, size, wildness)
        drawn.extend(batch.captions)
        return batch

    monkeypatch.setattr(Batches, "draw", noted)
    train_base.main(foreign=True, work=tmp_path)
    assert any(not caption.isascii() for caption in drawn) and any(caption.isascii() for caption in drawn)
    base, bundled = open_base(f"{FOREIGN}@{tmp_path / FOREIGN}.safetensors", "cpu"), open_base("bundled", "cpu")
    reading = base.reading
    assert (reading.causal, reading.at, reading.context, reading.pad) == (False, "last", 64, reading.suffix[0])
    assert base.languages == ("en", *sorted(SIX[1:]))
    assert base.make_tokenizer().grow(["яблоко", "サル"], 0).encode(["яблоко"])[0], "every script has its bytes"
    shown = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    np.testing.assert_allclose(Encoder(base).encode_pictures(shown), Encoder(bundled).encode_pictures(shown), atol=1e-6)
