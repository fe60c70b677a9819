"""What the photo base is made of: an image tower as it is, its classifier as prototypes, and a new text tower."""

import json
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from demo.base_learner import BUNDLE
from demo.photos.concepts import Concepts
from demo.photos.packages import Packages
from demo.photos.phrases import Phrases, Points
from demo.photos.wordnet import WordNet
from model.base import add_architecture
from model.tokenizer import Tokenizer

Vector = NDArray[np.float32]
NAME = "pictoglot-photos"
CONFIG = BUNDLE / f"{NAME}.json"
_DRAWN = 0.5  # share of the drawings in where a word points that an emoji has
_STARTED, _STARTED_NORM = 15_000, 0.5  # nouns that rows begin from; length of such a row, 2 times that of the others


def create_model(packages: Packages) -> tuple[Any, Tensor]:
    """Return the base with a text tower that knows nothing yet, and the prototypes of the classes, (1000, dimension).

    The classifier's rows, their mean taken off, are the prototypes after a projection on their principal components,
    and the same projection takes a picture's features to where they are.
    """
    config = json.loads(CONFIG.read_text())
    add_architecture(CONFIG)
    model: Any = open_clip.create_model(NAME)
    state = torch.load(packages.weights, map_location="cpu", weights_only=True)
    rows = state.pop("_fc.weight")
    del state["_fc.bias"]
    own = model.visual.trunk.state_dict()
    # the same layers in the same order under other names
    if [value.shape for value in state.values()] != [value.shape for value in own.values()]:
        raise SystemExit(f"{packages.weights.name} is not an EfficientNet-Lite2")
    model.visual.trunk.load_state_dict(dict(zip(own, state.values(), strict=True)))
    rows = rows - rows.mean(0)
    components = torch.linalg.svd(rows, full_matrices=False).Vh[: config["embed_dim"]]
    signs = components.gather(1, components.abs().argmax(1, keepdim=True)).sign()  # those of an SVD are by chance
    components = components * signs
    model.visual.head.proj.weight.data.copy_(components)
    model.visual.requires_grad_(False)
    return model, F.normalize(rows @ components.T, dim=-1)


class Targets:
    """Where words and synsets point, as unit vectors in the space of the base."""

    def __init__(self, wordnet: WordNet, concepts: Concepts, prototypes: Tensor, drawn: Mapping[str, Vector]) -> None:
        self._wordnet, self._concepts, self._prototypes = wordnet, concepts, prototypes.numpy()
        self._drawn = drawn
        self._synset, self._word = cache(self._weigh_synset), cache(self._weigh_word)

    def combine(self, points: Points) -> Vector:
        """Return the unit sum of synsets and words by what each counts."""
        return _normalize(
            sum(share * (self._synset(what) if isinstance(what, int) else self._word(what)) for share, what in points)
        )

    def _weigh_synset(self, number: int) -> Vector:
        return _normalize(self._concepts.weigh_synset(number) @ self._prototypes)

    def _weigh_word(self, word: str) -> Vector:
        """Add up a word's senses, and by half the look of its emoji; of several words the last one counts."""
        drawn = self._drawn.get(word)
        lemma = self._wordnet.find_lemma(word) or self._wordnet.find_lemma(word.split()[-1])
        if lemma is None:
            return drawn if drawn is not None else np.zeros_like(self._prototypes[0])
        said = _normalize(sum(share * self._synset(number) for share, number in self._concepts.list_senses(lemma)))
        return said if drawn is None else _normalize((1 - _DRAWN) * said + _DRAWN * drawn)


def start_rows(model: Any, phrases: Phrases, targets: Targets) -> None:
    """Let a token's row begin as the mean of what the common nouns that have it point at.

    From there the text tower needs a fraction of the steps: it has to learn how words go together, not what each is.
    Rows of tokens that no such noun has stay as they were drawn.
    """
    table = model.token_embedding.weight.data
    sums = torch.zeros(len(table), model.text_projection.shape[1])
    nouns = phrases.list_common(_STARTED)
    for ids, (_, points, weight) in zip(Tokenizer().encode([noun for noun, *_ in nouns]), nouns, strict=True):
        sums[ids] += weight / len(ids) * torch.from_numpy(targets.combine(points))
    met = sums.norm(dim=1) > 0
    means = F.normalize(sums[met], dim=1)
    components = torch.linalg.svd(means - means.mean(0), full_matrices=False).Vh[: table.shape[1]]
    started = F.normalize((means - means.mean(0)) @ components.T, dim=1)
    table[met] = started * _STARTED_NORM


def _normalize(vector: Any) -> Vector:
    unit: Vector = vector / max(math.sqrt(float(vector @ vector)), 1e-9)
    return unit
