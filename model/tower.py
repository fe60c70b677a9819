"""The frozen towers of open_clip as torch computes them: from token rows and pixels to features. Trains nothing."""

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from model.backends import Features
from store.encodings import FLOAT32, TORCH, Encoding

if TYPE_CHECKING:
    from model.base import Base


def text_features(tower: Any, embedded: Tensor, last: Tensor) -> Tensor:
    """Features (n, dimension), not normalised, of token rows `embedded` (n, length, width) read off at `last` (n,).

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
        read = _output_at(final, hidden, last, causal is not None)
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

    independent = False  # a matrix product may round differently in a larger batch (decision 25)

    def __init__(self, base: "Base", precision: str = FLOAT32) -> None:
        self.encoding = Encoding(TORCH, precision)
        self._dtype = getattr(torch, precision)
        self._device = base.device
        self._model = base.model if precision == FLOAT32 else without_table(base.model).to(self._dtype)

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


def without_table(model: nn.Module) -> nn.Module:
    """A copy of a CLIP without its token table, which may be most of it: rows come from `model.table`."""
    tower: Any = getattr(model, "text", model)
    return copy.deepcopy(model, {id(tower.token_embedding): nn.Identity()})


def _at(hidden: Tensor, last: Tensor) -> Tensor:
    places = torch.arange(last.shape[0], device=hidden.device)  # `shape`, not `len`: a compiler must see the size
    return hidden[places, last]  # (n, width)


def _output_at(block: ResidualAttentionBlock, hidden: Tensor, last: Tensor, causal: bool) -> Tensor:
    """A block's output for `hidden` (n, length, width) at `last` (n,); if `causal`, it attends to nothing later."""
    unseen = _later(block, hidden, last) if causal else None
    normed = block.ln_1(hidden)
    attended = block.attention(_at(normed, last)[:, None], normed, normed, attn_mask=unseen)  # (n, 1, width)
    here: Tensor = _at(hidden, last) + block.ls_1(attended[:, 0])
    read: Tensor = here + block.ls_2(block.mlp(block.ln_2(here)))
    return read


def _later(block: ResidualAttentionBlock, hidden: Tensor, last: Tensor) -> Tensor:
    """What a block adds to its attention so that nothing later than `last` (n,) is seen, (n * heads, 1, length)."""
    places = torch.arange(hidden.shape[1], device=hidden.device)
    later = torch.zeros_like(last, dtype=hidden.dtype)[:, None, None].masked_fill(
        places > last[:, None, None], -torch.inf
    )
    return later.repeat_interleave(block.attn.num_heads, dim=0)
