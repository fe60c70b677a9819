"""One small base of each group: read as open_clip reads it, by each backend, and taught by a rounded tower."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import TextTransformer
from torch import Tensor
from torch.nn import functional as F

from benchmarks.made_up import Sizes, make_base
from model.backend import has_bfloat16_instructions
from model.base import Base, open_base
from model.encoder import Encoder, View
from model.towers import TorchTowers, can_multiply_bfloat16, compute_text_features, make_bfloat16_tower
from model.training import LearnSettings, Progress, Trainer
from store.bases import BFLOAT16, FLOAT32, OPENVINO, TORCH, Encoding
from store.errors import CaptionsUnreadable
from tests.groups import GROUPS, SCRIPTS, list_texts, open_clip_tokens, write_base
from tests.model.toy import CAPTIONS, corpus_for, noting

SETTINGS = LearnSettings(epochs=1, batch_size=16, vocabulary=200)
FILLED = ("mobileclip", "siglip", "siglip2", "clipa")  # what fills up a text is read
CPUINFO = Path("/proc/cpuinfo")


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
    taught = view.extend(1, "xx", view.tokenizer, used, encoder.table.append(rows), {})
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
        rows = encoder.table.append(torch.ones(1, opened.base.table.shape[1]))
        view = view.extend(1, "br", view.tokenizer, np.array([reading.pad]), rows, {})
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


def tower(**config: Any) -> Any:
    torch.manual_seed(0)
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3, **config}
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    model = open_clip.model.CLIP(embed_dim=48, vision_cfg=vision, text_cfg=text)
    return model.eval().requires_grad_(False)


def whole(model: Any, embedded: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """The plain way: everything at every place, then one of them."""
    length = embedded.shape[1]
    hidden = embedded + model.positional_embedding[:length]
    hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:length, :length]))
    features: torch.Tensor = hidden[torch.arange(len(last)), last] @ model.text_projection
    return features


@pytest.mark.parametrize("config", [{}, {"layers": 1}, {"ls_init_value": 0.1}], ids=["plain", "one block", "scaled"])
def test_one_place_of_the_last_block_is_the_whole_forward_pass_there(config: dict[str, Any]) -> None:
    model = tower(**config)
    embedded = torch.randn((5, 9, 64), generator=torch.Generator().manual_seed(1), requires_grad=True)
    last = torch.tensor([8, 0, 3, 5, 8])
    ours, plain = compute_text_features(model, embedded, last), whole(model, embedded, last)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad((ours * weights).sum(), embedded)
    (expected,) = torch.autograd.grad((plain * weights).sum(), embedded)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
    assert not gradient[2, 4:].any()  # what stands after the place that is read has no influence


def test_a_tower_of_other_blocks_goes_its_own_way() -> None:
    model = tower()
    model.transformer.resblocks[-1] = Doubled()
    embedded, last = torch.ones((2, 4, 64)), torch.tensor([3, 1])
    torch.testing.assert_close(compute_text_features(model, embedded, last), whole(model, embedded, last))


def test_where_nobody_tells_of_the_processor_it_has_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not can_multiply_bfloat16(torch.device("cpu")) and not can_multiply_bfloat16(torch.device("meta"))


@pytest.mark.skipif(not CPUINFO.exists() or not hasattr(torch.cpu, "get_capabilities"), reason="nobody else to ask")
def test_this_processor_is_told_rightly() -> None:
    """Under whatever names torch's release has for them."""
    assert can_multiply_bfloat16(torch.device("cpu")) is bool(
        {"avx512_bf16", "amx_bf16"} & set(CPUINFO.read_text().split())
    )


SIZES = Sizes(rows=50_000, layers=3, width=64, heads=4)


def other(**config: Any) -> Base:
    """A base whose text tower has this configuration."""
    torch.manual_seed(1)
    tower = TextTransformer(vocab_size=1, width=64, heads=4, layers=3, output_dim=64, **config)
    tower.eval().requires_grad_(False)
    return replace(make_base(SIZES), model=tower, compute_text_features=partial(compute_text_features, tower))


def both(frozen: Base, *, begin_alike: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of the frozen tower and of the training's, and their gradients."""
    random = torch.Generator().manual_seed(2)
    rows, last = torch.randn((7, 9, 64), generator=random), torch.tensor([8, 0, 3, 5, 8, 2, 1])
    weights = torch.randn((7, 64), generator=random)
    if begin_alike:
        rows[:, 0] = rows[0, 0]
    found = []
    for features in (frozen.compute_text_features, make_bfloat16_tower(frozen)):
        entered = rows.clone().requires_grad_()
        read = features(entered, last)
        (gradient,) = torch.autograd.grad((read * weights).sum(), entered)
        if begin_alike:  # it is one row, which gets the sum
            gradient = torch.cat([gradient[:, :1].sum(0, keepdim=True).expand(7, 1, 64), gradient[:, 1:]], 1)
        found += [read.detach(), gradient]
    return found[0], found[1], found[2], found[3]


@pytest.mark.parametrize("begin_alike", [False, True])
@pytest.mark.parametrize("config", [{}, {"ls_init_value": 0.1}, {"layers": 1}], ids=["plain", "scaled", "one block"])
def test_features_and_gradient_are_the_frozen_towers_but_for_rounding(
    config: dict[str, Any], begin_alike: bool
) -> None:
    exact, gradient, rounded, its_gradient = both(
        other(**config) if "layers" not in config else make_base(replace(SIZES, **config)), begin_alike=begin_alike
    )
    assert rounded.dtype == its_gradient.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    assert F.cosine_similarity(exact, rounded).min() > 0.999
    assert F.cosine_similarity(gradient.flatten(), its_gradient.flatten(), dim=0) > 0.999
    assert not its_gradient[2, 4:].any()  # what stands after the place that is read has no influence


def test_a_tower_of_other_blocks_runs_under_autocast() -> None:
    frozen = make_base(SIZES)
    model: Any = frozen.model
    model.transformer.resblocks[0] = Doubled()
    exact, gradient, rounded, its_gradient = both(frozen)
    assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
    assert F.cosine_similarity(exact, rounded).min() > 0.999
    assert F.cosine_similarity(gradient.flatten(), its_gradient.flatten(), dim=0) > 0.999


def test_the_frozen_tower_stays_as_it_is() -> None:
    frozen = make_base(SIZES)
    before = {name: weight.clone() for name, weight in frozen.model.state_dict().items()}
    make_bfloat16_tower(frozen)
    after = frozen.model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


class Doubled(torch.nn.Module):
    def forward(self, hidden: torch.Tensor, attn_mask: torch.Tensor) -> torch.Tensor:
        return 2 * hidden
