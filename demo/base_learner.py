"""A base of emoji in training: CLIP, one prototype per emoji as target of both towers, and the loss of each phase."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo.batches import Batch
from demo.emojis import load_catalogue

NAME = "pictoglot-emoji"
BUNDLE = Path(__file__).parent.parent / "model" / "bundled"
DIMENSION = 256
SCALE = 20.0  # of cosines to prototypes, before a softmax
TEXT_CHUNKS = 4  # captions of similar length are encoded together


class Learner(nn.Module):
    """CLIP and the prototypes; only CLIP is exported. The *target* of a scene is the unit sum of its prototypes."""

    def __init__(self, clip: Any = None) -> None:
        """By default the bundled base with fresh weights."""
        super().__init__()
        self.clip = create_model() if clip is None else clip
        self.clip.visual.to(memory_format=torch.channels_last)  # 20 % faster on two cores
        self.prototypes = nn.Parameter(0.25 * torch.randn(len(load_catalogue()), DIMENSION))
        for module in self.clip.visual.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.in_channels >= 256:
                module.forward = partial(_convolve, module)  # type: ignore[method-assign]
        cfg = self.clip.visual.preprocess_cfg
        self._mean, self._std = (torch.tensor(cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))

    def compute_joint_loss(self, batch: Batch) -> Tensor:
        """Return the loss of CLIP, and a classification of the emoji, in pictures and in captions."""
        pictures, texts = self._encode_pictures(batch), self._encode_texts(batch)
        losses = [self._classify(features, batch.shares, self._select_units()) for features in (pictures, texts)]
        scale = self.clip.logit_scale.exp()
        return _compute_contrast(scale * pictures @ texts.T, batch.same) + torch.stack(losses).mean()

    def compute_caption_loss(self, batch: Batch) -> Tensor:
        """Return distance of the captions from their targets, which are fixed."""
        return 4 * _measure_distance(self._encode_texts(batch), batch.shares @ self._select_units().detach())

    def compute_caption_loss_from_scratch(self, batch: Batch) -> Tensor:
        """Add the classification of the emoji: from fresh weights, the distance alone teaches slowly."""
        texts, units = self._encode_texts(batch), self._select_units().detach()
        return 4 * _measure_distance(texts, batch.shares @ units) + self._classify(texts, batch.shares, units)

    def compute_picture_loss(self, batch: Batch) -> Tensor:
        """Add up distance, classification of the emoji, and the search for each picture's target among all of the step.

        Contrasting pictures with captions that were still far from their targets taught them little more than to find
        the caption of a scene. A few hundred steps of this loss after them improved unseen scenes and singles clearly.
        """
        pictures, units = self._encode_pictures(batch), self._select_units().detach()
        targets = F.normalize(batch.shares @ units, dim=-1)
        contrast = _compute_contrast(SCALE * pictures @ targets.T, batch.same)
        return contrast + self._classify(pictures, batch.shares, units) + 2 * _measure_distance(pictures, targets)

    def compute_picture_loss_beside_parts(self, batch: Batch) -> Tensor:
        """Let each scene also score higher than pictures of its single objects, which a gallery has too.

        The cosine of a target with each of its two objects is 1/√2, so a picture of one of them is nearly always the
        second result; it is the first when the picture of the scene is further than that from its target.
        """
        pictures, units = self._encode_pictures(batch), self._select_units().detach()
        targets = F.normalize(batch.shares @ units, dim=-1)
        part = (batch.shares > 0) & (batch.shares < 1)
        parts = (SCALE * targets @ units.T).masked_fill(~part, -math.inf).logsumexp(1, keepdim=True)  # (n, 1)
        among = (SCALE * targets @ pictures.T).masked_fill(_mask_others(batch.same), -math.inf)
        retrieval = F.cross_entropy(torch.cat([among, parts], 1), torch.arange(len(among)))
        return retrieval + self._classify(pictures, batch.shares, units) + 2 * _measure_distance(pictures, targets)

    def _encode_pictures(self, batch: Batch) -> Tensor:
        shown = ((batch.pictures - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            features = self.clip.encode_image(shown)
        return F.normalize(features.float(), dim=-1)

    def _encode_texts(self, batch: Batch) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            features = self.encode_captions(batch.captions)
        return F.normalize(features.float(), dim=-1)

    def encode_captions(self, captions: list[str]) -> Tensor:
        """Return features (n, dimension) of captions, not normalised."""
        return encode_texts(self.clip, captions)

    def _select_units(self) -> Tensor:
        return F.normalize(self.prototypes, dim=-1)

    def _classify(self, features: Tensor, shares: Tensor, units: Tensor) -> Tensor:
        return F.cross_entropy(SCALE * features @ units.T, shares)


def _measure_distance(features: Tensor, targets: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(features, targets).mean()


def _compute_contrast(logits: Tensor, same: Tensor) -> Tensor:
    """Return symmetric cross-entropy; examples with the same objects or caption are not negatives of each other."""
    logits = logits.masked_fill(_mask_others(same), -math.inf)
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _mask_others(same: Tensor) -> Tensor:
    """Return pairs that are not negatives, without each example itself."""
    return same & ~torch.eye(len(same), dtype=torch.bool)


def _convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Compute a 3x3 convolution as a matrix product: on maps of 4x4 or smaller, backward takes half the time."""
    stride = layer.stride[0]
    padded = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)  # (n, h + 2, w + 2, c)
    height, width = ((side - 1) // stride * stride + 1 for side in x.shape[2:])
    shifted = [padded[:, i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)]
    patches = torch.stack(shifted, 3).flatten(3)  # (n, height, width, 9 c)
    return (patches @ layer.weight.permute(0, 2, 3, 1).flatten(1).T).permute(0, 3, 1, 2)


def create_model() -> Any:
    """Return the bundled architecture, through open_clip, with fresh weights."""
    open_clip.add_model_config(BUNDLE / f"{NAME}.json")
    return open_clip.create_model(NAME)


def encode_texts(model: Any, captions: list[str]) -> Tensor:
    """Encode as `encode_text` does, without the padding: the mask is causal, nothing behind the end of text counts."""
    tokens = open_clip.get_tokenizer(NAME)(captions)  # (n, 77)
    last = tokens.argmax(1)
    by_length = last.argsort()
    parts = [_encode_cut(model, tokens[rows], last[rows]) for rows in by_length.chunk(TEXT_CHUNKS)]
    return torch.cat(parts)[by_length.argsort()]


def _encode_cut(model: Any, tokens: Tensor, last: Tensor) -> Tensor:
    """Return features of tokens (n, 77) at position `last` (n,), encoded up to the longest of them."""
    length = int(last.max()) + 1
    hidden = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:length, :length]))
    return hidden[torch.arange(len(last)), last] @ model.text_projection  # type: ignore[no-any-return]
