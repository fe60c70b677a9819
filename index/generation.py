"""Writes, verifies and reads one immutable generation on disk: vectors, their entries, a manifest. Registers nothing.

It has no FAISS file: an index is built from the verified vectors (see `index.engine.faiss_engine`).
"""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from index.engine import Engine, Matrix
from index.errors import IndexFileCorrupt, IndexInconsistent, IndexVersionMismatch
from index.tables import GENERATIONS
from index.vectors import Entry, Hit, Segment, scores, segment
from model import storage
from model.data_root import DataRoot
from model.errors import CorruptFolder

FORMAT = 1
_VECTORS, _IDS = "vectors.safetensors", "ids.json"
_GOLDEN_QUERIES, _GOLDEN_HITS = 16, 5
_TOLERANCE = 1e-5  # of a golden score: another processor may sum in a different order
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Identifies a vector set: what its vectors are of, and which model computed them.

    `fingerprint` is the image tower's for pictures, the text tower's for captions. Caption vectors belong to one
    (language, version). Picture vectors are the same for every version, because the image tower is frozen.
    """

    kind: Literal["pictures", "captions"]
    fingerprint: str
    dimension: int
    language: str | None = None
    version: int | None = None


@dataclass(frozen=True)
class WrittenGeneration:
    """A generation on disk; `id` is derived from its content, so the same content has the same id."""

    id: str
    manifest_sha256: str
    count: int


def folder_name(generation: str) -> str:
    """The name of a generation's folder, relative to the data root."""
    return f"{GENERATIONS}/{generation}"


def write(root: DataRoot, identity: Identity, entries: Sequence[Entry], vectors: Matrix) -> WrittenGeneration:
    """Write a generation durably, and to the store if any; the same content gives the same files, byte for byte."""
    ids = json.dumps(entries, ensure_ascii=False).encode()
    queries = _golden_queries(vectors)
    tensors = save({"golden": queries, "vectors": np.ascontiguousarray(vectors)})
    digest = hashlib.sha256(json.dumps(asdict(identity), sort_keys=True).encode())
    digest.update(hashlib.sha256(tensors).digest() + hashlib.sha256(ids).digest())
    generation = f"{identity.kind}-{digest.hexdigest()[:16]}"
    folder = root.path(folder_name(generation))
    with suppress(FileNotFoundError):
        os.utime(folder)  # an old copy becomes young: no sweeper may remove it before it is registered
    if folder.exists() and not storage.intact(folder):
        storage.remove(folder)  # a damaged copy of the same content
    storage.require_free(folder, 2 * (len(tensors) + len(ids)))
    with root.stage(folder_name(generation)) as staged:
        (staged / _VECTORS).write_bytes(tensors)
        (staged / _IDS).write_bytes(ids)
        scan = segment(vectors, entries)
        golden = [scan.top(query, _GOLDEN_HITS, frozenset()) for query in queries]
        fields = {"format": FORMAT, "metric": "inner_product", "count": len(entries), "golden": golden}
        storage.write_manifest(staged, {**asdict(identity), **fields})
    return WrittenGeneration(generation, storage.sha256_file(folder / storage.MANIFEST), len(entries))


def read(folder: Path, manifest_sha256: str | None, identity: Identity, engine: Engine) -> Segment:
    """The verified vectors of a generation, with an index built over them; logs what an approximate index misses.

    Raises `IndexFileCorrupt` (the files differ from the manifest, or the manifest from the registered hash),
    `IndexVersionMismatch` (another model, language, version or format) or `IndexInconsistent` (vectors, ids and golden
    hits do not match).
    """
    try:
        manifest = storage.verify(folder, manifest_sha256)
    except CorruptFolder as error:
        raise IndexFileCorrupt(error.detail) from error
    if manifest.get("format") != FORMAT or any(manifest.get(key) != value for key, value in asdict(identity).items()):
        raise IndexVersionMismatch("the generation was made by another model, or has another format")
    try:
        tensors = load_file(folder / _VECTORS)
        vectors, queries = tensors["vectors"], tensors["golden"]
        entries = [Entry(str(picture), str(text)) for picture, text in json.loads((folder / _IDS).read_bytes())]
        golden = [[Hit(Entry(*entry), float(score)) for entry, score in hits] for hits in manifest["golden"]]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise IndexInconsistent("the generation's files cannot be read") from error
    _require_consistent(vectors, entries, manifest["count"], identity.dimension)
    opened = Segment(vectors, entries, engine.build(vectors))
    _require_golden(opened, queries, golden)
    return opened


def _require_consistent(vectors: Matrix, entries: Sequence[Entry], count: object, dimension: int) -> None:
    if vectors.dtype != np.float32 or vectors.shape != (count, dimension):
        raise IndexInconsistent("the number or dimension of the vectors differs from the manifest")
    if len(entries) != count or len(set(entries)) != count:
        raise IndexInconsistent("there is not exactly one unique id for each vector")
    lengths = np.einsum("nd,nd->n", vectors, vectors)
    if not np.allclose(lengths, 1.0, atol=1e-3):  # also false for NaN and infinity
        raise IndexInconsistent("the vectors are not of unit length")


def _require_golden(opened: Segment, queries: Matrix, golden: Sequence[Sequence[Hit]]) -> None:
    """Answer the golden queries again, to detect ids that belong to other vectors and an exact index that misses a hit.

    An approximate index may miss hits without being damaged: its recall on these queries, which are the hardest ones
    (halfway between two unrelated vectors), is only logged.
    """
    rows = {entry: row for row, entry in enumerate(opened.entries)}
    recalled = total = 0
    for query, hits in zip(queries, golden, strict=False):
        expected = np.array([hit.score for hit in hits], dtype=np.float32)
        stored = [rows.get(hit.entry, -1) for hit in hits]
        if -1 in stored or not np.allclose(scores(query, opened.vectors[stored]), expected, atol=_TOLERANCE):
            raise IndexInconsistent("the ids belong to other vectors")
        answers = opened.top(query, len(hits), frozenset())
        recalled += sum(hit.score >= expected[-1] - _TOLERANCE for hit in answers)
        total += len(hits)
    if len(golden) != len(queries) or (opened.index.exact and recalled < total):
        raise IndexInconsistent("the index does not find the golden hits that were stored with it")
    if recalled < total:
        _log.info("an approximate index of %d vectors finds %d of %d golden hits", len(rows), recalled, total)


def _golden_queries(vectors: Matrix) -> Matrix:
    """Unit vectors halfway between two stored vectors, (at most 16, dimension)."""
    count = len(vectors)
    first = np.unique(np.linspace(0, max(count - 1, 0), _GOLDEN_QUERIES).astype(np.int64)) if count else np.arange(0)
    mixed = vectors[first] + vectors[(first + count // 2) % max(count, 1)]
    length = np.linalg.norm(mixed, axis=1, keepdims=True)
    return np.ascontiguousarray(mixed / np.maximum(length, 1e-6), dtype=np.float32)
