"""What tells one way of teaching a language from another, as data: the training loop knows no method by name.

The published methods are points of a small space (CLL-CLIP + TEIR, AAAI 2024, its ablation): where new rows start, how
far a row may move that others use, and whether the rest of the table is left alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import teir
from model.base import Base
from model.corpus import Corpus
from model.objectives import Objective, balanced, published

Student = Callable[[Tensor, Tensor], Tensor]  # token rows (n, length, width), ends (n,) -> features (n, dimension)


def _frozen(base: Base) -> Student:
    """The base's own text tower, of which nothing is trained."""
    return base.text_features


def _as_it_is(corpus: Corpus) -> Corpus:
    return corpus


@dataclass(frozen=True)
class Method:
    """How the table is taught.

    `start`: new rows are drawn like the whole table's elements ("table": TEIR) or from N(0, `spread`²) ("normal").
    `scale`: a row's gradient, or its step, is multiplied by 1 / f, f the languages that trained it; or by 1 ("none").
    `dense`: plain AdamW over the whole table, which decays every row, idle ones too, and moves begin and end of text;
    it goes with `scale` "none" alone, ValueError otherwise. `ends`: begin and end of text are taught too, and kept with
    the language, as a dense method does anyhow.
    `objectives`: what the features are asked, as terms of the loss. `student`: what makes features of rows; the
    parameters of a module are trained beside the rows (adapters), and are the caller's to keep. `lesson`: what is
    taught from, made of the new language's corpus (with captions of older ones: replay).
    """

    start: Literal["table", "normal"] = "table"
    spread: float = 0.02  # CLIP's own initialisation of token rows
    scale: Literal["gradient", "step", "none"] = "gradient"
    dense: bool = False
    ends: bool = False
    objectives: Callable[[Corpus], Sequence[Objective]] = published
    student: Callable[[Base], Student] = _frozen
    lesson: Callable[[Corpus], Corpus] = _as_it_is

    def __post_init__(self) -> None:
        if self.dense and self.scale != "none":
            raise ValueError("plain AdamW over the whole table scales no row")

    def new_rows(self, count: int, table: Iterable[Tensor], generator: torch.Generator) -> Tensor:
        """Rows (count, width) for tokens that have none yet; `table`: all rows so far, in blocks (n, width)."""
        if self.start == "table":
            return teir.new_rows(count, table, generator)
        return self.spread * torch.randn((count, next(iter(table)).shape[1]), generator=generator)

    def row_scale(self, frequency: NDArray[np.int64]) -> Tensor:
        """Factors (n + 2, 1) of the corpus's rows and of the two specials, which TEIR freezes."""
        own = torch.ones(len(frequency), 1) if self.scale == "none" else teir.row_scale(frequency)
        return torch.cat([own, torch.full((2, 1), float(self.dense or self.ends))])

    def key(self) -> dict[str, object]:
        """What a checkpoint must agree on; of functions, their names and what is bound to them."""
        return {field.name: _named(getattr(self, field.name)) for field in fields(self)}


def _named(value: object) -> object:
    if isinstance(value, partial):
        return [_named(value.func), *value.args, value.keywords]
    return f"{value.__module__}.{getattr(value, '__qualname__', value)}" if callable(value) else value


CLL_CLIP = Method(start="normal", scale="none", dense=True)
TEIR_INIT = Method(start="table", scale="none", dense=True)
TEIR_REG = Method(start="normal", scale="gradient")
TEIR = Method()
DEFAULT = Method(objectives=partial(balanced, share=0.1))  # what an expansion teaches with (docs/decisions/0020)
