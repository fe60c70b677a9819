"""What the suite's methods share: state from language to language, decay of parameters beside the rows, and reading.

A method is one small file: a subclass of `SuiteTrainer`, which the loop in `bench.py` trains and reads by.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.emoji36.trainer import Method, MethodTrainer
from model.base import Base
from model.checkpoint import CachedResult, TokenRows, hash_key
from model.encoder import Encoder, View
from model.objectives import Corpus, CorpusTokens, ScaledAdamW, tokenize_corpus
from model.towers import make_bfloat16_tower
from model.training import LearnSettings

Features = Callable[[Tensor, Tensor], Tensor]  # rows (n, length, width) and where each is read off, to (n, dimension)
NOTHING = CachedResult({})


class SuiteTrainer(MethodTrainer):
    """Trains one language by a method that may leave something for the next: `left` is what the one before left.

    By itself it is CLL-CLIP or TEIR, as its `Method` says. Tokens are kept at `words`. Rows that only decay are
    not stored one by one: `idle` says what is left of them. `pace` is the learning rate of what `decayed` names over
    that of the rows.
    """

    pace = 1.0

    def __init__(
        self,
        method: Method,
        encoder: Encoder,
        parent: View,
        corpus: Corpus,
        folder: Path,
        settings: LearnSettings,
        left: CachedResult = NOTHING,
        words: Path | None = None,
    ) -> None:
        self.left, self.words = left, words or folder / "tokens"
        super().__init__(method, encoder, parent, corpus, folder, settings)
        self.half = settings.can_use_bfloat16(self.device)

    def tokenize(self) -> CorpusTokens:
        return tokenize_corpus(self.parent.tokenizer, self.corpus.entries, self.settings.vocabulary, self.words)

    def find_trained_ids(self, lines: Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
        self.spoken = super().find_trained_ids(lines[: len(self.corpus.captions)])
        return super().find_trained_ids(lines)

    def collect_rows(self) -> TokenRows:
        ids = self.ids if self.method.moves_ends else self.used
        order = np.argsort(ids)
        return TokenRows(ids[order], self.rows.detach().cpu()[torch.from_numpy(order)])

    def decayed(self) -> list[nn.Parameter]:
        """Return those of the parameters beside the rows that decay in every step, as AdamW's do.

        In the reference they are matrices: neither biases nor the weights of norms nor the temperature decay.
        """
        return []

    def make_optimizer(self) -> ScaledAdamW:
        adamw = super().make_optimizer()
        return Decaying(adamw, self.decayed(), self.pace) if self.decayed() else adamw

    def leaves(self) -> dict[str, Tensor]:
        """Return what the next language gets, and whoever reads: tensors by name. To be asked after `learn`."""
        return {}

    def facts(self) -> dict[str, Any]:
        """Return more of that, as JSON."""
        return {}

    def describe_inputs(self) -> dict[str, str]:
        hashed = {
            name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in self.left.tensors.items()
        }
        return super().describe_inputs() | {"left": hash_key([hashed, self.left.facts])}

    @staticmethod
    def reads(base: Base, left: CachedResult, language: str, half: bool) -> Features:
        """Return how a text of `language` is read after the language that left this; in bfloat16 if `half`."""
        return make_bfloat16_tower(base) if half else base.compute_text_features


def list_matrices(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Return the parameters of more than one dimension."""
    return [each for each in parameters if each.ndim > 1]


class Decaying(ScaledAdamW):
    """Another optimizer whose `decayed` parameters lose rate times decay in every step, and go `pace` of each step."""

    def __init__(self, inner: ScaledAdamW, decayed: Sequence[nn.Parameter], pace: float = 1.0) -> None:
        self.inner, self.decayed, self.pace = inner, decayed, pace
        self.table, self.scale, self.decay, self.adam = inner.table, inner.scale, inner.decay, inner.adam

    def move(self) -> None:
        before = [parameter.clone() for parameter in self.decayed] if self.pace != 1 else []
        for parameter in self.decayed:
            parameter.mul_(1 - self.adam.param_groups[0]["lr"] * self.decay)
        self.inner.move()
        for parameter, start in zip(self.decayed, before, strict=False):
            parameter.copy_(torch.lerp(start, parameter, self.pace))
