"""What words look like of which ImageNet knows nothing: the drawings of emoji, seen by the image tower."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo.drawings import SETS, load_drawing
from demo.emojis import load_catalogue

_SHARE = 0.9  # of the picture's side that a drawing takes
_KEYWORD = 0.3  # what a keyword's drawing counts beside one whose name the word is
_CHUNK = 16


def encode_drawings(model: Any, cache: Path) -> Tensor:
    """Return image features before the projection, (emojis, channels): the mean of both sets' drawings on white.

    Kept in the file `cache`, since it takes minutes.
    """
    if not cache.is_file():
        sets = [torch.cat([_encode_batch(model, part, which) for part in _split_names()]) for which in SETS]
        save_file({"features": torch.stack(sets).mean(0)}, cache)
    return load_file(cache)["features"]


def point_words(features: Tensor, components: Tensor) -> dict[str, NDArray[np.float32]]:
    """Return where names and keywords of emoji point: unit vectors in the projection's space (dimension, channels).

    What all drawings have in common is taken off: it says that they are drawings.
    """
    points = ((features - features.mean(0)) @ components.T).numpy()
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    sums: dict[str, NDArray[np.float32]] = defaultdict(lambda: np.zeros(points.shape[1], dtype=np.float32))
    for emoji, point in zip(load_catalogue(), points, strict=True):
        sums[emoji.name.lower()] += point
        for keyword in emoji.keywords:
            sums[keyword.lower()] += _KEYWORD * point
    return {word: total / np.linalg.norm(total) for word, total in sums.items()}


def _split_names() -> list[list[str]]:
    every = [emoji.characters for emoji in load_catalogue()]
    return [every[start : start + _CHUNK] for start in range(0, len(every), _CHUNK)]


@torch.inference_mode()
def _encode_batch(model: Any, characters: list[str], which: str) -> Tensor:
    height, width = model.visual.image_size
    mean, deviation = (torch.tensor(model.visual.preprocess_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    pictures = []
    for each in characters:
        cut = load_drawing(each, which, round(_SHARE * width))
        white = Image.new("RGB", (width, height), "white")
        white.paste(cut, ((width - cut.width) // 2, (height - cut.height) // 2), cut.getchannel("A"))
        pixels = torch.from_numpy(np.asarray(white).copy()).permute(2, 0, 1) / 255
        pictures.append((pixels - mean) / deviation)
    features: Tensor = model.visual.trunk(torch.stack(pictures))
    return features
