"""Methods with parameters for each language inside of the frozen tower; the table of rows is shared and trained too.

A text is read with the parameters of its own language, so that has to be given, as in the reference.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.methods import tower
from benchmarks.methods.trainer import Features, SuiteTrainer, list_matrices
from model.base import Base
from model.checkpoint import CachedResult


class Adapted(SuiteTrainer):
    """A further one is what `made` and `entered` say."""

    def __init__(self, *inputs: Any, **more: Any) -> None:
        super().__init__(*inputs, **more)
        opened = tower.open_tower(self.encoder.base, self.half)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            self.parts = self.made(opened)
        self.entered(opened, self.parts)
        self.student = tower.features(opened)

    @staticmethod
    @abstractmethod
    def made(opened: Any) -> nn.Module:
        """Return new parameters of one language for a tower."""

    @staticmethod
    @abstractmethod
    def entered(opened: Any, parts: nn.Module) -> None:
        """Put them into the tower."""

    def get_extra_parameters(self) -> dict[str, nn.Parameter]:
        return super().get_extra_parameters() | dict(self.parts.named_parameters("part"))

    def decayed(self) -> list[nn.Parameter]:
        return list_matrices(self.parts.parameters())

    def leaves(self) -> dict[str, Tensor]:
        own = {f"{self.corpus.language}/{name}": value for name, value in self.parts.state_dict().items()}
        return {**self.left.tensors, **own}

    @classmethod
    def reads(cls, base: Base, left: CachedResult, language: str, half: bool) -> Features:
        opened = tower.open_tower(base, half)
        parts, start = cls.made(opened), f"{language}/"
        own = {name.removeprefix(start): value for name, value in left.tensors.items() if name.startswith(start)}
        parts.load_state_dict(own)
        cls.entered(opened, parts.requires_grad_(False))
        return tower.features(opened)


def measure_width(opened: Any) -> int:
    """Return the width of a tower."""
    width: int = opened.positional_embedding.shape[1]
    return width
