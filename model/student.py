"""The frozen text tower as a training computes it: matrix products in bfloat16, everything between them in float32.

Several times as fast as autocast on a processor with such instructions: autocast converts the frozen weights again in
every step, and torch's own attention copies them for every text (docs/decisions/0027).
"""

import copy
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional as F

from model.base import Base
from model.tower import text_features

_HALF = torch.bfloat16


def in_bfloat16(base: Base) -> Callable[[Tensor, Tensor], Tensor]:
    """`base.text_features` but for rounding, differentiable in the rows; under autocast for a tower of other blocks."""
    tower: Any = getattr(base.model, "text", base.model)
    blocks = tower.transformer.resblocks
    if not (tower.transformer.batch_first and all(type(block) is ResidualAttentionBlock for block in blocks)):
        return partial(_autocast, base)
    halved = SimpleNamespace(resblocks=[_halved(block) for block in blocks], batch_first=True)
    others = ("attn_mask", "positional_embedding", "ln_final", "text_projection")
    return partial(
        text_features, SimpleNamespace(transformer=halved, **{name: getattr(tower, name) for name in others})
    )


def _autocast(base: Base, embedded: Tensor, last: Tensor) -> Tensor:
    with torch.autocast(base.device.type, _HALF):
        return base.text_features(embedded, last).float()


def _halved(block: ResidualAttentionBlock) -> ResidualAttentionBlock:
    """A copy whose attention and perceptron compute in bfloat16, and take and give float32."""
    half = copy.deepcopy(block)
    half.attn, half.mlp = _Attention(half.attn), _Half(half.mlp)
    return half


class _Half(nn.Module):
    """A module in bfloat16 that takes and gives float32."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.to(_HALF)

    def forward(self, hidden: Tensor) -> Tensor:
        found: Tensor = self.module(hidden.to(_HALF))
        return found.float()


class _Attention(nn.Module):
    """`nn.MultiheadAttention` over one sequence, called as open_clip's blocks call it.

    What is between its projections is in float32: on a CPU its gradient in bfloat16 takes sixteen times as long.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.projections, self.num_heads = attention.to(_HALF), attention.num_heads

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        weights, biases, width = self.projections.in_proj_weight, self.projections.in_proj_bias, query.shape[-1]
        if query is key:
            asked, held, shown = F.linear(query.to(_HALF), weights, biases).chunk(3, dim=-1)
        else:
            asked = F.linear(query.to(_HALF), weights[:width], biases[:width])
            held, shown = F.linear(key.to(_HALF), weights[width:], biases[width:]).chunk(2, dim=-1)
        if attn_mask is not None and attn_mask.dim() == 3:
            attn_mask = attn_mask.view(len(query), self.num_heads, *attn_mask.shape[1:])
        read = F.scaled_dot_product_attention(self._split(asked), self._split(held), self._split(shown), attn_mask)
        joined = read.transpose(1, 2).flatten(2).to(_HALF)
        return self.projections.out_proj(joined).float(), None

    def _split(self, hidden: Tensor) -> Tensor:
        """(n, length, width) in bfloat16 as (n, heads, length, width / heads) in float32."""
        return hidden.float().view(*hidden.shape[:2], self.num_heads, -1).transpose(1, 2)
