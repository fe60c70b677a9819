"""P-Tuning: thirty keys and values before each text in every block, one set for each language.

X. Liu et al., 2022. As the reference runs it, which is with its library's defaults, since its own configuration is
never read: 30 places, made by a perceptron of 512 with tanh. The language of a query is given.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.methods import tower
from benchmarks.methods.adapted import Adapted, measure_width

LENGTH, HIDDEN = 30, 512


class Prefix(nn.Module):
    """Keys and values of all blocks, from one embedding a place."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(LENGTH, width))
        self.deep = nn.Sequential(nn.Linear(width, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, blocks * 2 * width))
        self.width = width

    def of(self, block: int) -> tuple[Tensor, Tensor]:
        """Return keys and values (1, 30, width) of one block."""
        made = self.deep(self.places)[None]
        keys, values = made[..., 2 * block * self.width : 2 * (block + 1) * self.width].chunk(2, dim=-1)
        return keys, values


class PTuning(Adapted):
    """One prefix a tower."""

    @staticmethod
    def made(opened: Any) -> nn.Module:
        return Prefix(measure_width(opened), len(opened.transformer.resblocks))

    @staticmethod
    def entered(opened: Any, parts: Any) -> None:
        for number, block in enumerate(opened.transformer.resblocks):
            tower.attend_before(block, partial(parts.of, number))
