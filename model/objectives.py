"""What a language is taught by: one small class each for the cross-lingual and the cross-modal loss.

Formulas: CLL-CLIP, section "objectives" (yangbang18/CLFM, clfm/losses/CLLoss.py).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MODAL_WEIGHT = 0.01  # beside the cross-lingual loss; alone, the cross-modal loss weighs 1


class CrossLingual:
    """Pulls a caption's feature to the teacher's feature of its English text: mean squared error, un-normalised."""

    weight = 1.0

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean over captions and dimensions; both (n, dimension)."""
        return F.mse_loss(student, teacher)


class CrossModal(nn.Module):
    """Pulls a caption to its picture and away from the batch's other pictures: symmetric contrastive loss.

    Captions of one picture share its target mass. `temperature` divides the cosines; it is learned, starts at 0.07 for
    every language and is held within 0.001..0.5 before each use.
    """

    def __init__(self, weight: float = MODAL_WEIGHT) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = nn.Parameter(torch.tensor(0.07))

    def forward(self, student: Tensor, pictures: Tensor, owner: Tensor) -> Tensor:
        """`student` and `pictures` (n, dimension), caption beside its picture; `owner` (n,) numbers the pictures."""
        with torch.no_grad():
            self.temperature.clamp_(0.001, 0.5)
        logits = F.normalize(student, dim=-1) @ F.normalize(pictures, dim=-1).T / self.temperature  # (n, n)
        same = (owner[:, None] == owner[None, :]).to(logits.dtype)
        target = same / same.sum(dim=1, keepdim=True)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
