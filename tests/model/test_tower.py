"""One place of the last block is the whole forward pass there; the tower of a training is the frozen one, rounded."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.transformer import TextTransformer
from torch.nn import functional as F

from benchmarks.made_up import Sizes, make_base
from model.base import Base
from model.towers import can_multiply_bfloat16, compute_text_features, make_bfloat16_tower

CPUINFO = Path("/proc/cpuinfo")


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
