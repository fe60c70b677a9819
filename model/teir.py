"""TEIR: how new token-embedding rows start, and how much older ones may move (CLL-CLIP + TEIR, AAAI 2024)."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Vector = NDArray[np.float64]
_BLOCK = 8_192  # rows of the table that are weighed at a time


def new_rows(count: int, existing: Iterable[Tensor], generator: torch.Generator) -> Tensor:
    """Rows (count, width) drawn from N(mean, std²) of all elements of the table, which comes in blocks (rows, width).

    Scalars over all elements, std unbiased: the published choice. In blocks, since the table may fill the memory.
    """
    elements, total, squares, width = 0, 0.0, 0.0, 0
    for block in existing:
        exact, width = block.double(), block.shape[1]
        elements, total = elements + block.numel(), total + exact.sum().item()
        squares += exact.square().sum().item()
    mean = total / elements
    std = math.sqrt(max(0.0, squares - elements * mean**2) / (elements - 1))
    return torch.randn((count, width), generator=generator) * std + mean


def meant_rows(
    said: NDArray[np.int64], meant: NDArray[np.int64], probability: Vector, table: Tensor, drawn: Tensor
) -> Tensor:
    """Rows (k, width) of the k tokens in `said` (m,), ascending: the mean of the rows of `table` that each stands for.

    `meant` (m,) are these rows, and `probability` (m,) sums to 1 over each token. A mean of many rows is smaller than
    one row. What it lacks comes from `drawn` (k, width), the rows as they would start otherwise: nothing where one
    meaning is sure, nearly all where none is. Not published, but measured (docs/decisions/0048).
    """
    tokens, place = np.unique(said, return_inverse=True)
    rows = torch.zeros((len(tokens), table.shape[1]), dtype=torch.float64)
    for start in range(0, len(said), _BLOCK):
        block = slice(start, start + _BLOCK)
        weighted = torch.from_numpy(probability[block])[:, None] * table[torch.from_numpy(meant[block])]
        rows.index_add_(0, torch.from_numpy(place[block]), weighted)
    sure = np.bincount(place, probability**2)  # the variance of such a mean over that of one row
    lacking = torch.from_numpy(np.sqrt(np.maximum(0.0, 1.0 - sure)))[:, None]
    return (rows + lacking * drawn).float()


def row_scale(frequency: NDArray[np.int64]) -> Tensor:
    """1 / f per row, (n, 1) float32: the more languages trained a row, the less this one may move it."""
    return torch.from_numpy((1.0 / frequency).astype(np.float32)).unsqueeze(1)


class ScaledAdamW:
    """AdamW over a table whose gradient and decay are scaled per row, and over `others` without scale and decay.

    Order of one step as published: decay W *= 1 - lr * decay * scale, then gradient *= scale, then Adam. A row of scale
    0 keeps every bit.
    """

    def __init__(self, table: nn.Parameter, scale: Tensor, others: list[nn.Parameter], decay: float) -> None:
        self.table, self.scale, self.decay = table, scale, decay
        self.adam = torch.optim.Adam([table, *others], lr=0.0, betas=(0.9, 0.999), eps=1e-6, foreach=False)

    @torch.no_grad()
    def step(self, learning_rate: float, clip: float) -> None:
        """Clip the global gradient norm (before scaling), then move; gradients are cleared."""
        (group,) = self.adam.param_groups
        group["lr"] = learning_rate
        torch.nn.utils.clip_grad_norm_(group["params"], clip)
        self.table.mul_(1 - learning_rate * self.decay * self.scale)
        self.move()
        self.adam.zero_grad(set_to_none=True)

    def move(self) -> None:
        """Adam's step, on scaled gradients."""
        if self.table.grad is not None:
            self.table.grad.mul_(self.scale)
        self.adam.step()
