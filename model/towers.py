"""The two frozen towers of a base: what computes them, torch itself, what this machine can; how a training reads text.

A vector belongs to its encoding as it belongs to its weights, so both are in its fingerprint: vectors of two encodings
are never compared with each other. OpenVINO's towers are in `model/openvino.py`.

A training has matrix products in bfloat16, everything between them in float32. That is several times as fast as
autocast on a processor with such instructions: autocast converts the frozen weights again in every step, and torch's
own attention copies them for every text (docs/decisions/0048).
"""

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional as F

from store.bases import FLOAT32, TORCH, Encoding

if TYPE_CHECKING:
    from model.base import Base

Features = NDArray[np.float32]
_HALF = torch.bfloat16


class Towers(Protocol):
    """Both towers of a base, ready to compute; thread-safe."""

    @property
    def encoding(self) -> Encoding:
        """Return what computes them."""

    @property
    def independent(self) -> bool:
        """Return whether a text has the same bits in every batch that `make_batches` makes, as it has alone."""

    def make_batches(self, lengths: Sequence[int], most: int) -> Iterator[tuple[list[int], int]]:
        """Yield texts of these lengths in batches of at most `most`: their places, and the length to fill up to."""

    def encode_texts(self, rows: Tensor, last: Tensor) -> Features:
        """Compute features (n, dimension), not normalised, of token rows (n, length, width) read off at `last` (n,)."""

    def encode_pictures(self, pixels: Tensor) -> Features:
        """Compute features (n, dimension), not normalised, of pixels (n, 3, side, side)."""


def compute_text_features(tower: Any, embedded: Tensor, last: Tensor) -> Tensor:
    """Return features (n, dimension), not normalised, of token rows `embedded` (n, length, width), at `last` (n,).

    Equal to the tower's own forward pass, causal or not. Only one place of each text is read, so the last block
    computes only that place, which saves a fifth of the time with the four blocks of the bundled base. Differentiable
    in `embedded`.
    """
    length = embedded.shape[1]
    causal = None if tower.attn_mask is None else tower.attn_mask[:length, :length]
    hidden = embedded + tower.positional_embedding[:length]  # (n, length, width)
    *earlier, final = tower.transformer.resblocks
    if type(final) is ResidualAttentionBlock and tower.transformer.batch_first:
        for block in earlier:
            hidden = block(hidden, attn_mask=causal)
        return read_off(tower, hidden, last)
    return _project(tower, _take_places(tower.transformer(hidden, attn_mask=causal), last))


def read_off(tower: Any, hidden: Tensor, last: Tensor) -> Tensor:
    """Return features (n, dimension) at `last` (n,) of what all blocks but the last one made of texts."""
    final = tower.transformer.resblocks[-1]
    return _project(tower, _compute_output_at(final, hidden, last, tower.attn_mask is not None))


def _project(tower: Any, output: Tensor) -> Tensor:
    pooled: Tensor = tower.ln_final(output)  # (n, width)
    projection = tower.text_projection
    if isinstance(projection, nn.Linear):
        pooled = projection(pooled)
    elif projection is not None:
        pooled = pooled @ projection
    return pooled


class TorchTowers:
    """A base in float32, or a copy of it in bfloat16."""

    independent = False  # a matrix product may round differently in a larger batch (decision 25)

    def __init__(self, base: "Base", precision: str = FLOAT32) -> None:
        self.encoding = Encoding(TORCH, precision)
        self._dtype = getattr(torch, precision)
        self._device = base.device
        self._model = base.model if precision == FLOAT32 else copy_without_table(base.model).to(self._dtype)

    def make_batches(self, lengths: Sequence[int], most: int) -> Iterator[tuple[list[int], int]]:
        """Batch texts of like length together, so that little is filled up."""
        by_length = sorted(range(len(lengths)), key=lambda place: lengths[place])
        for start in range(0, len(by_length), most):
            places = by_length[start : start + most]
            yield places, lengths[places[-1]]

    @torch.inference_mode()
    def encode_texts(self, rows: Tensor, last: Tensor) -> Features:
        tower = getattr(self._model, "text", self._model)
        features = compute_text_features(tower, rows.to(self._device, self._dtype), last.to(self._device))
        return features.float().cpu().numpy()

    @torch.inference_mode()
    def encode_pictures(self, pixels: Tensor) -> Features:
        encode = self._model.encode_image
        return encode(pixels.to(self._device, self._dtype)).float().cpu().numpy()  # type: ignore[operator, no-any-return]


def copy_without_table(model: nn.Module) -> nn.Module:
    """Copy a CLIP without its token table, which may be most of it: rows come from `model.encoder`."""
    tower: Any = getattr(model, "text", model)
    return copy.deepcopy(model, {id(tower.token_embedding): nn.Identity()})


def _take_places(hidden: Tensor, last: Tensor) -> Tensor:
    places = torch.arange(last.shape[0], device=hidden.device)  # `shape`, not `len`: a compiler must see the size
    return hidden[places, last]  # (n, width)


def _compute_output_at(block: ResidualAttentionBlock, hidden: Tensor, last: Tensor, causal: bool) -> Tensor:
    """Compute a block's output for `hidden` (n, length, width) at `last` (n,); if `causal`, nothing later counts."""
    unseen = _mask_later(block, hidden, last) if causal else None
    normed = block.ln_1(hidden)
    attended = block.attention(_take_places(normed, last)[:, None], normed, normed, attn_mask=unseen)  # (n, 1, width)
    residual: Tensor = _take_places(hidden, last) + block.ls_1(attended[:, 0])
    output: Tensor = residual + block.ls_2(block.mlp(block.ln_2(residual)))
    return output


def _mask_later(block: ResidualAttentionBlock, hidden: Tensor, last: Tensor) -> Tensor:
    """Return what a block adds to its attention to see nothing later than `last` (n,), (n * heads, 1, length)."""
    places = torch.arange(hidden.shape[1], device=hidden.device)
    later = torch.zeros_like(last, dtype=hidden.dtype)[:, None, None].masked_fill(
        places > last[:, None, None], -torch.inf
    )
    return later.repeat_interleave(block.attn.num_heads, dim=0)


def choose_device() -> torch.device:
    """Return a GPU if there is one; `CUDA_VISIBLE_DEVICES` chooses among several, and hides all when it is empty."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def can_multiply_bfloat16(device: torch.device) -> bool:
    """Return whether `device` multiplies bfloat16 in hardware; else a training step is far slower in it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    return has_instructions("avx512_bf16") or has_instructions("amx_bf16")


def has_instructions(instructions: str) -> bool:
    """Return whether this processor has them, by torch's name."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases of torch lack it
    return bool(capabilities.get(instructions))


def is_any_allowed(*instructions: str) -> bool:
    """Return whether oneDNN, which torch and OpenVINO call, may use one of these: a variable can rule them out."""
    most = os.environ.get("ONEDNN_MAX_CPU_ISA", "DEFAULT").upper()
    return most in ("DEFAULT", "ALL") or any(name in most for name in instructions)


def make_bfloat16_tower(base: "Base") -> Callable[[Tensor, Tensor], Tensor]:
    """Return the base's text tower but for rounding, differentiable in the rows; other blocks in autocast."""
    tower: Any = getattr(base.model, "text", base.model)
    blocks = tower.transformer.resblocks
    if not (tower.transformer.batch_first and all(type(block) is ResidualAttentionBlock for block in blocks)):
        return partial(_compute_in_autocast, base)
    return partial(_compute_features, copy_tower(base, _HALF))


def _compute_features(tower: Any, embedded: Tensor, last: Tensor) -> Tensor:
    """Compute features (n, dimension) of token rows, the one that all texts of a causal tower begin with only once.

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


def copy_tower(base: "Base", kind: torch.dtype) -> Any:
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


def _compute_in_autocast(base: "Base", embedded: Tensor, last: Tensor) -> Tensor:
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
