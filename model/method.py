"""What tells one way of teaching a language from another, as data: the training loop knows no method by name.

The published methods are points of a small space (CLL-CLIP + TEIR, AAAI 2024, its ablation): where new rows start, how
far a row may move that others use, and whether the rest of the table is left alone.
"""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import teir

_PLAIN_STD = 0.02  # CLIP's own initialisation of token rows


@dataclass(frozen=True)
class Method:
    """How the table is taught.

    `start`: new rows are drawn like the whole table's elements ("table": TEIR) or from N(0, 0.02²) ("normal").
    `scale`: a row's gradient, or its step, is multiplied by 1 / f, f the languages that trained it; or by 1 ("none").
    `dense`: plain AdamW over the whole table, which decays every row, idle ones too, and moves begin and end of text.
    """

    start: Literal["table", "normal"] = "table"
    scale: Literal["gradient", "step", "none"] = "gradient"
    dense: bool = False

    def new_rows(self, count: int, table: Tensor, generator: torch.Generator) -> Tensor:
        """Rows (count, width) for tokens that have none yet."""
        if self.start == "table":
            return teir.new_rows(count, table, generator)
        return _PLAIN_STD * torch.randn((count, table.shape[1]), generator=generator)

    def row_scale(self, frequency: NDArray[np.int64]) -> Tensor:
        """Factors (n + 2, 1) of the corpus's rows and of the two specials, which TEIR freezes."""
        own = torch.ones(len(frequency), 1) if self.scale == "none" else teir.row_scale(frequency)
        return torch.cat([own, torch.full((2, 1), float(self.dense))])

    def key(self) -> dict[str, object]:
        """What a checkpoint must agree on."""
        return asdict(self)


CLL_CLIP = Method(start="normal", scale="none", dense=True)
TEIR_INIT = Method(start="table", scale="none", dense=True)
TEIR_REG = Method(start="normal", scale="gradient")
TEIR = Method()
