"""The losses of a training: one small class each for the cross-lingual and the cross-modal loss.

Formulas: CLL-CLIP, section "objectives" (yangbang18/CLFM, clfm/losses/CLLoss.py).
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.corpus import NONE, Corpus

_SHARE = 0.1  # of the features' mean square that the cross-modal loss weighs (docs/decisions/0048)
_BLOCK = 8_192  # captions whose features are read at a time


class Objective(nn.Module):
    """One term of the loss. Its parameters, if it has any, are trained beside the rows."""

    @abstractmethod
    def of(self, features: Tensor, corpus: Corpus, batch: Tensor) -> Tensor | None:
        """The weighted loss of the student's `features` (n, dimension) of the captions `batch` (n,) of `corpus`.

        None where it does not apply to any of them.
        """


class CrossLingual(Objective):
    """Pulls a caption's feature to the teacher's feature of its English text: mean squared error, un-normalised."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean over captions and dimensions; both (n, dimension)."""
        return F.mse_loss(student, teacher)

    def of(self, features: Tensor, corpus: Corpus, batch: Tensor) -> Tensor | None:
        """Of the captions that have an English text."""
        english = corpus.english[batch].to(features.device)
        translated = ~english.isnan().any(dim=1)
        return self(features[translated], english[translated]) if bool(translated.any()) else None


class CrossModal(Objective):
    """Pulls a caption to its picture and away from the batch's other pictures: symmetric contrastive loss.

    Captions of one picture share its target mass. `temperature` divides the cosines; it is learned, starts at 0.07 for
    every language and is held within 0.001..0.5 before each use.
    """

    def __init__(self, weight: float = 1.0) -> None:
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

    def of(self, features: Tensor, corpus: Corpus, batch: Tensor) -> Tensor | None:
        """Of the captions that have a picture; a single one has no other to be contrasted with."""
        owner = corpus.owner[batch].to(features.device)
        pictured = owner != NONE
        if int(pictured.sum()) < 2:
            return None
        pictures = corpus.pictures[owner[pictured].cpu()].to(features.device)
        loss: Tensor = self(features[pictured], pictures, owner[pictured])
        return self.weight * loss


def balanced(corpus: Corpus) -> list[Objective]:
    """Both losses; the cross-modal one weighs a tenth of the mean square of the teacher's English features.

    The cross-lingual loss grows with that square, the cross-modal one does not: weighed like this, their proportion
    does not depend on how large the features of a base are. For a corpus without any English the weight is 1.
    """
    squares = [block.square().mean(dim=1) for block in torch.split(corpus.english, _BLOCK)]
    weight = _SHARE * float(torch.cat(squares).nanmean())
    return [CrossLingual(), CrossModal(1.0 if bool(corpus.english.isnan().all()) else weight)]
