"""From token rows to text features through a frozen text tower of open_clip. Knows no tokens and trains nothing."""

from collections.abc import Mapping
from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn


def text_features(tower: Any, embedded: Tensor, last: Tensor) -> Tensor:
    """Features (n, dimension), not normalised, of token rows `embedded` (n, length, width) read off at `last` (n,).

    As the tower's own forward pass would give them. Only one place of each text is read, so in the last block only that
    place is worked out: with the four blocks of the bundled base a fifth of the time. Differentiable in `embedded`.
    """
    length = embedded.shape[1]
    causal = tower.attn_mask[:length, :length]
    hidden = embedded + tower.positional_embedding[:length]  # (n, length, width)
    *earlier, final = tower.transformer.resblocks
    if type(final) is ResidualAttentionBlock and tower.transformer.batch_first:
        for block in earlier:
            hidden = block(hidden, attn_mask=causal)
        read = _read_off(final, hidden, last)
    else:
        read = _at(tower.transformer(hidden, attn_mask=causal), last)
    pooled: Tensor = tower.ln_final(read)  # (n, width)
    projection = tower.text_projection
    if isinstance(projection, nn.Linear):
        pooled = projection(pooled)
    elif projection is not None:
        pooled = pooled @ projection
    return pooled


def supports_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 in hardware: then a training step is faster in it, elsewhere far slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    told: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases of torch do not tell
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))


def _at(hidden: Tensor, last: Tensor) -> Tensor:
    return hidden[torch.arange(len(last), device=hidden.device), last]  # (n, width)


def _read_off(block: ResidualAttentionBlock, hidden: Tensor, last: Tensor) -> Tensor:
    """What a block makes of `hidden` (n, length, width) at `last` (n,), where it sees nothing that stands later."""
    places = torch.arange(hidden.shape[1], device=hidden.device)
    later = hidden.new_zeros((len(last), 1, len(places)))
    later.masked_fill_(places > last[:, None, None], -torch.inf)
    unseen = later.repeat_interleave(block.attn.num_heads, dim=0)  # (n * heads, 1, length)
    normed = block.ln_1(hidden)
    found = block.attention(_at(normed, last)[:, None], normed, normed, attn_mask=unseen)  # (n, 1, width)
    here: Tensor = _at(hidden, last) + block.ls_1(found[:, 0])
    read: Tensor = here + block.ls_2(block.mlp(block.ln_2(here)))
    return read
