"""The suite's methods once more, slowly and obviously: one text, one head, one place at a time, and AdamW by hand.

Everything in float64, from the published formulas; nothing of the methods' own code is used.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Part = Callable[[Tensor], Tensor]


def nothing(hidden: Tensor) -> Tensor:
    return torch.zeros_like(hidden)


@dataclass
class Changed:
    """What a method puts into one block."""

    queries: Part = nothing
    values: Part = nothing
    behind: Part = nothing
    seen: Sequence[tuple[Tensor, Tensor]] = field(default_factory=list)  # keys and values (width,) before the text


PLAIN = Changed()


def feature(tower: Any, rows: Tensor, changed: Sequence[Changed]) -> Tensor:
    """Return the feature (dimension,) of one text (length, width), read off at its last place."""
    hidden = [row + place for row, place in zip(rows, tower.positional_embedding, strict=False)]
    for block, change in zip(tower.transformer.resblocks, changed, strict=True):
        normed = [block.ln_1(each) for each in hidden]
        attended = attention(block.attn, normed, change)
        hidden = [each + added for each, added in zip(hidden, attended, strict=True)]
        hidden = [each + block.mlp(block.ln_2(each)) for each in hidden]
        hidden = [each + change.behind(each) for each in hidden]
    read: Tensor = tower.ln_final(hidden[-1]) @ tower.text_projection
    return read


def attention(attn: Any, normed: Sequence[Tensor], change: Changed) -> list[Tensor]:
    width, heads = len(normed[0]), attn.num_heads
    weights, biases = attn.in_proj_weight, attn.in_proj_bias
    made = [
        [weights[k * width : (k + 1) * width] @ each + biases[k * width : (k + 1) * width] for each in normed]
        for k in range(3)
    ]
    queries = [each + change.queries(seen) for each, seen in zip(made[0], normed, strict=True)]
    values = [each + change.values(seen) for each, seen in zip(made[2], normed, strict=True)]
    keys = [key for key, _ in change.seen] + made[1]
    values = [value for _, value in change.seen] + values
    found, size = [], width // heads
    for place, query in enumerate(queries):
        visible = len(change.seen) + place + 1
        parts = []
        for head in range(heads):
            cut = slice(head * size, (head + 1) * size)
            scores = torch.stack([query[cut] @ key[cut] / math.sqrt(size) for key in keys[:visible]])
            shares = scores.exp() / scores.exp().sum()
            parts.append(
                sum((share * value[cut] for share, value in zip(shares, values, strict=False)), torch.zeros(()))
            )
        found.append(attn.out_proj.weight @ torch.cat(parts) + attn.out_proj.bias)
    return found


def mean_square(features: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    squares = [((one - other) ** 2).sum() for one, other in zip(features, targets, strict=True)]
    return torch.stack(squares).sum() / (len(features) * len(features[0]))


def contrastive(
    features: Sequence[Tensor], pictures: Sequence[Tensor], owner: Sequence[int], temperature: Tensor
) -> Tensor:
    """Return captions of one picture share its target."""
    count = len(features)
    logits = [[one @ other / (one.norm() * other.norm()) / temperature for other in pictures] for one in features]
    total = torch.zeros((), dtype=torch.float64)
    for i in range(count):
        alike = [j for j in range(count) if owner[j] == owner[i]]
        row = torch.stack(logits[i])
        column = torch.stack([logits[j][i] for j in range(count)])
        for scores in (row, column):
            total = total - sum((scores[j] - scores.exp().sum().log() for j in alike), torch.zeros(())) / len(alike)
    return total / (2 * count)


@dataclass
class ByHand:
    """AdamW: the gradient's norm is clipped to 1, a tensor decays by rate · decay · its factor, then Adam's step."""

    tensors: list[Tensor]
    decays: list[Tensor | float]  # factor of the decay
    scales: list[Tensor | float]  # factor of the gradient
    decay: float

    def __post_init__(self) -> None:
        self.first = [torch.zeros_like(each) for each in self.tensors]
        self.second = [torch.zeros_like(each) for each in self.tensors]
        self.steps = 0

    def step(self, loss: Tensor, rate: float, more: Sequence[Tensor] = ()) -> None:
        """Take a step; `more` are gradients that count in the norm and belong to nothing that moves."""
        gradients = torch.autograd.grad(loss, self.tensors)
        norm = math.sqrt(sum(float((each**2).sum()) for each in [*gradients, *more]))
        share = min(1.0, 1.0 / (norm + 1e-6))
        self.steps += 1
        with torch.no_grad():
            for k, (tensor, gradient) in enumerate(zip(self.tensors, gradients, strict=True)):
                scaled = share * gradient * self.scales[k]
                tensor *= 1 - rate * self.decay * self.decays[k]
                self.first[k] = 0.9 * self.first[k] + 0.1 * scaled
                self.second[k] = 0.999 * self.second[k] + 0.001 * scaled**2
                mean = self.first[k] / (1 - 0.9**self.steps)
                square = self.second[k] / (1 - 0.999**self.steps)
                tensor -= rate * mean / (square.sqrt() + 1e-6)
