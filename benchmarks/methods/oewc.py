"""Online elastic weight consolidation: rows that mattered to earlier languages are pulled back to where they were.

J. Schwarz et al., "Progress & Compress", 2018; in the reference 1000 · Σ F (θ - θ')² with γ = 1: F, the mean squared
gradient of a batch, is summed over the languages. Repaired: the reference took F at the last epoch's weights and θ'
from the best one's; here both are the language's last. Only rows are trained, so F is theirs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.methods.trainer import SuiteTrainer

STRENGTH = 1_000.0


class OEWC(SuiteTrainer):
    """Without TEIR every row that has a Fisher is trained, since the penalty holds it against its decay."""

    def __init__(self, *inputs: Any, **more: Any) -> None:
        super().__init__(*inputs, **more)
        self.before = self.rows.detach().clone()
        self.fisher = self._of_left().to(self.device)

    def find_trained_ids(self, lines: Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
        own = super().find_trained_ids(lines)
        held = self.left.tensors.get("ids")
        if held is None or not self.method.dense:
            return own
        return np.setdiff1d(np.union1d(own, held.numpy()), np.array(self.reading.specials))

    def compute_loss(self, batch: NDArray[np.int64]) -> Tensor:
        return super().compute_loss(batch) + STRENGTH * (self.fisher * (self.rows - self.before).square()).sum()

    def leaves(self) -> dict[str, Tensor]:
        """Go over the captions once more for F: the mean over batches of the squared gradient of the batch's mean."""
        total, count = torch.zeros_like(self.rows), 0
        for batch in np.array_split(np.arange(len(self.corpus.captions)), self._batches()):
            (gradient,) = torch.autograd.grad(super().compute_loss(batch), self.rows)
            total += gradient.square()
            count += 1
        ids, order = np.unique(self.ids, return_index=True)
        here = (self.fisher + total / count).cpu()[torch.from_numpy(order)]
        held = self.left.tensors.get("ids")
        if held is None:
            return {"ids": torch.from_numpy(ids), "fisher": here}
        every = np.union1d(ids, held.numpy())
        fisher = torch.zeros((len(every), here.shape[1]))
        fisher[torch.from_numpy(np.searchsorted(every, held.numpy()))] = self.left.tensors["fisher"]
        fisher[torch.from_numpy(np.searchsorted(every, ids))] = here
        return {"ids": torch.from_numpy(every), "fisher": fisher}

    def _batches(self) -> int:
        return -(-len(self.corpus.captions) // self.settings.batch_size)

    def _of_left(self) -> Tensor:
        """Return F (m, width) of the rows that are trained here; 0 of new ones."""
        found = torch.zeros(self.rows.shape)
        if "ids" in self.left.tensors:
            held = self.left.tensors["ids"].numpy()
            known = np.isin(self.ids, held)
            places = np.searchsorted(held, self.ids[known])
            found[torch.from_numpy(known)] = self.left.tensors["fisher"][torch.from_numpy(places)]
        return found
