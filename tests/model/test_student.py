"""The tower of a training computes what the frozen one does, but for rounding, with the same gradient."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from open_clip.transformer import TextTransformer
from torch.nn import functional as F

from benchmarks.made_up import Sizes, make_base
from model.base import Base
from model.student import make_bfloat16_tower
from model.towers import compute_text_features

SIZES = Sizes(rows=50_000, layers=3, width=64, heads=4)


def other(**config: Any) -> Base:
    """A base whose text tower has this configuration."""
    torch.manual_seed(1)
    tower = TextTransformer(vocab_size=1, width=64, heads=4, layers=3, output_dim=64, **config)
    tower.eval().requires_grad_(False)
    return replace(make_base(SIZES), model=tower, compute_text_features=partial(compute_text_features, tower))


def both(frozen: Base) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of the frozen tower and of the training's, and their gradients."""
    random = torch.Generator().manual_seed(2)
    rows, last = torch.randn((7, 9, 64), generator=random), torch.tensor([8, 0, 3, 5, 8, 2, 1])
    weights = torch.randn((7, 64), generator=random)
    found = []
    for features in (frozen.compute_text_features, make_bfloat16_tower(frozen)):
        entered = rows.clone().requires_grad_()
        read = features(entered, last)
        (gradient,) = torch.autograd.grad((read * weights).sum(), entered)
        found += [read.detach(), gradient]
    return found[0], found[1], found[2], found[3]


@pytest.mark.parametrize("config", [{}, {"ls_init_value": 0.1}, {"layers": 1}], ids=["plain", "scaled", "one block"])
def test_features_and_gradient_are_the_frozen_towers_but_for_rounding(config: dict[str, Any]) -> None:
    exact, gradient, rounded, its_gradient = both(
        other(**config) if "layers" not in config else make_base(replace(SIZES, **config))
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
