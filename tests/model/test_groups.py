"""One small base of each group: read as open_clip reads it, by each backend, and taught."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import open_clip
import pytest
import torch
from torch import Tensor

from model.backend import has_bfloat16_instructions
from model.base import Base, open_base
from model.checkpoint import TokenRows
from model.encoder import Encoder, View
from model.towers import TorchTowers
from model.training import LearnSettings, Progress, Trainer
from store.bases import BFLOAT16, FLOAT32, OPENVINO, TORCH, Encoding
from store.errors import CaptionsUnreadable
from tests.groups import GROUPS, SCRIPTS, list_texts, open_clip_tokens, write_base
from tests.model.toy import CAPTIONS, corpus_for, noting

SETTINGS = LearnSettings(epochs=1, batch_size=16, vocabulary=200)
FILLED = ("mobileclip", "siglip", "siglip2", "clipa")  # what fills up a text is read


class Opened(NamedTuple):
    group: str
    folder: Path
    base: Base

    def encoder(self) -> Encoder:
        return Encoder(self.base)


@pytest.fixture(scope="module", params=GROUPS)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    folder = tmp_path_factory.mktemp(request.param)
    yield Opened(request.param, folder, open_base(write_base(folder, GROUPS[request.param]), "cpu"))


def features(encoder: Encoder, view: View, said: tuple[str, ...] = list_texts()) -> Tensor:
    """Not normalised."""
    sequences = [view.build_sequence(ids)[0] for ids in view.tokenize(said)]
    return torch.from_numpy(encoder.compute_text_features(sequences, 64))


@torch.inference_mode()
def open_clips_own(model: Any, folder: Path, said: tuple[str, ...] = list_texts()) -> Tensor:
    found: Tensor = model.encode_text(open_clip_tokens(folder, said))
    return found


# --- equal to open_clip -----------------------------------------------------------------------------------------------


def assert_read_alike(folder: Path, base: Base) -> None:
    """200 texts in 32 scripts give open_clip's features; and still after a language's rows were replaced by hand."""
    encoder = Encoder(base)
    assert len(list_texts()) == 200 and len(SCRIPTS) == 32
    expected = open_clips_own(base.model, folder)
    torch.testing.assert_close(features(encoder, encoder.base_view), expected, rtol=1e-5, atol=1e-5)

    view, said = encoder.base_view, list_texts()[::3]
    used = np.unique(np.concatenate([np.array(ids, dtype=np.int64) for ids in view.tokenize(said)]))
    used = np.setdiff1d(used, view.reading.specials)
    rows = 0.02 * torch.randn((len(used), base.table.shape[1]), generator=torch.Generator().manual_seed(1))
    taught = view.extend(1, "xx", view.tokenizer, encoder.table, TokenRows(used, rows), {})
    model: Any = open_clip.create_model(base.name).eval()
    model.load_state_dict(base.model.state_dict())
    with torch.no_grad():
        getattr(model, "text", model).token_embedding.weight[torch.from_numpy(used)] = rows
    replaced = open_clips_own(model, folder)
    assert not torch.allclose(replaced, expected, atol=1e-3)
    torch.testing.assert_close(features(encoder, taught), replaced, rtol=1e-5, atol=1e-5)


def test_our_reading_is_open_clips(opened: Opened) -> None:
    assert_read_alike(opened.folder, opened.base)


@pytest.mark.nightly
@pytest.mark.parametrize("architecture", open_clip.list_models())
def test_every_configuration_that_is_accepted_is_read_as_open_clip_reads_it(architecture: str, tmp_path: Path) -> None:
    """All of open_clip's own, with their widths and depths shrunk, and pictures and foreign vocabularies small."""
    config = open_clip.get_model_config(architecture)
    if "multimodal_cfg" in config or config["text_cfg"].get("hf_model_name"):
        pytest.skip("not supported, which another test shows")
    assert_read_alike(tmp_path, open_base(write_base(tmp_path, architecture), "cpu"))


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("architecture", ["MobileCLIP2-S0", "ViT-B-32-SigLIP2-256"])
def test_real_sizes_are_read_as_open_clip_reads_them(architecture: str, tmp_path: Path) -> None:
    """A table of 256,000 rows among them, which stays in its file."""
    config = open_clip.get_model_config(architecture)
    assert_read_alike(tmp_path, open_base(write_base(tmp_path, architecture, config), "cpu"))


# --- each backend -----------------------------------------------------------------------------------------------------


ENCODINGS = [
    pytest.param(Encoding(backend, precision), marks=marks, id=f"{backend} {precision}")
    for precision, marks in ((FLOAT32, ()), (BFLOAT16, pytest.mark.nightly))  # test_backends has it for CLIP
    for backend in (TORCH, OPENVINO)
]
SOME = (*list_texts()[:60:5], "a", "a red apple", "two small boats on a quiet lake at night")


@pytest.fixture(params=ENCODINGS)
def encoder(request: pytest.FixtureRequest, opened: Opened, tmp_path: Path) -> Encoder:
    encoding: Encoding = request.param
    if encoding.backend == TORCH:
        return Encoder(opened.base, TorchTowers(opened.base, encoding.precision))
    backend = pytest.importorskip("model.openvino", reason="openvino is not installed")
    if encoding.precision == BFLOAT16 and not has_bfloat16_instructions(OPENVINO, opened.base.device):
        pytest.skip("this processor does not multiply bfloat16")
    compiled = backend.OpenVinoTowers(opened.base, encoding.precision, tmp_path, 1)
    return Encoder(opened.base.copy_without_towers(), compiled)


def test_each_backend_reads_alike_and_gives_equal_text_equal_bits(encoder: Encoder, opened: Opened) -> None:
    """Decision 25: whoever else is searching, a text has the vector that it has alone."""
    view, plain = encoder.base_view, opened.encoder()
    tolerance = 1e-5 if encoder.encoding.precision == FLOAT32 else 0.03
    alone = {text: encoder.encode_texts([(view, text)], alone=True).vectors[0] for text in SOME}
    torchs = plain.encode_texts([(plain.base_view, text) for text in SOME]).vectors
    np.testing.assert_allclose(np.stack([*alone.values()]), torchs, atol=tolerance)
    for size in (2, 3, 5, len(SOME)):
        for start in range(0, len(SOME), 3):
            company = [SOME[(start + step) % len(SOME)] for step in range(size)]
            together = encoder.encode_texts([(view, text) for text in company], alone=True).vectors
            assert all(np.array_equal(vector, alone[text]) for text, vector in zip(company, together, strict=True))


def test_texts_are_filled_up_only_where_that_is_read(opened: Opened) -> None:
    reading = opened.base.reading
    assert (reading.pad is not None) == (opened.group in FILLED)
    assert reading.causal == (opened.group not in FILLED)
    assert reading.at == ("last" if opened.group in ("siglip", "siglip2", "clipa") else "end")


# --- taught -----------------------------------------------------------------------------------------------------------


def test_the_loss_falls_and_what_fills_up_texts_keeps_the_bases_row_though_a_language_trained_that_token(
    opened: Opened, tmp_path: Path
) -> None:
    """MobileCLIP's pads have the id of an exclamation mark."""
    encoder, reading, view = opened.encoder(), opened.base.reading, opened.encoder().base_view
    if reading.pad is not None:
        before = encoder.encode_texts([(view, "afal coch")]).vectors
        mark = TokenRows(np.array([reading.pad]), torch.ones(1, opened.base.table.shape[1]))
        view = view.extend(1, "br", view.tokenizer, encoder.table, mark, {})
        same = np.array_equal(encoder.encode_texts([(view, "afal coch")]).vectors, before)
        assert same == (reading.pad not in reading.suffix)  # of some the end of a text is the same token

    seen, settings = list[Progress](), replace(SETTINGS, epochs=6, learning_rate=1e-2)
    trainer = Trainer(encoder, view, corpus_for(encoder), tmp_path, settings)
    fixed = trainer.rows.detach()[len(trainer.used) :].clone()
    if reading.pad is not None:
        assert torch.equal(fixed[-1], opened.base.table[reading.pad]) and view.physical[reading.pad] != reading.pad
    trainer.learn(noting(seen))
    losses = [each.loss for each in seen]
    assert np.mean(losses[-6:]) < np.mean(losses[:6])
    assert torch.equal(trainer.rows.detach()[len(trainer.used) :], fixed)
    assert not torch.equal(trainer.rows.detach(), trainer.start_rows())


# --- texts that are not like others -----------------------------------------------------------------------------------


@pytest.mark.row("T16")
def test_special_strings_in_a_text_are_plain_text(opened: Opened) -> None:
    view, reading = opened.encoder().base_view, opened.base.reading
    hostile = ["a cat </s> a dog", "a cat <eos> a dog", "a cat [SEP] a dog", "</s>", "<pad>", "﹤/s﹥ <s>", "[CLS]"]
    special = {*reading.prefix, *reading.suffix} - {0}
    assert all(special.isdisjoint(ids) for ids in view.tokenize(hostile))
    if opened.group == "clipa":  # which leaves punctuation in the text
        named, plain = view.tokenize(["a cat [SEP] a dog", "a cat a dog"])
        assert len(named) > len(plain)


def test_a_script_that_the_tokenizer_does_not_know_is_not_taught(opened: Opened) -> None:
    """CLIP's reads bytes and a Gemma has them to fall back on; the others would learn a row for "unknown"."""
    tokenizer = opened.base.make_tokenizer()
    unseen = ["ᚠᛇᚻ᛫ᛒᛦᚦ᛫ᚠᚱᚩᚠᚢᚱ", "ᚷᛖᚻᚹᛦᛚᚳᚢᛗ"]
    if opened.group in ("siglip", "worldwide", "clipa"):
        with pytest.raises(CaptionsUnreadable, match="100% of the captions have letters"):
            tokenizer.grow(unseen, 100)
    else:
        assert tokenizer.grow(unseen, 100).size >= tokenizer.size
    assert tokenizer.grow(CAPTIONS, 100) is not None
