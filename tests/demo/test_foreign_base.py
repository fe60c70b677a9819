"""The base for figures that reads six languages: trained in small, and opened by the product's own loader."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo import train_base
from demo.batches import Batches
from demo.emojis import catalogue
from demo.foreign_base import FOREIGN, SIX, trained_tokenizer
from model.base import open_base
from model.encoder import Encoder


def test_it_is_opened_by_its_name_reads_as_a_siglip_and_sees_as_the_bundled_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tokenizer takes half a minute to train: here is one of English names alone."""
    few = trained_tokenizer([each.name for each in catalogue()], 1_500)
    (tmp_path / "tokenizer.json").write_text(few.to_str(), encoding="utf-8")
    monkeypatch.setattr(train_base, "FOREIGN_PHASES", (train_base.Phase("captions_from_scratch", 2, 8, 1.0, None),))
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
    assert base.tokenizer().grown(["яблоко", "サル"], 0).encode(["яблоко"])[0], "every script has its bytes"
    shown = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    np.testing.assert_allclose(Encoder(base).pictures(shown), Encoder(bundled).pictures(shown), atol=1e-6)
