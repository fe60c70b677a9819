"""The methods that the table compares, as data, and the trainer that follows them. What the product does is inherited.

A further method is one small file: a subclass of `MethodTrainer` that overrides the step in which it differs, and a
`Method` of that `kind`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.corpus import Corpus
from model.encoder import Encoder
from model.objectives import CrossLingual, CrossModal, Objective
from model.table import NO_ROW, TokenRows, View
from model.teir import ScaledAdamW
from model.training import LearnSettings, Trainer

_MODAL_WEIGHT = 0.01  # of the cross-modal loss beside the cross-lingual one, as published; alone it weighs 1
# The names of the losses in results and checkpoints, which stay although the functions have moved
_LOSSES = {"published": "model.objectives.published", "balanced": ["model.objectives.balanced", {"share": 0.1}]}


class StepScaledAdamW(ScaledAdamW):
    """Scales Adam's step instead of the gradient: Adam divides a constant factor on gradients out again."""

    def move(self) -> None:
        before = self.table.clone()
        self.adam.step()
        self.table.copy_(before + self.scale * (self.table - before))


class MethodTrainer(Trainer):
    """Trains one language by a `Method`."""

    def __init__(
        self, method: "Method", encoder: Encoder, parent: View, corpus: Corpus, folder: Path, settings: LearnSettings
    ) -> None:
        self.method = method
        aligned = replace(settings, start="aligned" if method.start == "aligned" else "drawn")
        super().__init__(encoder, parent, corpus, folder, aligned)

    def new_rows(self, count: int, table: Iterable[Tensor], generator: torch.Generator) -> Tensor:
        if self.method.start != "normal":
            return super().new_rows(count, table, generator)
        return self.method.spread * torch.randn((count, next(iter(table)).shape[1]), generator=generator)

    def row_scale(self, frequency: NDArray[np.int64]) -> Tensor:
        scale = super().row_scale(frequency)
        if self.method.scale == "none":
            scale[: len(frequency)] = 1
        if self.method.dense or self.method.ends:
            scale[len(frequency) :] = 1
        return scale

    def losses(self) -> Sequence[Objective]:
        if self.method.losses == "balanced":
            return super().losses()
        return [CrossLingual(), CrossModal(1.0 if bool(self.corpus.english.isnan().all()) else _MODAL_WEIGHT)]

    def optimizer(self) -> ScaledAdamW:
        kind = StepScaledAdamW if self.method.scale == "step" else ScaledAdamW
        return kind(self.rows, self.scale, [*self.beside().values()], self.settings.weight_decay)

    def kept(self) -> TokenRows:
        if not (self.method.dense or self.method.ends):
            return super().kept()
        order = np.argsort(self.ids)
        rows = TokenRows(self.ids[order], self.rows.detach().cpu()[torch.from_numpy(order)])
        return self._whole_table(rows) if self.method.dense else rows

    def _whole_table(self, taught: TokenRows) -> TokenRows:
        """All rows after plain AdamW over the whole table: those taught here, and idle ones decayed."""
        physical = self.parent.physical
        held = np.flatnonzero(physical != NO_ROW)
        ids = np.union1d(held, taught.ids).astype(np.int64)
        rows = torch.empty((len(ids), taught.rows.shape[1]))
        parents = self.encoder.table.rows[torch.from_numpy(physical[held]).long()].cpu()
        rows[torch.from_numpy(np.searchsorted(ids, held))] = self._idle() * parents
        rows[torch.from_numpy(np.searchsorted(ids, taught.ids))] = taught.rows
        return TokenRows(ids, rows)

    def _idle(self) -> float:
        """What is left of a row without a gradient after all steps: the product of its decays."""
        rates = (self.settings.rate(step, self.steps) for step in range(1, self.steps + 1))
        return math.prod(1 - rate * self.settings.weight_decay for rate in rates)

    def key(self) -> dict[str, object]:
        return self.method.key()


@dataclass(frozen=True)
class Method:
    """How a language is trained.

    `start`: new rows are drawn like all elements of the table ("table": TEIR) or from N(0, `spread`²) ("normal"), or
    start as the mean of the English rows that they stand for ("aligned").
    `scale`: the gradient of a row, or its step, is multiplied by 1 / f, where f languages trained it; or by 1 ("none").
    `dense`: plain AdamW over the whole table: every row decays, idle ones too, and begin and end of text move. It needs
    `scale` "none", ValueError otherwise. `ends`: begin and end of text are trained and stored with the language.
    `losses`: weighed as published, or "balanced" as in the product. `kind`: the trainer that follows all this.
    """

    start: Literal["aligned", "table", "normal"] = "table"
    spread: float = 0.02  # CLIP's own initialisation of token rows
    scale: Literal["gradient", "step", "none"] = "gradient"
    dense: bool = False
    ends: bool = False
    losses: Literal["published", "balanced"] = "published"
    kind: type[MethodTrainer] = MethodTrainer

    def __post_init__(self) -> None:
        if self.dense and self.scale != "none":
            raise ValueError("plain AdamW over the whole table scales no row")

    def trainer(
        self, encoder: Encoder, parent: View, corpus: Corpus, folder: Path, settings: LearnSettings
    ) -> MethodTrainer:
        """The trainer of one language on top of `parent`."""
        return self.kind(self, encoder, parent, corpus, folder, settings)

    def key(self) -> dict[str, object]:
        """What results and checkpoints must agree on, in the words of the first ones."""
        rows = {name: getattr(self, name) for name in ("start", "spread", "scale", "dense", "ends")}
        kind = {} if self.kind is MethodTrainer else {"kind": self.kind.__qualname__}
        recorded = {"student": "model.method._frozen", "lesson": "model.method._as_it_is"}
        return {**rows, "objectives": _LOSSES[self.losses], **recorded, **kind}


CLL_CLIP = Method(start="normal", scale="none", dense=True)
TEIR_INIT = Method(scale="none", dense=True)
TEIR_REG = Method(start="normal")
TEIR = Method()
PRODUCT = Method(losses="balanced")
ALIGNED = replace(PRODUCT, start="aligned")
