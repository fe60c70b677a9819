"""What a user may set of a training, and what follows from it and the size of the dataset."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch

from model.machine import supports_bfloat16

_RATE, _MOST_EPOCHS = 4e-3, 40
_FEW, _FEW_EPOCHS, _FEW_STEPS = 1_000, 12, 48  # captions that need fewer steps, and how many


@dataclass(frozen=True)
class LearnSettings:
    """What a user may set; `epochs` and `checkpoint_every` 0 mean: by the size of the dataset.

    So does `start` "auto", and with it a rate of None: see `settled`.
    """

    epochs: int = 0
    batch_size: int = 64
    learning_rate: float | None = None
    weight_decay: float = 0.05
    warmup: float = 0.1  # share of the steps in which the rate rises
    cooldown: float = 0.9  # share of the steps, at the end, in which it falls to nothing; 0: constant, as published
    clip: float = 1.0  # global gradient norm
    vocabulary: int = 10_000  # most tokens of the language's own BPE
    start: Literal["auto", "drawn", "aligned"] = "auto"  # new rows: as TEIR draws them, or by English rows
    seed: int = 0
    mixed_precision: bool = True  # the frozen tower in bfloat16 where the processor has it; rows and Adam in float32
    checkpoint_every: int = 0  # steps

    def settled(self, captions: int, begins: str) -> "LearnSettings":
        """These for a dataset of so many captions, with a tokenizer whose new rows are "drawn" or of "pieces".

        By default up to 1,000 captions start aligned, at twice the rate, and are seen 12 times, in 48 steps at least:
        they read no worse than in three times as many steps from a drawn start (decision 44). More start drawn.
        """
        if self.start != "auto":
            return self
        if captions > _FEW or begins != "drawn":
            return replace(self, start="drawn")
        epochs = max(_FEW_EPOCHS, math.ceil(_FEW_STEPS / math.ceil(captions / self.batch_size)))
        rate = 2 * _RATE if self.learning_rate is None else self.learning_rate
        return replace(self, start="aligned", learning_rate=rate, epochs=self.epochs or min(_MOST_EPOCHS, epochs))

    def epochs_for(self, captions: int) -> int:
        """Small datasets are seen more often: about 70,000 captions in all, 3 to 40 times each (decision 27)."""
        return self.epochs or min(_MOST_EPOCHS, max(3, math.ceil(70_000 / captions)))

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of `step`, counted from 1: a linear rise, a plateau, a linear fall."""
        risen = step / max(1.0, self.warmup * steps)
        left = (steps + 1 - step) / max(1.0, self.cooldown * steps)
        return (_RATE if self.learning_rate is None else self.learning_rate) * min(1.0, risen, left)

    def uses_bfloat16(self, device: torch.device) -> bool:
        """Whether the frozen tower is to compute in bfloat16 on `device`."""
        return self.mixed_precision and supports_bfloat16(device)
