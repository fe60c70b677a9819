"""The row English: how often a description finds its picture, before any language is taught."""

import re
import statistics
import time
from collections.abc import Callable, Collection, Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save

from benchmarks.stamps.data import Half, Stamp
from demo.photos.concepts import read_classes
from demo.photos.packages import Packages
from demo.photos.wordnet import WordNet
from model.base import Base, open_base
from model.encoder import Encoder, Vectors
from model.evaluation import Recall, measure_recalls
from model.text import clean
from store import files
from store.bases import FLOAT32

_LONGEST, _MOST_CLASSES = 4, 150  # words of a name; classes below a hypernym that still says what a thing is
# WordNet has some of them as nouns, too
_LITTLE_WORDS = {
    "a", "an", "the", "of", "with", "and", "in", "on", "some", "two", "three", "have", "has", "is", "it", "this",
    "that", "your", "you", "at", "to", "pair", "set", "one", "he",
}  # fmt: skip


def open_encoder(spec: str, work: Path) -> Encoder:
    """Return the base with the towers that a service would take on this processor, in float32."""
    base: Base = open_base(spec, "cpu")
    if not find_spec("openvino"):
        return Encoder(base)
    from model.openvino import OpenVinoTowers

    return Encoder(base, OpenVinoTowers(base, FLOAT32, work / "compiled", torch.get_num_threads()))


def encode_gallery(encoder: Encoder, shown: Sequence[Stamp], work: Path) -> Vectors:
    """Return unit vectors (n, dimension) of the pictures; kept in `work`."""
    names = "\n".join(f"{stamp.name} {stamp.path.stat().st_size}" for stamp in shown)
    key = sha256(f"{encoder.image_fingerprint} {names}".encode()).hexdigest()[:16]
    path = work / f"pictures-{key}.safetensors"
    if not path.is_file():
        vectors = np.concatenate([encoder.encode_pictures([stamp.read_picture()]) for stamp in shown])
        files.write_bytes(path, save({"vectors": torch.from_numpy(vectors)}))
    kept: Vectors = load_file(path)["vectors"].numpy()
    return kept


def open_noun_reader(wordnet: WordNet) -> Callable[[str], list[str]]:
    """Return a reader of the nouns in a caption, as WordNet's lemmas: the longest names first."""

    def read(caption: str) -> list[str]:
        words, found, place = re.findall(r"[a-z0-9'-]+", caption.lower()), list[str](), 0
        while place < len(words):
            for length in range(_LONGEST, 0, -1):
                part = words[place : place + length]
                lemma = wordnet.find_lemma(" ".join(part)) if len(part) == length else None
                if lemma is not None and " ".join(part) not in _LITTLE_WORDS:
                    found.append(lemma)
                    place += length
                    break
            else:
                place += 1
        return found

    return read


def find_known(captions: Collection[str], packages: Packages) -> dict[str, bool]:
    """Return for each caption whether a noun in it names a class of ImageNet, or a hypernym of some."""
    wordnet, named = WordNet.read(packages), read_classes(packages)
    below: dict[int, int] = {}
    for each in named:
        for above in wordnet.list_ancestors(each.synset):
            below[above] = below.get(above, 0) + 1
    names = {name.lower() for each in named for name in each.names}
    read = open_noun_reader(wordnet)

    def tells(lemma: str) -> bool:
        return lemma in names or 0 < below.get(wordnet.senses[lemma][0][0], 0) < _MOST_CLASSES

    return {caption: any(map(tells, read(caption))) for caption in captions}


def measure_milliseconds(encoder: Encoder) -> float:
    """Return processor time that one picture takes in the image tower, alone in its batch: the median of 20."""
    height, width = encoder.base.picture_size
    pixels, times = torch.rand(1, 3, height, width), []
    for _ in range(20):
        started = time.process_time()
        encoder.towers.encode_pictures(pixels)
        times.append(1000 * (time.process_time() - started))
    return round(statistics.median(times), 1)


def measure(encoder: Encoder, shown: Sequence[Stamp], half: Half, work: Path, packages: Packages) -> dict[str, Any]:
    """Return R@K of the descriptions of one half among the pictures of both: in all, by what is known, and by kind."""
    pictures = encode_gallery(encoder, shown, work)
    asked = [place for place, stamp in enumerate(shown) if stamp.half == half]
    said = [clean(shown[place].english) for place in asked]
    texts = encoder.encode_texts([(encoder.base_view, text) for text in said]).vectors
    is_known = find_known(set(said), packages)

    def among(rows: list[int]) -> dict[str, Any]:
        if not rows:
            return {"captions": 0}
        owner = np.array([asked[row] for row in rows], dtype=np.int64)
        found: Recall = measure_recalls(texts[rows], pictures, owner)["t2i"]
        return {"captions": len(rows), **{name: round(100 * share, 1) for name, share in found.items()}}

    every = range(len(asked))
    kinds = sorted({shown[place].kind for place in asked})
    return {
        "half": half,
        "pictures": len(shown),
        "all": among([*every]),
        "known": among([row for row in every if is_known[said[row]]]),
        "not known": among([row for row in every if not is_known[said[row]]]),
        "kinds": {kind: among([row for row in every if shown[asked[row]].kind == kind]) for kind in kinds},
    }
