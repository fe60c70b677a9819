"""The frozen text tower as a training computes it: matrix products in bfloat16, everything between them in float32.

Several times as fast as autocast on a processor with such instructions: autocast converts the frozen weights again in
every step, and torch's own attention copies them for every text (docs/decisions/0048).
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
from model.towers import compute_text_features, read_off

_HALF = torch.bfloat16


def make_bfloat16_tower(base: Base) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the base's text tower but for rounding, differentiable in the rows; other blocks in autocast."""
    tower: Any = getattr(base.model, "text", base.model)
    blocks = tower.transformer.resblocks
    if not (tower.transformer.batch_first and all(type(block) is ResidualAttentionBlock for block in blocks)):
        return partial(_compute_in_autocast, base)
    return partial(_compute_features, copy_tower(base, _HALF))


def _compute_features(tower: Any, embedded: Tensor, last: Tensor) -> Tensor:
    """Compute what `compute_text_features` does, but the row that all texts of a causal tower begin with only once.

    Nothing that follows changes what blocks make of it. Of a single word, within begin and end, that is a third of the
    work.
    """
    texts, length, width = embedded.shape
    if tower.attn_mask is None or length < 2 or not torch.equal(embedded[:, 0], embedded[:1, 0].expand(texts, width)):
        return compute_text_features(tower, embedded, last)
    mask = tower.attn_mask[1:length, :length]
    start = embedded[0, :1] + tower.positional_embedding[:1]
    others = embedded[:, 1:] + tower.positional_embedding[1:length]
    hidden = torch.cat([start, others.flatten(0, 1)])  # (1 + texts * (length - 1), width)

    def add_start(every: Tensor) -> Tensor:
        """Return what belongs to each text, with the start, (texts, length, width)."""
        return torch.cat([every[:1].expand(texts, 1, width), every[1:].view(texts, length - 1, width)], 1)

    for block in tower.transformer.resblocks[:-1]:
        normed = block.ln_1(hidden)
        queries, keys, values = block.attn.project(normed, normed)
        seen = block.attn.compute_attention(
            queries[1:].view(texts, length - 1, width), add_start(keys), add_start(values), mask
        )
        hidden = hidden + block.ls_1(block.attn.merge(torch.cat([values[:1].float(), seen.flatten(0, 1)])))
        hidden = hidden + block.ls_2(block.mlp(block.ln_2(hidden)))
    return read_off(tower, add_start(hidden), last)


def copy_tower(base: Base, kind: torch.dtype) -> Any:
    """Return a text tower whose products are of this `kind`: the base's, but its blocks are copies.

    Their `attn` are `Attention`. The base's tower has to be one of open_clip's plain blocks.
    """
    tower: Any = getattr(base.model, "text", base.model)
    blocks = [copy.deepcopy(block) for block in tower.transformer.resblocks]
    for block in blocks:  # attention and perceptron compute in `kind`, and take and give float32
        block.attn, block.mlp = Attention(block.attn, kind), _Perceptron(block.mlp, kind)
    others = ("attn_mask", "positional_embedding", "ln_final", "text_projection")
    transformer = SimpleNamespace(resblocks=blocks, batch_first=True)
    return SimpleNamespace(transformer=transformer, **{name: getattr(tower, name) for name in others})


def _compute_in_autocast(base: Base, embedded: Tensor, last: Tensor) -> Tensor:
    with torch.autocast(base.device.type, _HALF):
        return base.compute_text_features(embedded, last).float()


class _Perceptron(nn.Module):
    """A module in another `kind` that takes and gives float32."""

    def __init__(self, module: nn.Module, kind: torch.dtype) -> None:
        super().__init__()
        self.module, self.kind = module.to(kind), kind

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.module(hidden.to(self.kind))
        return output.float()


class Attention(nn.Module):
    """`nn.MultiheadAttention` over one sequence, called as open_clip's blocks call it.

    What is between its projections is in float32: on a CPU its gradient in bfloat16 takes sixteen times as long.
    """

    def __init__(self, attention: nn.MultiheadAttention, kind: torch.dtype) -> None:
        super().__init__()
        self.projections, self.num_heads, self.kind = attention.to(kind), attention.num_heads, kind

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        if attn_mask is not None and attn_mask.dim() == 3:
            attn_mask = attn_mask.view(len(query), self.num_heads, *attn_mask.shape[1:])
        return self.merge(self.compute_attention(*self.project(query, key), attn_mask)), None

    def compute_attention(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Return what each of the `queries` (n, asking, width) sees of `values` (n, seen, width), in float32."""
        seen = F.scaled_dot_product_attention(self._split(queries), self._split(keys), self._split(values), mask)
        return seen.transpose(1, 2).flatten(2)

    def merge(self, attended: Tensor) -> Tensor:
        """Project what the heads saw, and return it in float32."""
        merged: Tensor = self.projections.out_proj(attended.to(self.kind))
        return merged.float()

    def project(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project `query` (…, asking, width) and `key` (…, seen, width) to queries, keys and values."""
        weights, biases, width = self.projections.in_proj_weight, self.projections.in_proj_bias, query.shape[-1]
        if query is key:
            queries, keys, values = F.linear(query.to(self.kind), weights, biases).chunk(3, dim=-1)
        else:
            queries = F.linear(query.to(self.kind), weights[:width], biases[:width])
            keys, values = F.linear(key.to(self.kind), weights[width:], biases[width:]).chunk(2, dim=-1)
        return queries, keys, values

    def _split(self, hidden: Tensor) -> Tensor:
        """Return (n, length, width) as (n, heads, length, width / heads) in float32."""
        return hidden.float().view(*hidden.shape[:2], self.num_heads, -1).transpose(1, 2)
