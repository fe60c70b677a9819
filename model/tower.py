"""The frozen towers of open_clip as torch computes them: from token rows and pixels to features. Trains nothing."""

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from model.backends import FLOAT32, TORCH, Encoding, Features

if TYPE_CHECKING:
    from model.base import Base


def text_features(tower: Any, embedded: Tensor, last: Tensor) -> Tensor:
    """Features (n, dimension), not normalised, of token rows `embedded` (n, length, width) read off at `last` (n,).

    Equal to the tower's own forward pass. Only one place of each text is read, so the last block computes only that
    place, which saves a fifth of the time with the four blocks of the bundled base. Differentiable in `embedded`.
    """
    length = embedded.shape[1]
    causal = tower.attn_mask[:length, :length]
    hidden = embedded + tower.positional_embedding[:length]  # (n, length, width)
    *earlier, final = tower.transformer.resblocks
    if type(final) is ResidualAttentionBlock and tower.transformer.batch_first:
        for block in earlier:
            hidden = block(hidden, attn_mask=causal)
        read = _output_at(final, hidden, last)
    else:
        read = _at(tower.transformer(hidden, attn_mask=causal), last)
    pooled: Tensor = tower.ln_final(read)  # (n, width)
    projection = tower.text_projection
    if isinstance(projection, nn.Linear):
        pooled = projection(pooled)
    elif projection is not None:
        pooled = pooled @ projection
    return pooled


class TorchTowers:
    """A base in float32, or a copy of it in bfloat16."""

    independent = False  # a matrix product may round differently in a larger batch (decision 8)

    def __init__(self, base: "Base", precision: str = FLOAT32) -> None:
        self.encoding = Encoding(TORCH, precision)
        self._dtype = getattr(torch, precision)
        self._device = base.device
        self._model = base.model if precision == FLOAT32 else copy.deepcopy(base.model).to(self._dtype)

    def batches(self, lengths: Sequence[int], most: int) -> Iterator[tuple[list[int], int]]:
        """As `Towers.batches`: texts of like length together, so that little is filled up."""
        by_length = sorted(range(len(lengths)), key=lambda place: lengths[place])
        for start in range(0, len(by_length), most):
            places = by_length[start : start + most]
            yield places, lengths[places[-1]]

    @torch.inference_mode()
    def texts(self, rows: Tensor, last: Tensor) -> Features:
        """As `Towers.texts`."""
        tower = getattr(self._model, "text", self._model)
        features = text_features(tower, rows.to(self._device, self._dtype), last.to(self._device))
        return features.float().cpu().numpy()

    @torch.inference_mode()
    def pictures(self, pixels: Tensor) -> Features:
        """As `Towers.pictures`."""
        encode = self._model.encode_image
        return encode(pixels.to(self._device, self._dtype)).float().cpu().numpy()  # type: ignore[operator, no-any-return]


def supports_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 in hardware: then a training step is faster in it, elsewhere far slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    return cpu_has("avx512_bf16") or cpu_has("amx_bf16")


def cpu_has(instructions: str) -> bool:
    """Whether this processor has them, by torch's name."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases of torch lack it
    return bool(capabilities.get(instructions))


def allowed(*instructions: str) -> bool:
    """Whether oneDNN, which torch and OpenVINO call, may use one of these: its own variable can rule them out."""
    most = os.environ.get("ONEDNN_MAX_CPU_ISA", "DEFAULT").upper()
    return most in ("DEFAULT", "ALL") or any(name in most for name in instructions)


def _at(hidden: Tensor, last: Tensor) -> Tensor:
    places = torch.arange(last.shape[0], device=hidden.device)  # `shape`, not `len`: a compiler must see the size
    return hidden[places, last]  # (n, width)


def _output_at(block: ResidualAttentionBlock, hidden: Tensor, last: Tensor) -> Tensor:
    """A block's output for `hidden` (n, length, width) at `last` (n,), where it attends to nothing later."""
    places = torch.arange(hidden.shape[1], device=hidden.device)
    later = torch.zeros_like(last, dtype=hidden.dtype)[:, None, None].masked_fill(
        places > last[:, None, None], -torch.inf
    )
    unseen = later.repeat_interleave(block.attn.num_heads, dim=0)  # (n * heads, 1, length)
    normed = block.ln_1(hidden)
    attended = block.attention(_at(normed, last)[:, None], normed, normed, attn_mask=unseen)  # (n, 1, width)
    here: Tensor = _at(hidden, last) + block.ls_1(attended[:, 0])
    read: Tensor = here + block.ls_2(block.mlp(block.ln_2(here)))
    return read
