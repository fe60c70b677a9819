"""The methods that the table compares, as data, and the trainer that follows them. What the product does is inherited.

A further method is one small file: a subclass of `MethodTrainer` that overrides the step in which it differs, and a
`Method` of that `kind`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.emoji36 import sources
from model.checkpoint import TokenRows
from model.encoder import NO_ROW, Encoder, View
from model.objectives import Corpus, CrossLingual, CrossModal, Objective, ScaledAdamW
from model.training import LearnSettings, Trainer

_WIDER = 1.55  # the published start N(0, 0.02²) over the deviation of CLIP's rows, 0.0129
_LOST = 0.031  # of an idle row in one language, as published: rate 5e-5, decay 0.05, 13,281 steps with a warm-up
_MODAL_WEIGHT = 0.01  # of the cross-modal loss beside the cross-lingual one, as published; alone it weighs 1
# The names of the losses in results and checkpoints, which stay although the functions have moved
_LOSSES: dict[str, object] = {
    "published": "model.objectives.published",
    "balanced": ["model.objectives.balanced", {"share": 0.1}],
    "lingual": "model.objectives.CrossLingual",
    "modal": "model.objectives.CrossModal",
}


class StepScaledAdamW(ScaledAdamW):
    """Scales Adam's step instead of the gradient: Adam divides a constant factor on gradients out again."""

    def move(self) -> None:
        before = self.table.clone()
        self.adam.step()
        self.table.copy_(before + self.scale * (self.table - before))


class PartlyScaledAdamW(ScaledAdamW):
    """Scales the gradient by another factor than the decay."""

    def __init__(self, table: nn.Parameter, scale: Tensor, decayed: Tensor, others: list[nn.Parameter], decay: float):
        super().__init__(table, decayed, others, decay)
        self.on_gradient = scale

    def move(self) -> None:
        if self.table.grad is not None:
            self.table.grad.mul_(self.on_gradient)
        self.adam.step()


class FromZero(LearnSettings):
    """As the reference counts its warm-up: the first step moves nothing."""

    def compute_rate(self, step: int, steps: int) -> float:
        return super().compute_rate(step - 1, steps)


class MethodTrainer(Trainer):
    """Trains one language by a `Method`."""

    def __init__(
        self, method: "Method", encoder: Encoder, parent: View, corpus: Corpus, folder: Path, settings: LearnSettings
    ) -> None:
        self.method = method
        kind = FromZero if method.proportion else LearnSettings
        start: Literal["drawn", "aligned"] = "aligned" if method.start == "aligned" else "drawn"
        super().__init__(encoder, parent, corpus, folder, kind(**{**asdict(settings), "start": start}))

    def draw_rows(self, count: int, table: Iterable[Tensor], generator: torch.Generator) -> Tensor:
        if self.method.start != "normal":
            return super().draw_rows(count, table, generator)
        spread = _WIDER * float(self.encoder.base.table.std()) if self.method.proportion else self.method.spread
        return spread * torch.randn((count, next(iter(table)).shape[1]), generator=generator)

    def compute_row_scale(self, frequency: NDArray[np.int64]) -> Tensor:
        scale = super().compute_row_scale(frequency)
        if self.method.scale == "none":
            scale[: len(frequency)] = 1
        if (self.method.dense or self.method.ends) and self.method.scales == "both":
            scale[len(frequency) :] = 1
        return scale

    @property
    def decay(self) -> float:
        """The decay of a step at rate 1; in the paper's proportion, whatever the steps, a row loses 3.1 %."""
        if not self.method.proportion:
            return self.settings.weight_decay
        return -math.log1p(-_LOST) / sum(
            self.settings.compute_rate(step, self.steps) for step in range(1, self.steps + 1)
        )

    def make_objectives(self) -> Sequence[Objective]:
        if self.method.losses == "balanced":
            return super().make_objectives()
        if self.method.losses == "lingual":
            return [CrossLingual()]
        if self.method.losses == "modal":
            return [CrossModal()]
        return [CrossLingual(), CrossModal(1.0 if bool(self.corpus.pivot_features.isnan().all()) else _MODAL_WEIGHT)]

    def make_optimizer(self) -> ScaledAdamW:
        beside, alike = [*self.get_extra_parameters().values()], torch.ones_like(self.scale)
        if self.method.scales == "gradient":
            return PartlyScaledAdamW(self.rows, self.scale, alike, beside, self.decay)
        if self.method.scales == "decay":
            return PartlyScaledAdamW(self.rows, alike, self.scale, beside, self.decay)
        kind = StepScaledAdamW if self.method.scale == "step" else ScaledAdamW
        return kind(self.rows, self.scale, beside, self.decay)

    def collect_rows(self) -> TokenRows:
        if not self.method.moves_ends:
            return super().collect_rows()
        order = np.argsort(self.ids)
        rows = TokenRows(self.ids[order], self.rows.detach().cpu()[torch.from_numpy(order)])
        return self._read_whole_table(rows) if self.method.dense else rows

    def _read_whole_table(self, taught: TokenRows) -> TokenRows:
        """Return all rows after plain AdamW over the whole table: those taught here, and idle ones decayed."""
        physical = self.parent.physical
        held = np.flatnonzero(physical != NO_ROW)
        ids = np.union1d(held, taught.ids).astype(np.int64)
        rows = torch.empty((len(ids), taught.rows.shape[1]))
        parents = self.encoder.table.rows[torch.from_numpy(physical[held]).long()].cpu()
        rows[torch.from_numpy(np.searchsorted(ids, held))] = self.idle() * parents
        rows[torch.from_numpy(np.searchsorted(ids, taught.ids))] = taught.rows
        return TokenRows(ids, rows)

    def idle(self) -> float:
        """Return what is left of a row without a gradient after all steps: the product of its decays."""
        rates = (self.settings.compute_rate(step, self.steps) for step in range(1, self.steps + 1))
        return math.prod(1 - rate * self.decay for rate in rates)

    def describe_method(self) -> dict[str, object]:
        return self.method.key()


@dataclass(frozen=True)
class Method:
    """How a language is trained.

    `start`: new rows are drawn like all elements of the table ("table": TEIR) or from N(0, `spread`²) ("normal"), or
    start as the mean of the English rows that they stand for ("aligned").
    `scale`: the gradient of a row, or its step, is multiplied by 1 / f, where f languages trained it; or by 1 ("none").
    `dense`: plain AdamW over the whole table: every row decays, idle ones too, and begin and end of text move. It needs
    `scale` "none", ValueError otherwise. `ends`: begin and end of text are trained and stored with the language.
    `losses`: weighed as published, "balanced" as in the product, or one of the two alone. `kind`: the trainer that
    follows all this.
    `scales`: what the row scale is on; with "gradient" every row decays alike, which needs `dense`; with "decay" every
    row's gradient counts in full, that of begin and end of text too.
    `proportion`: start, decay and warm-up in the paper's proportion: "normal" is 1.55 times the deviation of the base's
    own rows, an idle row loses 3.1 % in a language, and the first step has the rate 0.
    """

    start: Literal["aligned", "table", "normal"] = "table"
    spread: float = 0.02  # CLIP's own initialisation of token rows
    scale: Literal["gradient", "step", "none"] = "gradient"
    dense: bool = False
    ends: bool = False
    losses: Literal["published", "balanced", "lingual", "modal"] = "published"
    kind: type[MethodTrainer] = MethodTrainer
    scales: Literal["both", "gradient", "decay"] = "both"
    proportion: bool = False

    def __post_init__(self) -> None:
        if self.dense and self.scale != "none" and self.scales != "gradient":
            raise ValueError("plain AdamW over the whole table scales no row")
        if self.scales == "gradient" and not self.dense:
            raise ValueError("a scale on the gradient alone leaves the decay of every row")

    @property
    def moves_ends(self) -> bool:
        """Whether begin and end of text change with a language."""
        return self.dense or self.ends or self.scales == "decay"

    def trainer(
        self, encoder: Encoder, parent: View, corpus: Corpus, folder: Path, settings: LearnSettings, *more: Any
    ) -> MethodTrainer:
        """Return the trainer of one language on top of `parent`; `more` is what its `kind` takes besides."""
        return self.kind(self, encoder, parent, corpus, folder, settings, *more)

    def key(self) -> dict[str, object]:
        """Return what results and checkpoints must agree on, in the words of the first ones.

        Of a further method its code, too, so that a change of it is never taken for what was there before.
        """
        rows = {name: getattr(self, name) for name in ("start", "spread", "scale", "dense", "ends")}
        kind: dict[str, object] = {}
        if self.kind is not MethodTrainer:
            kind = {"kind": self.kind.__qualname__, "code": sources.digest(self.kind.__module__)}
        kind |= {} if self.scales == "both" else {"scales": self.scales}
        kind |= {"proportion": True} if self.proportion else {}
        recorded = {"student": "model.method._frozen", "lesson": "model.method._as_it_is"}
        return {**rows, "objectives": _LOSSES[self.losses], **recorded, **kind}


CLL_CLIP = Method(start="normal", scale="none", dense=True)
TEIR_INIT = Method(scale="none", dense=True)
TEIR_REG = Method(start="normal")
TEIR = Method()
PRODUCT = Method(losses="balanced")
ALIGNED = replace(PRODUCT, start="aligned")
