"""The two frozen towers of a base: what computes them, torch itself, and what this machine can. Trains nothing.

A vector belongs to its encoding as it belongs to its weights, so both are in its fingerprint: vectors of two encodings
are never compared with each other. OpenVINO's towers are in `model/openvino.py`.
"""

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from store.bases import FLOAT32, TORCH, Encoding

if TYPE_CHECKING:
    from model.base import Base

Features = NDArray[np.float32]


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
    """Copy a CLIP without its token table, which may be most of it: rows come from `model.table`."""
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
