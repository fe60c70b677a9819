"""What a language is learned from, as tensors. Trains nothing."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

NONE = -1  # in `Corpus.owner`: this caption has no picture


@dataclass(frozen=True)
class Corpus:
    """What a language is learned from: cleaned captions, features of their English texts and of their pictures.

    `english` (n, dimension), a row of NaN where a caption has none; `pictures` (m, dimension); `owner` (n,) the row in
    `pictures` of each caption, `NONE` where it has none. All float32, not normalised or normalised alike.
    """

    language: str
    captions: Sequence[str]
    english: Tensor
    pictures: Tensor
    owner: Tensor

    def sha256(self) -> str:
        """Names captions and features; part of what a checkpoint belongs to."""
        digest = hashlib.sha256(json.dumps(list(self.captions), ensure_ascii=False).encode())
        for tensor in (self.english, self.pictures, self.owner):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()
