"""Phase `prepare`: what an expansion learns from, fixed once: parent version, rows, teacher features, picture vectors.

The teacher is the base's own text tower. Its features are kept in parts under the expansion's folder, each verified
before it is used again, so that an attempt goes on where the last one died. No picture is encoded here: the gallery has
its vector.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor

from index.gallery import Gallery
from model import dataset, storage
from model.base import open_base
from model.data_root import DataRoot
from model.dataset import DatasetReport, Row
from model.encoder import Encoder, VersionFolder
from model.errors import CheckpointMismatch, CorruptFolder
from model.registry import Expansion, Registry
from model.table import View, pad
from worker.attempt import Attempt

_PART = 2048  # English texts a part; some seconds of one core with a large tower
_BATCH = 128
_FEATURES = "features.safetensors"


@dataclass(frozen=True)
class TrainingContext:
    """What all phases share: the opened base, the gallery, and the shared version that is taught further."""

    encoder: Encoder
    gallery: Gallery
    parent: int
    view: View


@dataclass(frozen=True)
class TrainingData:
    """One language's dataset with everything that is known about it before training.

    `english` holds the teacher's features (count, dimension), not normalised, in the order of `english_texts`;
    `pictures` the gallery's unit vectors (count, dimension) in the order of `picture_ids`.
    """

    expansion: Expansion
    rows: tuple[Row, ...]
    report: DatasetReport
    english_texts: dict[str, int]
    english: Tensor
    picture_ids: dict[str, int]
    pictures: Tensor

    @property
    def language(self) -> str:
        """The language being taught."""
        return self.expansion.language


def open_context(attempt: Attempt) -> TrainingContext:
    """Base, gallery and parent: the shared version at the first attempt, and the same in every later one."""
    encoder = Encoder(open_base(attempt.settings.base, attempt.settings.device or None))
    torch.set_num_threads(attempt.settings.threads)
    torch.use_deterministic_algorithms(encoder.base.device.type == "cpu")  # on a GPU some products have none
    serving = attempt.registry.initialise(encoder.text_fingerprint, {})  # `BaseMismatch` under another base
    parent = int(attempt.decided("plan.json", lambda: {"parent": serving.shared})["parent"])
    view = open_version(attempt.registry, encoder, attempt.root, parent)
    return TrainingContext(encoder, Gallery(attempt.registry, attempt.root), parent, view)


def open_version(registry: Registry, encoder: Encoder, root: DataRoot, number: int) -> View:
    """The view of a registered version."""
    lineage = [version for version in reversed(registry.versions.lineage(number)) if version.number]
    return encoder.open([VersionFolder.of(version, root) for version in lineage])


def prepare(attempt: Attempt, context: TrainingContext, expansion: Expansion) -> TrainingData:
    """Read and validate the expansion's dataset and gather its features; `CheckpointMismatch` when the file changed.

    What the gallery held at the first attempt is kept: a picture deleted or replaced later changes nothing here. A
    rebuild goes without the pictures that were deleted since the language was taught.
    """
    path = attempt.dataset(expansion)
    if storage.sha256_file(path) != expansion.dataset_sha256:
        raise CheckpointMismatch("the dataset is not the one that was submitted")
    data = dataset.read(path, language=expansion.language)
    texts = list(dict.fromkeys(row.english for row in data.rows if row.english is not None))
    named = list(dict.fromkeys(row.picture for row in data.rows if row.picture is not None))
    pictures, known = _pictures(attempt, context, named, attempt.folder / "pictures" / expansion.language)
    if attempt.expansion.kind == "rebuild":
        data = dataset.without(data, frozenset(named).difference(known))
    report = dataset.validate(data, expansion.language, lambda ids: known)
    return TrainingData(
        expansion=expansion,
        rows=data.rows,
        report=report,
        english_texts={text: place for place, text in enumerate(texts)},
        english=_teacher(attempt, context.encoder, texts, attempt.folder / "teacher" / expansion.language),
        picture_ids={picture: place for place, picture in enumerate(known)},
        pictures=pictures,
    )


def _teacher(attempt: Attempt, encoder: Encoder, texts: Sequence[str], folder: Path) -> Tensor:
    """The base's features of the English texts, (count, dimension), from the parts on disk as far as they go."""
    starts = range(0, len(texts), _PART)
    features = [torch.empty((0, encoder.dimension))]
    for number, start in enumerate(starts):
        part, key = texts[start : start + _PART], [encoder.text_fingerprint, texts[start : start + _PART]]
        kept = _kept(folder / f"part-{number:05d}", key)
        if kept is not None:
            features.append(kept[0])
        else:
            features.append(teacher_features(encoder, part, attempt.check))
            _keep(attempt, folder / f"part-{number:05d}", key, features[-1])
        attempt.done(number + 1, len(starts))
    return torch.cat(features)


def _pictures(
    attempt: Attempt, context: TrainingContext, named: Sequence[str], folder: Path
) -> tuple[Tensor, Sequence[str]]:
    """The gallery's vectors of those of the named pictures that it has, (count, dimension), and which these are."""
    key = [context.encoder.image_fingerprint, named]
    kept = _kept(folder, key)
    if kept is not None:
        return kept[0], named if kept[1] is None else kept[1]
    found = context.gallery.picture_vectors(named, context.encoder.image_fingerprint)
    vectors = torch.from_numpy(np.stack([*found.values()])) if found else torch.empty((0, context.encoder.dimension))
    if len(found) == len(named) or attempt.expansion.kind == "rebuild":  # otherwise the dataset is refused
        _keep(attempt, folder, key, vectors, list(found))
    return vectors, list(found)


def _kept(folder: Path, key: object) -> tuple[Tensor, list[str] | None] | None:
    """Features that an earlier attempt kept for the same inputs, and of what, where it said so; if they are whole."""
    try:
        manifest = storage.verify(folder)
        if manifest["key"] == _digest(key):
            return load_file(folder / _FEATURES)["features"], manifest.get("names")
    except CorruptFolder:
        pass
    return None


def _keep(attempt: Attempt, folder: Path, key: object, features: Tensor, names: Sequence[str] | None = None) -> None:
    storage.remove(folder)
    with storage.stage(folder) as staged:
        (staged / _FEATURES).write_bytes(save({"features": features.contiguous()}))
        storage.write_manifest(staged, {"key": _digest(key), "names": names})
    attempt.saved()


def _digest(key: object) -> str:
    return hashlib.sha256(json.dumps(key, ensure_ascii=False).encode()).hexdigest()


@torch.inference_mode()
def teacher_features(encoder: Encoder, texts: Sequence[str], check: Callable[[], None]) -> Tensor:
    """Features (count, dimension) of texts by the untouched base, not normalised; `check` runs between batches."""
    view, rows = encoder.base_view, encoder.table.rows
    sequences: list[NDArray[np.int32]] = [view.sequence(ids)[0] for ids in view.tokens(texts)]
    by_length = sorted(range(len(texts)), key=lambda place: len(sequences[place]))
    features = torch.empty((len(texts), encoder.dimension))
    for start in range(0, len(texts), _BATCH):
        check()
        chosen = by_length[start : start + _BATCH]
        numbers, last = pad([sequences[place] for place in chosen])
        found = encoder.base.text_features(rows[numbers.to(rows.device)], last.to(rows.device))
        features[chosen] = found.float().cpu()
    return features
