"""The whole text tower is trained, and not its rows alone: what the paper's choice of the rows is held against.

A language goes on from the weights that the one before left. Matrices decay in every step, as in the reference.
"""

import copy
from typing import Any

from torch import Tensor, nn

from benchmarks.methods import tower
from benchmarks.methods.trainer import Features, SuiteTrainer, list_matrices
from model.base import Base
from model.checkpoint import CachedResult

_OTHERS = ("positional_embedding", "ln_final", "text_projection")  # beside the blocks


class Whole(SuiteTrainer):
    """In float32, since weights that are trained cannot be kept in bfloat16."""

    def __init__(self, *inputs: Any, **more: Any) -> None:
        super().__init__(*inputs, **more)
        opened = open_loose(self.encoder.base, self.left)
        self.weights, self.student = _read_weights(opened), tower.features(opened)

    def get_extra_parameters(self) -> dict[str, nn.Parameter]:
        return super().get_extra_parameters() | self.weights

    def decayed(self) -> list[nn.Parameter]:
        return list_matrices(self.weights.values())

    def leaves(self) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in self.weights.items()}

    @staticmethod
    def reads(base: Base, left: CachedResult, language: str, half: bool) -> Features:
        return tower.features(open_loose(base, left))


def open_loose(base: Base, left: CachedResult) -> Any:
    """Return a tower for `features` that shares nothing with the base's; its weights are those `left`, if any are."""
    opened = tower.open_tower(base, half=False)
    for name in _OTHERS:
        setattr(opened, name, copy.deepcopy(getattr(opened, name)))
    for name, weight in _read_weights(opened).items():
        weight.requires_grad_(True)
        if left.tensors:
            weight.data.copy_(left.tensors[name])
    return opened


def _read_weights(opened: Any) -> dict[str, nn.Parameter]:
    parts = {name: getattr(opened, name) for name in _OTHERS}
    parts |= {f"block{number}": block for number, block in enumerate(opened.transformer.resblocks)}
    found: dict[str, nn.Parameter] = {}
    for name, part in parts.items():
        found |= {name: part} if isinstance(part, nn.Parameter) else dict(part.named_parameters(name))
    return found
