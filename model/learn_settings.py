"""What a user may set of a training, and what follows from it and the size of the dataset."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch

from model.machine import supports_bfloat16

_RATE, _MOST_EPOCHS = 4e-3, 40
_MEASURED = 10_000  # captions up to which an aligned start was measured
_EPOCHS, _STEPS, _SEEN = 12, 48, 40_000  # of one: times that each is seen; least steps; captions in all


@dataclass(frozen=True)
class LearnSettings:
    """What a user may set; `epochs` and `checkpoint_every` 0 mean: by the size of the dataset.

    So do `start` "auto" and a rate of None: see `settled`.
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

        By default up to 10,000 captions start aligned; more, and rows of pieces, start drawn. From an aligned start
        a row has less far to go: in 30 to 60 % of the steps, the smaller the more captions there are, languages read as
        well in the mean (decision 48).
        """
        start = self.start
        if start == "auto":
            start = "aligned" if captions <= _MEASURED and begins == "drawn" else "drawn"
        if start == "drawn":
            return replace(self, start=start)
        least = math.ceil(_STEPS / math.ceil(captions / self.batch_size))
        epochs = min(_MOST_EPOCHS, max(3, least, min(_EPOCHS, _SEEN // captions)))
        rate = max(_RATE / 2, min(_RATE, 2 / captions)) if self.learning_rate is None else self.learning_rate
        return replace(self, start=start, learning_rate=rate, epochs=self.epochs or epochs)

    def epochs_for(self, captions: int) -> int:
        """Small datasets are seen more often: drawn, about 70,000 captions in all, 3 to 40 times each (decision 48)."""
        return self.epochs or min(_MOST_EPOCHS, max(3, math.ceil(70_000 / captions)))

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of `step`, counted from 1: a linear rise, a plateau, a linear fall."""
        risen = step / max(1.0, self.warmup * steps)
        left = (steps + 1 - step) / max(1.0, self.cooldown * steps)
        return (_RATE if self.learning_rate is None else self.learning_rate) * min(1.0, risen, left)

    def uses_bfloat16(self, device: torch.device) -> bool:
        """Whether the frozen tower is to compute in bfloat16 on `device`."""
        return self.mixed_precision and supports_bfloat16(device)
