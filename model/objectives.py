"""What a language is learned from, and the losses: one small class each, cross-lingual and cross-modal.

Formulas: CLL-CLIP, section "objectives" (yangbang18/CLFM, clfm/losses/CLLoss.py).
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from model.checkpoint import Kept, keep, kept
from model.tokenizer import Tokenizer

_SHARE = 0.1  # of the features' mean square that the cross-modal loss weighs (docs/decisions/0048)
_BLOCK = 8_192  # captions whose features are read at a time
NONE = -1  # in `Corpus.owner`: this caption has no picture


@dataclass(frozen=True)
class Corpus:
    """Cleaned captions, features of their pivots and of their pictures.

    `english` (n, dimension) are features of the texts that the captions are paired with, in English or another served
    language, a row of NaN where a caption has none; `pictures` (m, dimension); `owner` (n,) the row in `pictures` of
    each caption, `NONE` where it has none. All float32, not normalised or normalised alike. `texts` (n,) are those
    texts, None where a caption has none that the base reads; empty where only their features are known.
    """

    language: str
    captions: Sequence[str]
    english: Tensor
    pictures: Tensor
    owner: Tensor
    texts: Sequence[str | None] = ()

    def sha256(self) -> str:
        """Names captions, English texts and features; part of what a checkpoint belongs to."""
        digest = hashlib.sha256(json.dumps([[*self.captions], [*self.texts]], ensure_ascii=False).encode())
        for tensor in (self.english, self.pictures, self.owner):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Tokens:
    """`tokenizer`: the parent's, grown on the captions; `ids`: of each caption (n,) int32, without begin and end."""

    tokenizer: Tokenizer
    ids: Sequence[NDArray[np.int32]]


def tokenized(parent: Tokenizer, captions: Sequence[str], vocabulary: int, folder: Path) -> Tokens:
    """The tokens that `folder` keeps of these captions on this parent, or else made now and kept there."""
    key = [parent.sha256, vocabulary, *captions]
    earlier = kept(folder, key)
    if earlier is not None:
        merges = [(left, right) for left, right in earlier.facts["merges"]]
        ids = np.split(earlier.tensors["ids"].numpy(), earlier.tensors["ends"].numpy()[:-1])
        return Tokens(parent.extend(merges, earlier.facts["words"]), ids)
    grown = parent.grown(captions, vocabulary)
    ids = [np.asarray(line, dtype=np.int32) for line in grown.encode(captions)]
    packed = {"ids": np.concatenate(ids), "ends": np.cumsum([len(line) for line in ids])}
    facts = {"merges": grown.added[len(parent.added) :], "words": grown.words[len(parent.words) :]}
    keep(folder, key, Kept({name: torch.from_numpy(values) for name, values in packed.items()}, facts))
    return Tokens(grown, ids)


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
