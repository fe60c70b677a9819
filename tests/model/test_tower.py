"""Reading off one place of the last block gives what the whole forward pass gives, and the same gradient."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from model.towers import can_multiply_bfloat16, compute_text_features

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


@pytest.mark.parametrize(
    ("told", "expected"), [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True}, False)]
)
def test_a_processor_that_has_bfloat16_is_asked_for_it(
    told: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert can_multiply_bfloat16(torch.device("cpu")) is expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert can_multiply_bfloat16(torch.device("cpu")) is False
    assert can_multiply_bfloat16(torch.device("meta")) is False


@pytest.mark.skipif(not CPUINFO.exists() or not hasattr(torch.cpu, "get_capabilities"), reason="nobody else to ask")
def test_this_processor_is_told_rightly() -> None:
    """Under whatever names torch's release has for them."""
    assert can_multiply_bfloat16(torch.device("cpu")) is bool(
        {"avx512_bf16", "amx_bf16"} & set(CPUINFO.read_text().split())
    )


class Doubled(torch.nn.Module):
    def forward(self, hidden: torch.Tensor, attn_mask: torch.Tensor) -> torch.Tensor:
        return 2 * hidden
