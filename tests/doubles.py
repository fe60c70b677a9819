"""A weightless encoder: deterministic vectors that name their input, no torch. For every test above `model`.

A text's vector is drawn from a hash of (version, text), so each answer can be checked against its question. A picture's
is its 4 x 4 pixels, so that the same motif, turned or recompressed, stays nearly the same.
"""

import gc
import hashlib
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.encoder import EncodedTexts, Encoder, View
from model.match import Curves
from store.bases import FIRST_ENCODING
from tests.patience import PATIENCE

Vectors = NDArray[np.float32]
DIMENSION = 64
_CONTEXT = 75  # tokens of a text beside begin and end
_BYTES_A_TOKEN = 2


def make_view(version: int, language: str = "en", ngrams: Mapping[str, int] | None = None) -> View:
    """Return a version that was opened, without rows or tokenizer."""
    nothing: Any = None
    return View(version, language, nothing, nothing, np.empty(0, dtype=np.int32), {}, ngrams or {})


class WeightlessEncoder(Encoder):
    """Opens a version by its number alone, whatever lies in its folder."""

    dimension = DIMENSION
    image_fingerprint = hashlib.sha256(b"weightless pictures").hexdigest()
    text_fingerprint = base_fingerprint = hashlib.sha256(b"weightless texts").hexdigest()
    encoding = FIRST_ENCODING
    frame = None
    languages: tuple[str, ...] = ("en",)
    things: Path | None = None
    unseen: Path | None = None
    curves: Curves | None = None
    base_view = make_view(0)
    table: Any = SimpleNamespace(rows=SimpleNamespace(width=DIMENSION))

    def __init__(self) -> None:
        """Without a base."""

    def open(self, folders: Sequence[Any], onto: View | None = None) -> View:
        if not folders:
            return onto or self.base_view
        return make_view(folders[-1].number, folders[-1].language)

    def encode_texts(self, items: Sequence[tuple[View, str]], *, alone: bool = False) -> EncodedTexts:
        tokens = [math.ceil(len(text.encode()) / _BYTES_A_TOKEN) for _, text in items]
        vectors = [make_text_vector(view.version, text) for view, text in items]
        stacked = np.stack(vectors) if vectors else np.empty((0, DIMENSION), dtype=np.float32)
        return EncodedTexts(stacked, [count > _CONTEXT for count in tokens], tokens)

    def encode_pictures(self, images: Sequence[Image.Image], batch: int = 64) -> Vectors:
        vectors = [make_picture_vector(image) for image in images]
        return np.stack(vectors) if vectors else np.empty((0, DIMENSION), dtype=np.float32)


class HoldingEncoder(WeightlessEncoder):
    """Holds a file open for each open version: who counts descriptors counts versions."""

    def open(self, folders: Sequence[Any], onto: View | None = None) -> View:
        view = super().open(folders, onto)
        vars(view)["held"] = Path(os.devnull).open("rb")  # noqa: SIM115  closed with the view
        return view


class StalledEncoder(WeightlessEncoder):
    """Remembers the texts since it was stalled, which wait for the `cue`."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.cue = Event()
        self.cue.set()

    def stall(self) -> None:
        """Let texts wait until `cue` is set."""
        self.seen.clear()
        self.cue.clear()

    def encode_texts(self, items: Sequence[tuple[View, str]], *, alone: bool = False) -> EncodedTexts:
        self.seen += [text for _, text in items]
        assert self.cue.wait(PATIENCE)
        return super().encode_texts(items)


class SlowEncoder(WeightlessEncoder):
    """Takes `seconds` for each call with texts, and remembers them."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.seen: list[str] = []
        self.seconds = seconds

    def encode_texts(self, items: Sequence[tuple[View, str]], *, alone: bool = False) -> EncodedTexts:
        self.seen += [text for _, text in items]
        time.sleep(self.seconds)
        return super().encode_texts(items)


def make_text_vector(version: int, text: str) -> Vectors:
    """Return the unit vector (64,) of a cleaned text read by a version."""
    seed = int.from_bytes(hashlib.sha256(f"{version}\0{text}".encode()).digest()[:8])
    return _normalize(np.random.default_rng(seed).standard_normal(DIMENSION))


def make_picture_vector(image: Image.Image) -> Vectors:
    small = np.asarray(image.convert("RGB").resize((4, 4), Image.Resampling.BOX), dtype=np.float64)  # (4, 4, 3)
    vector = np.ones(DIMENSION)  # never zero, even for a grey picture
    vector[:48] = (small.reshape(-1) - 127.5) / 8
    return _normalize(vector)


def _normalize(values: NDArray[np.float64]) -> Vectors:
    unit: Vectors = (values / np.linalg.norm(values)).astype(np.float32)
    return unit


class TellingEncoder(WeightlessEncoder):
    """Writes on standard error how the process that it is in shares the interpreter, when texts are encoded."""

    def encode_texts(self, items: Sequence[tuple[View, str]], *, alone: bool = False) -> EncodedTexts:
        sys.stderr.write(f"{gc.get_freeze_count()} {sys.getswitchinterval()}\n")
        sys.stderr.flush()
        return super().encode_texts(items, alone=alone)
