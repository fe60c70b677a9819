"""Experience replay: half of each batch are pairs of earlier languages, out of a memory filled by a reservoir.

The paper keeps 8,000 pairs of all; here it is as many as one language has. Repaired: the reference's reservoir counted
a pair once an epoch, and its f counted memory's languages again with every language; here both count once. The
reference fills the memory after each step, so that it replays pairs of the language itself, too; here it is filled when
a language ends.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.methods.trainer import SuiteTrainer
from model.objectives import Corpus, CorpusTokens, CrossLingual

_PART = 32  # captions in one forward pass


class ER(SuiteTrainer):
    """Memory: captions, their targets (the teacher's features of their English), and the places of their pictures.

    All languages show the same pictures, as those of Emoji-36 do.
    """

    def tokenize(self) -> CorpusTokens:
        own, self.own = super().tokenize(), self.corpus
        self.remembered = list((self.left.facts or {}).get("captions", []))
        if not self.remembered:
            return own
        english, owner = self.left.tensors["targets"], self.left.tensors["owner"]
        joined = [torch.cat([self.own.pivot_features, english]), torch.cat([self.own.picture_rows, owner])]
        self.corpus = Corpus(self.own.language, self.own.captions, joined[0], self.own.pictures, joined[1])
        # they teach, and the tokenizer has not grown on them
        again = [np.array(ids, dtype=np.int32) for ids in own.tokenizer.encode(self.remembered)]
        return CorpusTokens(own.tokenizer, [*own.ids, *again])

    def make_batches(self, first: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        for step, batch in super().make_batches(first):
            if not self.remembered:
                yield step, batch
                continue
            count, behind = min(len(batch), len(self.remembered)), len(self.own.captions)
            random = np.random.default_rng((self.settings.seed, step))
            yield step, np.append(batch, behind + random.choice(len(self.remembered), count, replace=False))

    def encode_batch(self, batch: NDArray[np.int64]) -> Tensor:
        """Encode parts of like length: remembered captions have any, and one that is long would fill up all others."""
        order = np.argsort([len(self.sequences[place]) for place in batch], kind="stable")
        parts = np.split(order, range(_PART, len(order), _PART))
        found = torch.cat([super(ER, self).encode_batch(batch[part]) for part in parts])
        return found[torch.from_numpy(np.argsort(order))]

    def compute_loss(self, batch: NDArray[np.int64]) -> Tensor:
        """Add both losses of new pairs and the cross-modal one of remembered ones, pulled to their targets."""
        features, new = self.encode_batch(batch), torch.from_numpy(batch < len(self.own.captions))
        lingual, modal = self.objectives
        chosen = torch.from_numpy(batch)
        terms = [
            lingual.compute_loss(features[new], self.corpus, chosen[new]),
            modal.compute_loss(features, self.corpus, chosen),
        ]
        if not bool(new.all()):
            terms.append(CrossLingual().compute_loss(features[~new], self.corpus, chosen[~new]))
        return torch.stack([term for term in terms if term is not None]).sum()

    def targets(self) -> Tensor:
        """Return what the own captions (n, dimension) are to be pulled to when they are remembered."""
        return self.own.pivot_features

    def facts(self) -> dict[str, Any]:
        kept = self._reservoir()
        words = [*self.remembered, *self.own.captions]
        return {"captions": [words[place] for place in kept], "seen": self._seen() + len(self.own.captions)}

    def leaves(self) -> dict[str, Tensor]:
        kept = torch.tensor(self._reservoir())
        behind = len(self.own.captions)
        targets = torch.cat([self.corpus.pivot_features[behind:], self.targets()])
        owner = torch.cat([self.corpus.picture_rows[behind:], self.own.picture_rows])
        return {"targets": targets[kept], "owner": owner[kept]}

    def _seen(self) -> int:
        return int((self.left.facts or {}).get("seen", 0))

    def _reservoir(self) -> list[int]:
        """Return places among what is remembered and then the own captions."""
        own, random = len(self.own.captions), np.random.default_rng((self.settings.seed, self._seen()))
        return update_reservoir(len(self.remembered), self._seen(), own, own, random)


def update_reservoir(held: int, seen: int, new: int, room: int, random: np.random.Generator) -> list[int]:
    """Return what is kept of `held` pairs, left of `seen`, and `new` ones behind them: places, `room` of them at most.

    Each pair ever seen is kept as likely as any other.
    """
    kept = [*range(held)]
    for place in range(new):
        if len(kept) < room:
            kept.append(held + place)
        elif (drawn := int(random.integers(seen + place + 1))) < room:
            kept[drawn] = held + place
    return kept
