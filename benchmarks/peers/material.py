"""What all systems are given: texts, JPEGs, reference vectors, and indices in the format of clip-retrieval."""

import json
import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import faiss
import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.peers.home import ARCHITECTURE, Home

Vectors = NDArray[np.float32]

GALLERY = 200  # pictures
BATCH = 32  # pictures encoded at once by open_clip and by clip-retrieval
_SIZE = (1_280, 960)  # 1.2 megapixels
_QUALITY = 90
_GRAIN = ((12, 1.0), (60, 0.5), (240, 0.2))  # squares across the width, and how strong each is
_SIDE = 224  # of the pictures that need no resizing

_WHAT = "boat", "dog", "house", "bicycle", "bird", "garden", "train", "cup"
_HOW = "small red", "very old", "large white", "bright green", "broken wooden"
_WHERE = "beside a quiet river", "in the middle of a street", "under a dark sky", "behind two tall trees"


def list_texts() -> list[str]:
    """Return distinct English texts of about 12 tokens, in a fixed random order."""
    all_texts = [f"a photo of a {how} {what} {where}" for how, what, where in product(_HOW, _WHAT, _WHERE)]
    random.Random(0).shuffle(all_texts)
    return all_texts


def draw_photograph(seed: int, size: tuple[int, int] = _SIZE) -> Image.Image:
    """Return a made-up picture with coarse and fine structure: its JPEG has about 200 kB, as a photograph has."""
    draw = np.random.default_rng(seed)
    pixels = np.zeros((size[1], size[0], 3), np.float32)
    for across, strength in _GRAIN:
        squares = draw.integers(0, 256, (across * 3 // 4, across, 3), dtype=np.uint8)
        pixels += strength * np.asarray(Image.fromarray(squares).resize(size, Image.Resampling.BICUBIC), np.float32)
    pixels /= sum(strength for _, strength in _GRAIN)
    return Image.fromarray(pixels.astype(np.uint8))


def write_pictures(folder: Path, count: int = GALLERY) -> None:
    """Write the gallery."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        draw_photograph(number).save(folder / f"photo-{number:04}.jpg", quality=_QUALITY)


def copy_files(files: Sequence[Path], folder: Path, mark: str) -> None:
    """Copy pictures under other names with other bytes behind their end, so that no system has seen them."""
    folder.mkdir(parents=True)
    for file in files:
        (folder / f"{mark}-{file.name}").write_bytes(file.read_bytes() + mark.encode())


def draw_squares(count: int) -> list[Image.Image]:
    """Return pictures of the size that the image tower takes, so that no system resizes them in its own way."""
    return [draw_photograph(number).crop((0, 0, _SIDE, _SIDE)) for number in range(count)]


class Reference:
    """open_clip with the random weights in float32: what every system's vectors are compared with."""

    def __init__(self, home: Home) -> None:
        self._model, _, self._preprocess = open_clip.create_model_and_transforms(
            ARCHITECTURE, pretrained=str(home.checkpoint)
        )
        self._model.eval()
        self._tokenizer = open_clip.get_tokenizer(ARCHITECTURE)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors of texts."""
        return _normalize(self._model.encode_text(self._tokenizer(list(texts))))

    @torch.inference_mode()
    def pictures(self, images: Sequence[Image.Image]) -> Vectors:
        """Return unit vectors of pictures, all at once."""
        return _normalize(self._model.encode_image(torch.stack([self._preprocess(image) for image in images])))

    def folder(self, folder: Path) -> Vectors:
        """Return unit vectors of the JPEGs of a folder by name: the loop with Pillow that a script would have."""
        files = sorted(folder.glob("*.jpg"))
        batches = [files[start : start + BATCH] for start in range(0, len(files), BATCH)]
        return np.concatenate([self.pictures([Image.open(file).convert("RGB") for file in each]) for each in batches])


def _normalize(features: torch.Tensor) -> Vectors:
    unit: Vectors = torch.nn.functional.normalize(features, dim=-1).numpy()
    return unit


def write_indices(home: Home, gallery: Vectors) -> None:
    """Write clip-retrieval's indices: `gallery`, and `axes`, which tells the vector of any query.

    Row i of `axes` is the i-th axis, so a query's similarity to it is the i-th number of the query's vector.
    """
    folder = home.indices.parent
    indices = {"gallery": gallery, "axes": np.eye(gallery.shape[1], dtype=np.float32)}
    for name, vectors in indices.items():
        _write_index(folder / name, vectors)
    home.indices.write_text(json.dumps({name: str(folder / name) for name in indices}), encoding="utf-8")


def _write_index(folder: Path, vectors: Vectors) -> None:
    (folder / "metadata").mkdir(parents=True, exist_ok=True)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(folder / "image.index"))
    # a column `image_path` would make clip-retrieval read and encode the file of each hit
    names = [f"{number}.jpg" for number in range(len(vectors))]
    pq.write_table(pa.table({"url": names, "caption": names}), folder / "metadata" / "metadata_0.parquet")
