"""Dark experience replay: as `er`, but remembered pairs are pulled to the student's own features of their past.

P. Buzzega et al., 2020. A pair's feature is the one of the last step that taught it, so that of a student which knows
it: the reference's reservoir meets each pair once an epoch, and mostly keeps one of a later epoch. Repairs as in `er`.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.methods.er import ER


class DER(ER):
    """The features noted so far are in the checkpoint, as a parameter that nothing moves."""

    def __init__(self, *inputs: Any, **more: Any) -> None:
        super().__init__(*inputs, **more)
        nowhere = torch.full((len(self.own.captions), self.encoder.dimension), torch.nan)
        self.noted = nn.Parameter(nowhere.to(self.device), requires_grad=False)

    def get_extra_parameters(self) -> dict[str, nn.Parameter]:
        return super().get_extra_parameters() | {"noted": self.noted}

    def encode_batch(self, batch: NDArray[np.int64]) -> Tensor:
        features = super().encode_batch(batch)
        new = torch.from_numpy(batch[batch < len(self.own.captions)]).to(self.device)
        self.noted[new] = features[: len(new)].detach()
        return features

    def targets(self) -> Tensor:
        return self.noted.detach().cpu()
