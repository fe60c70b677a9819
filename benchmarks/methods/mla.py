"""MLA: a bottleneck of half the width behind every block, one for each language, with a ReLU.

G. Zhang et al., "Generalizing Multimodal Pre-training into Multilingual via Language Acquisition", 2022, as the
reference sets it up: it reads a block's output, what the perceptron adds and what it adds to, and is added to it; no
layer norm of its own, all weights from N(0, 0.02²). The language of a query is given.
"""

from typing import Any

from torch import Tensor, nn

from benchmarks.methods import tower
from benchmarks.methods.adapted import Adapted, measure_width


class Bottleneck(nn.Module):
    """(…, width) to what is added to it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, width // 2), nn.Linear(width // 2, width)
        for linear in (self.down, self.up):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        found: Tensor = self.up(self.down(hidden).relu())
        return found


class MLA(Adapted):
    """One bottleneck a block."""

    @staticmethod
    def made(opened: Any) -> nn.Module:
        return nn.ModuleList(Bottleneck(measure_width(opened)) for _ in opened.transformer.resblocks)

    @staticmethod
    def entered(opened: Any, parts: Any) -> None:
        for block, part in zip(opened.transformer.resblocks, parts, strict=True):
            tower.add_behind(block, part)
