"""Methods whose prompts are chosen by what a text says: a first pass without prompts gives its feature, the query.

Prompts are keys and values that the text sees first in some of the blocks. No language is given.
"""

from abc import abstractmethod
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.methods import tower
from benchmarks.methods.adapted import measure_width
from benchmarks.methods.trainer import Features, SuiteTrainer, list_matrices
from model.base import Base
from model.checkpoint import CachedResult

Prompts = dict[int, Tensor]  # block to (n or 1, length, width); the first half are keys, the others values


class Prompted:
    """A tower with prompts in some blocks: `features` of texts with the prompts that `chosen` gives for their query."""

    def __init__(self, base: Base, blocks: list[int], half: bool) -> None:
        self.plain = tower.features(tower.open_tower(base, half))
        opened = tower.open_tower(base, half)
        self.prompts: Prompts = {}
        for block in blocks:
            tower.attend_before(opened.transformer.resblocks[block], partial(self._seen, block))
        self.width, self.prompted = measure_width(opened), tower.features(opened)

    def _seen(self, block: int) -> tuple[Tensor, Tensor]:
        keys, values = self.prompts[block].chunk(2, dim=1)
        return keys, values

    def query(self, embedded: Tensor, last: Tensor) -> Tensor:
        """Return features (n, dimension) without prompts; no gradient flows through them."""
        with torch.no_grad():
            return self.plain(embedded, last)

    def features(self, embedded: Tensor, last: Tensor, prompts: Prompts) -> Tensor:
        """Return features (n, dimension) with these."""
        self.prompts = prompts
        return self.prompted(embedded, last)


class PromptTrainer(SuiteTrainer):
    """A further one is what these methods say. Parameters of earlier languages stay as they are, undecayed."""

    def __init__(self, *inputs: Any, **more: Any) -> None:
        super().__init__(*inputs, **more)
        self.tower = Prompted(self.encoder.base, self.blocks(self.encoder.base), self.half)
        # no two seeds draw the same, though each language draws anew
        random = torch.Generator().manual_seed(1_000 * self.settings.seed + len(self.left.tensors))
        fresh = self.fresh(self.left, self.tower.width, self.encoder.dimension, random)
        self.trained = {name: nn.Parameter(value.clone()) for name, value in fresh.items()}

    @staticmethod
    @abstractmethod
    def blocks(base: Base) -> list[int]:
        """Return the blocks that have prompts."""

    @abstractmethod
    def fresh(self, left: CachedResult, width: int, dimension: int, random: torch.Generator) -> dict[str, Tensor]:
        """Return what a language trains beside its rows, as it begins; names that were left are trained further."""

    @staticmethod
    @abstractmethod
    def chosen(every: dict[str, Tensor], query: Tensor) -> Prompts:
        """Return the prompts of texts with these queries (n, dimension), out of all parameters."""

    def every(self) -> dict[str, Tensor]:
        """Return all parameters of all languages so far, those that are trained among them."""
        return {**self.left.tensors, **self.trained}

    def get_extra_parameters(self) -> dict[str, nn.Parameter]:
        return super().get_extra_parameters() | self.trained

    def decayed(self) -> list[nn.Parameter]:
        return list_matrices(self.trained.values())

    def compute_features(self, numbers: Tensor, last: Tensor) -> Tensor:
        embedded = self.rows[numbers]
        self.query = self.tower.query(embedded, last)
        return self.tower.features(embedded, last, self.taught(self.query))

    def taught(self, query: Tensor) -> Prompts:
        """Return the prompts of this language's captions."""
        return self.chosen(self.every(), query)

    def leaves(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self.every().items()}

    @classmethod
    def reads(cls, base: Base, left: CachedResult, language: str, half: bool) -> Features:
        opened = Prompted(base, cls.blocks(base), half)

        def read(embedded: Tensor, last: Tensor) -> Tensor:
            return opened.features(embedded, last, cls.chosen(dict(left.tensors), opened.query(embedded, last)))

        return read


def count_of(base: Base) -> int:
    """Return the blocks of a base's text tower."""
    opened: Any = getattr(base.model, "text", base.model)
    return len(opened.transformer.resblocks)
