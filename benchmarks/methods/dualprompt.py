"""DualPrompt: general prompts for all languages, and expert prompts of one language with keys that find them.

Z. Wang et al., 2022; in the reference general prompts of length 2 in blocks 0 and 1 and expert ones of length 16 in 2
to 4 of twelve, here in the first and the second quarter; all drawn from U(-1, 1). A block with experts has a key for
each: in training the language's own expert is taken, in a search the one whose key is nearest. Repaired: the
reference's loop left out its last block; its pad mask stood on the wrong side of the prompts; its AdamW decayed the
experts of earlier languages; and experts of languages that were not taught yet could be found.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmarks.methods.prompted import Prompts, PromptTrainer, count_of
from model.base import Base
from model.checkpoint import CachedResult

GENERAL, EXPERT, PULL = 2, 16, 1.0


class DualPrompt(PromptTrainer):
    """Adds to the loss 1 - cosine between each query and the language's keys, the mean over blocks."""

    @staticmethod
    def blocks(base: Base) -> list[int]:
        return [*range(2 * max(1, count_of(base) // 4))]

    def fresh(self, left: CachedResult, width: int, dimension: int, random: torch.Generator) -> dict[str, Tensor]:
        def drawn(*shape: int) -> Tensor:
            return 2 * torch.rand(shape, generator=random) - 1

        each, tag = len(self.blocks(self.encoder.base)) // 2, self.corpus.language
        general = left.tensors["general"] if "general" in left.tensors else drawn(each, GENERAL, width)
        return {"general": general, f"expert/{tag}": drawn(each, EXPERT, width), f"key/{tag}": drawn(each, dimension)}

    @staticmethod
    def chosen(every: dict[str, Tensor], query: Tensor) -> Prompts:
        tags = [name.removeprefix("key/") for name in every if name.startswith("key/")]
        keys, experts = (torch.stack([every[f"{part}/{tag}"] for tag in tags]) for part in ("key", "expert"))
        nearest = torch.einsum("nd,tbd->nbt", query, F.normalize(keys, dim=-1)).argmax(dim=2)  # (n, blocks)
        return _prompts(every["general"], experts[nearest, torch.arange(nearest.shape[1])])

    def taught(self, query: Tensor) -> Prompts:
        return _prompts(self.trained["general"], self.trained[f"expert/{self.corpus.language}"][None])

    def compute_loss(self, batch: NDArray[np.int64]) -> Tensor:
        loss = super().compute_loss(batch)
        keys = self.trained[f"key/{self.corpus.language}"]
        return loss + PULL * (1 - F.cosine_similarity(self.query[:, None], keys[None], dim=-1)).mean()


def _prompts(general: Tensor, experts: Tensor) -> Prompts:
    """Return `general` (blocks, length, width), `experts` (n or 1, blocks, length, width), in the blocks behind."""
    first = {block: prompt[None] for block, prompt in enumerate(general)}
    return first | {len(general) + block: experts[:, block] for block in range(experts.shape[1])}
