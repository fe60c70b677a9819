"""What a language is learned from: captions with features of their English and pictures, and as token ids."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint import Kept, keep, kept
from model.tokenizer import Tokenizer

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
