"""LoRA: queries and values of every block get a product of two thin matrices, one for each language.

E. J. Hu et al., 2022, as the reference sets it up: rank 8, α 8, no dropout. The language of a query is given.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.methods import tower
from benchmarks.methods.adapted import Adapted, measure_width

RANK = 8  # and α, so that the product is not scaled


class Thin(nn.Module):
    """(…, width) to what is added to a projection; zero at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Parameter(torch.empty(RANK, width)), nn.Parameter(torch.zeros(width, RANK))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, hidden: Tensor) -> Tensor:
        return F.linear(F.linear(hidden, self.down), self.up)


class LoRA(Adapted):
    """Two products a block."""

    @staticmethod
    def made(opened: Any) -> nn.Module:
        width = measure_width(opened)
        return nn.ModuleList(nn.ModuleList([Thin(width), Thin(width)]) for _ in opened.transformer.resblocks)

    @staticmethod
    def entered(opened: Any, parts: Any) -> None:
        for block, (queries, values) in zip(opened.transformer.resblocks, parts, strict=True):
            tower.add_beside(block, queries, values)
