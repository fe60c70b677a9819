"""CodaPrompt: prompts are sums of components, five a language, weighed by how the query attends to each.

J. S. Smith et al., 2023; in the reference 180 components of length 2 in blocks 0 to 4 of twelve, here in five twelfths
of them, begun by Gram-Schmidt against all earlier ones, without a loss for orthogonality. Repaired, as `CodaPrompt`:
the reference replaces the prompts after it has made the optimizer, so they are never trained, and their gradients,
never cleared within an epoch and still scaled for half precision, count in the norm to which the rows' gradient is
clipped; its pad mask stood on the wrong side of the prompts. `Untrained` is as the reference but for the mask.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.methods.prompted import Prompts, PromptTrainer, count_of
from benchmarks.methods.trainer import Decaying
from model.base import Base
from model.checkpoint import CachedResult
from model.objectives import ScaledAdamW

EACH, LENGTH = 5, 2
SCALED = 65_536.0  # a gradient scaler's first factor


class CodaPrompt(PromptTrainer):
    """For every block keys and attentions (components, dimension) and prompts (components, 2 · width)."""

    @staticmethod
    def blocks(base: Base) -> list[int]:
        return [*range(max(1, round(count_of(base) * 5 / 12)))]

    def fresh(self, left: CachedResult, width: int, dimension: int, random: torch.Generator) -> dict[str, Tensor]:
        sizes = {"key": dimension, "attention": dimension, "prompt": LENGTH * width}
        made = {}
        for block in self.blocks(self.encoder.base):
            for name, size in sizes.items():
                earlier = [value for key, value in left.tensors.items() if key.startswith(f"{block}/{name}/")]
                made[f"{block}/{name}/{self.corpus.language}"] = draw_orthogonal(earlier, size, random)
        return made

    @staticmethod
    def chosen(every: dict[str, Tensor], query: Tensor) -> Prompts:
        prompts = {}
        for block in sorted({int(name.split("/")[0]) for name in every}):
            keys, attentions, components = (
                torch.cat([value for name, value in every.items() if name.startswith(f"{block}/{part}/")])
                for part in ("key", "attention", "prompt")
            )
            weights = F.cosine_similarity(query[:, None] * attentions, keys[None], dim=-1)  # (n, components)
            prompts[block] = (weights @ components).view(len(query), LENGTH, -1)
        return prompts


class Untrained(CodaPrompt):
    """The published figures' CodaPrompt: the prompts stay as they began, and damp the steps of the rows.

    The sums of their gradients are in the checkpoint, as parameters that nothing moves.
    """

    def __init__(self, *inputs: Any, **more: Any) -> None:
        super().__init__(*inputs, **more)
        zeros = {f"sum/{name}": torch.zeros_like(value) for name, value in self.trained.items()}
        self.sums = {name: nn.Parameter(value, requires_grad=False) for name, value in zeros.items()}

    def get_extra_parameters(self) -> dict[str, nn.Parameter]:
        return super().get_extra_parameters() | self.sums

    def make_optimizer(self) -> ScaledAdamW:
        epoch = math.ceil(len(self.corpus.captions) / self.settings.batch_size)
        return Damped(super().make_optimizer(), [*self.trained.values()], [*self.sums.values()], epoch)


class Damped(Decaying):
    """Clips with the gradients of `idle`, summed over an epoch and scaled, and moves none of these."""

    def __init__(self, inner: ScaledAdamW, idle: list[nn.Parameter], sums: list[nn.Parameter], epoch: int) -> None:
        super().__init__(inner.inner if isinstance(inner, Decaying) else inner, [])
        self.idle, self.sums, self.epoch = idle, sums, epoch

    @torch.no_grad()
    def step(self, learning_rate: float, clip: float) -> None:
        done = int(self.adam.state[self.table]["step"]) if self.table in self.adam.state else 0
        for total, each in zip(self.sums, self.idle, strict=True):
            assert each.grad is not None
            total.mul_(0.0 if done % self.epoch == 0 else 1.0).add_(SCALED * each.grad)
            each.grad = total.clone()
        super().step(learning_rate, clip)

    def move(self) -> None:
        for each in self.idle:
            each.grad = None
        super().move()


def draw_orthogonal(earlier: list[Tensor], size: int, random: torch.Generator) -> Tensor:
    """Return five unit vectors (5, size), drawn at random, orthogonal to each other and to all `earlier` ones."""
    found: list[Tensor] = [row for block in earlier for row in F.normalize(block.double(), dim=-1)]
    basis = [*torch.linalg.qr(torch.stack(found).T).Q.T] if found else []
    for _ in range(EACH):
        drawn = torch.randn(size, generator=random, dtype=torch.float64)
        for _twice in range(2):  # the second time takes away what rounding left
            for row in basis:
                drawn = drawn - (drawn @ row) * row
        basis.append(F.normalize(drawn, dim=0))
    return torch.stack(basis[-EACH:]).float()
