"""A frozen text tower that parts can be put into: behind its blocks, into its attention, before its keys."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.methods.trainer import Features
from model.base import Base
from model.towers import Attention, compute_text_features, copy_tower

Before = Callable[[], tuple[Tensor, Tensor]]  # keys and values (n or 1, count, width) that every text sees first


def open_tower(base: Base, half: bool) -> Any:
    """Return a text tower for `features` with blocks of its own, whose frozen products are in bfloat16 if `half`."""
    return copy_tower(base, torch.bfloat16 if half else torch.float32)


def features(tower: Any) -> Features:
    """Return what such a tower computes, differentiable in the rows and in all parts."""
    return partial(compute_text_features, tower)


def add_behind(block: Any, part: nn.Module) -> None:
    """Add to a block's output what `part` makes of it."""
    block.ln_2, block.mlp = nn.Identity(), _Behind(block.ln_2, block.mlp, part)


def add_beside(block: Any, queries: nn.Module, values: nn.Module) -> None:
    """Add to a block's queries and values what these make of its input."""
    block.attn = _Beside(block.attn, queries, values)


def attend_before(block: Any, seen: Before) -> None:
    """Let every place of a text attend to more keys and values, which `seen` gives in each pass."""
    block.attn = _Before(block.attn, seen)


class _Behind(nn.Module):
    """What a block adds to `hidden`, its perceptron's norm in here, so that the block's whole output is known."""

    def __init__(self, norm: nn.Module, perceptron: nn.Module, part: nn.Module) -> None:
        super().__init__()
        self.norm, self.perceptron, self.part = norm, perceptron, part

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.perceptron(self.norm(hidden))
        added: Tensor = self.part(hidden + out)
        return out + added


class _Beside(Attention):
    def __init__(self, attention: Attention, queries: nn.Module, values: nn.Module) -> None:
        super().__init__(attention.projections, attention.kind)
        self.queries, self.values = queries, values

    def project(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        asked, held, shown = super().project(query, key)
        return asked.float() + self.queries(query), held, shown.float() + self.values(key)


class _Before(Attention):
    def __init__(self, attention: Attention, seen: Before) -> None:
        super().__init__(attention.projections, attention.kind)
        self.seen = seen

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        self.keys, self.values = self.seen()
        if attn_mask is not None:
            attn_mask = F.pad(attn_mask, (self.keys.shape[1], 0))  # nothing of these is later than any place
        return super().forward(query, key, value, need_weights, attn_mask)

    def project(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        asked, held, shown = super().project(query, key)
        keys, values = (more.expand(len(key), -1, -1) for more in (self.keys, self.values))
        return asked, torch.cat([keys, held.float()], dim=1), torch.cat([values, shown.float()], dim=1)
