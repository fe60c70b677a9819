"""Corpora that a language is learned from, and the losses: one small class each, cross-lingual and cross-modal.

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

from model.checkpoint import CachedResult, load_result, save_result
from model.tokenizer import Tokenizer

_SHARE = 0.1  # of the features' mean square that the cross-modal loss weighs (docs/decisions/0048)
_BLOCK = 8_192  # captions whose features are read at a time
NO_PICTURE = -1  # in `Corpus.picture_rows`: this caption has no picture


@dataclass(frozen=True)
class Corpus:
    """Cleaned captions, features of their pivots and of their pictures.

    `pivot_features` (n, dimension) are those of the texts that the captions are paired with, in English or another
    served language, a row of NaN where a caption has none; `pictures` (m, dimension); `picture_rows` (n,) the row in
    `pictures` of each caption, `NO_PICTURE` where it has none. All float32, not normalised or normalised alike.
    `pivot_texts` (n,) are those texts, None where a caption has none that the base reads; empty where only their
    features are known. `others` are captions that the tokenizer is to know, too, and that teach nothing.
    """

    language: str
    captions: Sequence[str]
    pivot_features: Tensor
    pictures: Tensor
    picture_rows: Tensor
    pivot_texts: Sequence[str | None] = ()
    others: Sequence[str] = ()

    def compute_sha256(self) -> str:
        """Return a name of captions, pivots and features; part of what a checkpoint was made from."""
        texts = [[*self.captions], [*self.pivot_texts], [*self.others]]
        digest = hashlib.sha256(json.dumps(texts, ensure_ascii=False).encode())
        for tensor in (self.pivot_features, self.pictures, self.picture_rows):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class CorpusTokens:
    """The `tokenizer` grown on the captions, and each caption's token `ids` (n,) int32, without begin and end."""

    tokenizer: Tokenizer
    ids: Sequence[NDArray[np.int32]]


def tokenize_corpus(parent: Tokenizer, captions: Sequence[str], vocabulary: int, folder: Path) -> CorpusTokens:
    """Return the tokens that `folder` keeps of these captions on this parent, or make them now and keep them there."""
    key = [parent.sha256, vocabulary, *captions]
    cached = load_result(folder, key)
    if cached is not None:
        merges = [(left, right) for left, right in cached.facts["merges"]]
        ids = np.split(cached.tensors["ids"].numpy(), cached.tensors["ends"].numpy()[:-1])
        return CorpusTokens(parent.extend(merges, cached.facts["words"]), ids)
    grown = parent.grow(captions, vocabulary)
    ids = [np.asarray(line, dtype=np.int32) for line in grown.encode(captions)]
    tensors = {"ids": np.concatenate(ids), "ends": np.cumsum([len(line) for line in ids])}
    facts = {"merges": grown.merges[len(parent.merges) :], "words": grown.words[len(parent.words) :]}
    save_result(folder, key, CachedResult({name: torch.from_numpy(values) for name, values in tensors.items()}, facts))
    return CorpusTokens(grown, ids)


class Objective(nn.Module):
    """One term of the loss. Its parameters, if it has any, are trained beside the rows."""

    @abstractmethod
    def compute_loss(self, features: Tensor, corpus: Corpus, batch: Tensor) -> Tensor | None:
        """Return the weighted loss of the student's `features` (n, dimension) of the captions `batch` (n,).

        None where it does not apply to any of them.
        """


class CrossLingual(Objective):
    """Mean squared error between a caption's feature and the teacher's feature of its pivot, un-normalised."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean over captions and dimensions; both (n, dimension)."""
        return F.mse_loss(student, teacher)

    def compute_loss(self, features: Tensor, corpus: Corpus, batch: Tensor) -> Tensor | None:
        english = corpus.pivot_features[batch].to(features.device)
        translated = ~english.isnan().any(dim=1)
        return self(features[translated], english[translated]) if bool(translated.any()) else None


class CrossModal(Objective):
    """Symmetric contrastive loss: pulls a caption to its picture and away from the batch's other pictures.

    Captions of one picture share its target mass. `temperature` divides the cosines; it is learned, starts at 0.07 for
    every language and is held within 0.001..0.5 before each use.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = nn.Parameter(torch.tensor(0.07))

    def forward(self, student: Tensor, pictures: Tensor, owner: Tensor) -> Tensor:
        """Compare captions `student` (n, dimension) with their `pictures`; `owner` (n,) numbers the pictures."""
        with torch.no_grad():
            self.temperature.clamp_(0.001, 0.5)
        logits = F.normalize(student, dim=-1) @ F.normalize(pictures, dim=-1).T / self.temperature  # (n, n)
        same = (owner[:, None] == owner[None, :]).to(logits.dtype)
        target = same / same.sum(dim=1, keepdim=True)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    def compute_loss(self, features: Tensor, corpus: Corpus, batch: Tensor) -> Tensor | None:
        owner = corpus.picture_rows[batch].to(features.device)
        pictured = owner != NO_PICTURE
        if int(pictured.sum()) < 2:
            return None
        pictures = corpus.pictures[owner[pictured].cpu()].to(features.device)
        loss: Tensor = self(features[pictured], pictures, owner[pictured])
        return self.weight * loss


def make_objectives(corpus: Corpus) -> list[Objective]:
    """Return both losses; the cross-modal one weighs a tenth of the mean square of the teacher's pivot features.

    The cross-lingual loss grows with that square, the cross-modal one does not: weighed like this, their proportion
    does not depend on how large the features of a base are. For a corpus without any pivot the weight is 1.
    """
    squares = [block.square().mean(dim=1) for block in torch.split(corpus.pivot_features, _BLOCK)]
    weight = _SHARE * float(torch.cat(squares).nanmean())
    return [CrossLingual(), CrossModal(1.0 if bool(corpus.pivot_features.isnan().all()) else weight)]
