"""One immutable generation on disk: vectors, what they stand for, a manifest. Written once, verified before every use.

Holds no FAISS file: an index is built from the verified vectors (see `index.engine.faiss_engine`).
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from index.engine import Engine, Matrix
from index.errors import IndexFileCorrupt, IndexInconsistent, IndexVersionMismatch
from index.vectors import Entry, Hit, Segment, scores, segment
from model import storage
from model.data_root import DataRoot
from model.errors import CorruptFolder

FORMAT = 1
FOLDER = "generations"  # under the data root
_VECTORS, _IDS = "vectors.safetensors", "ids.json"
_GOLDEN_QUERIES, _GOLDEN_HITS = 16, 5
_TOLERANCE = 1e-5  # of a golden score: another processor may sum in another order
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """What a generation is a generation of.

    `fingerprint` is the image tower's for pictures, the text tower's for captions. Caption vectors belong to one
    (language, version); picture vectors serve every version, since the image tower is frozen.
    """

    kind: Literal["pictures", "captions"]
    fingerprint: str
    dimension: int
    language: str | None = None
    version: int | None = None


@dataclass(frozen=True)
class Written:
    """A generation on disk; `id` is derived from its content, so that writing the same again gives the same."""

    id: str
    manifest_sha256: str
    count: int


def name_of(generation: str) -> str:
    """The name of a generation's folder in the data root."""
    return f"{FOLDER}/{generation}"


def write(root: DataRoot, identity: Identity, entries: Sequence[Entry], vectors: Matrix) -> Written:
    """Write a generation durably and commit it; the same content gives the same files, byte for byte."""
    ids = json.dumps(entries, ensure_ascii=False).encode()
    queries = _golden_queries(vectors)
    tensors = save({"golden": queries, "vectors": np.ascontiguousarray(vectors)})
    digest = hashlib.sha256(json.dumps(asdict(identity), sort_keys=True).encode())
    digest.update(hashlib.sha256(tensors).digest() + hashlib.sha256(ids).digest())
    generation = f"{identity.kind}-{digest.hexdigest()[:16]}"
    folder = root.path(name_of(generation))
    if folder.exists() and not storage.intact(folder):
        storage.remove(folder)  # the same content again, over a damaged copy of it
    storage.require_free(folder, 2 * (len(tensors) + len(ids)))
    with root.stage(name_of(generation)) as staged:
        (staged / _VECTORS).write_bytes(tensors)
        (staged / _IDS).write_bytes(ids)
        scan = segment(vectors, entries)
        golden = [scan.top(query, _GOLDEN_HITS, frozenset()) for query in queries]
        facts = {"format": FORMAT, "metric": "inner_product", "count": len(entries), "golden": golden}
        storage.write_manifest(staged, {**asdict(identity), **facts})
    return Written(generation, storage.sha256_file(folder / storage.MANIFEST), len(entries))


def read(folder: Path, manifest_sha256: str | None, identity: Identity, engine: Engine) -> Segment:
    """The verified vectors of a generation with an index over them; what an approximate index misses is logged.

    Raises `IndexFileCorrupt` (files differ from the manifest, or it from what was registered), `IndexVersionMismatch`
    (of another model, language, version or format), `IndexInconsistent` (vectors, ids and stored answers do not fit).
    """
    try:
        manifest = storage.verify(folder, manifest_sha256)
    except CorruptFolder as error:
        raise IndexFileCorrupt(error.detail) from error
    if manifest.get("format") != FORMAT or any(manifest.get(key) != value for key, value in asdict(identity).items()):
        raise IndexVersionMismatch("the generation was made by another model or has another format")
    try:
        tensors = load_file(folder / _VECTORS)
        vectors, queries = tensors["vectors"], tensors["golden"]
        entries = [Entry(str(picture), str(text)) for picture, text in json.loads((folder / _IDS).read_bytes())]
        golden = [[Hit(Entry(*entry), float(score)) for entry, score in hits] for hits in manifest["golden"]]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise IndexInconsistent("the generation's files cannot be read") from error
    _require_fitting(vectors, entries, manifest["count"], identity.dimension)
    found = Segment(vectors, entries, engine.build(vectors))
    _require_golden(found, queries, golden)
    return found


def _require_fitting(vectors: Matrix, entries: Sequence[Entry], count: object, dimension: int) -> None:
    if vectors.dtype != np.float32 or vectors.shape != (count, dimension):
        raise IndexInconsistent("the vectors are not as many or as long as the manifest says")
    if len(entries) != count or len(set(entries)) != count:
        raise IndexInconsistent("there is not exactly one id for each vector")
    lengths = np.einsum("nd,nd->n", vectors, vectors)
    if not np.allclose(lengths, 1.0, atol=1e-3):  # also false for what is not finite
        raise IndexInconsistent("the vectors are not of unit length")


def _require_golden(checked: Segment, queries: Matrix, golden: Sequence[Sequence[Hit]]) -> None:
    """Answer the stored queries again: ids that belong to other vectors show here, and an exact index that misses any.

    What an approximate index misses is no damage: its recall on these queries, the hardest there are (halfway between
    two unrelated vectors), is only told.
    """
    rows = {entry: row for row, entry in enumerate(checked.entries)}
    good = wanted = 0
    for query, hits in zip(queries, golden, strict=False):
        expected = np.array([hit.score for hit in hits], dtype=np.float32)
        stored = [rows.get(hit.entry, -1) for hit in hits]
        if -1 in stored or not np.allclose(scores(query, checked.vectors[stored]), expected, atol=_TOLERANCE):
            raise IndexInconsistent("the ids belong to other vectors")
        found = [hit.score for hit in checked.top(query, len(hits), frozenset())]
        good += sum(score >= expected[-1] - _TOLERANCE for score in found)
        wanted += len(hits)
    if len(golden) != len(queries) or (checked.index.exact and good < wanted):
        raise IndexInconsistent("the index does not find what it found when it was written")
    if good < wanted:
        _log.info("an approximate index of %d vectors finds %d of %d golden hits", len(rows), good, wanted)


def _golden_queries(vectors: Matrix) -> Matrix:
    """Directions halfway between two stored vectors, (at most 16, dimension)."""
    count = len(vectors)
    first = np.unique(np.linspace(0, max(count - 1, 0), _GOLDEN_QUERIES).astype(np.int64)) if count else np.arange(0)
    mixed = vectors[first] + vectors[(first + count // 2) % max(count, 1)]
    length = np.linalg.norm(mixed, axis=1, keepdims=True)
    return np.ascontiguousarray(mixed / np.maximum(length, 1e-6), dtype=np.float32)
