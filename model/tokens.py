"""A corpus as token ids: the tokenizer grown on it and its packed ids, made once an expansion and kept on disk."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from model import storage
from model.errors import CorruptFolder
from model.tokenizer import Tokenizer

_IDS, _ADDITIONS = "ids.safetensors", "additions.json"


@dataclass(frozen=True)
class Tokens:
    """`tokenizer`: the parent's, grown on the corpus; `ids`: of each caption (n,) int32, without begin and end."""

    tokenizer: Tokenizer
    ids: Sequence[NDArray[np.int32]]


def tokens(parent: Tokenizer, captions: Sequence[str], vocabulary: int, folder: Path) -> Tokens:
    """What `folder` keeps of this corpus on this parent, or else made now and kept there; the same either way."""
    key = hashlib.sha256(json.dumps([parent.sha256, vocabulary, *captions], ensure_ascii=False).encode()).hexdigest()
    found = _kept(folder, key, parent)
    if found is None:
        grown = parent.grown(captions, vocabulary)
        found = Tokens(grown, [np.asarray(ids, dtype=np.int32) for ids in grown.encode(captions)])
        _keep(folder, key, parent, found)
    return found


def _kept(folder: Path, key: str, parent: Tokenizer) -> Tokens | None:
    try:
        if storage.verify(folder)["key"] != key:
            return None
        additions = json.loads((folder / _ADDITIONS).read_text(encoding="utf-8"))
        packed = load_file(folder / _IDS)
    except (CorruptFolder, KeyError, OSError, SafetensorError):
        return None
    merges = [(left, right) for left, right in additions["merges"]]
    ids = np.split(packed["ids"], packed["ends"][:-1])
    return Tokens(parent.extend(merges, additions["words"]), ids)


def _keep(folder: Path, key: str, parent: Tokenizer, found: Tokens) -> None:
    merges, words = found.tokenizer.added[len(parent.added) :], found.tokenizer.words[len(parent.words) :]
    packed = {"ids": np.concatenate(found.ids), "ends": np.cumsum([len(ids) for ids in found.ids])}
    storage.remove(folder)
    with storage.stage(folder) as staged:
        (staged / _IDS).write_bytes(save(packed))
        (staged / _ADDITIONS).write_text(json.dumps({"merges": merges, "words": words}, ensure_ascii=False), "utf-8")
        storage.write_manifest(staged, {"key": key})
