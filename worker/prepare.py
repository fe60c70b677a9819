"""Phase `prepare`: what an expansion learns from, fixed once: parent version, rows, teacher features, picture vectors.

The teacher is the base's own text tower. Its features are kept in parts under the data root, so that an attempt goes on
where the last one died, and another language with the same English texts encodes none of them again. No picture is
encoded here: the gallery has its vector.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from index.gallery import Gallery
from index.sync import picture_vectors
from model import dataset, storage
from model.backends.choice import open_encoder
from model.checkpoint import Kept, digest, keep, kept
from model.dataset import DatasetReport, Row
from model.encoder import Encoder, VersionFolder
from model.errors import CheckpointMismatch
from model.registry import Expansion
from model.table import View
from worker.attempt import Attempt

_PART = 2048  # English texts a part; some seconds of one core with a large tower
_BATCH = 128
TEACHER = "teacher"  # folder under the data root
_MOST_PARTS = 128  # that it keeps: of 512 dimensions, half a gigabyte


@dataclass(frozen=True)
class TrainingContext:
    """What all phases need: the attempt, the opened base, the gallery, and the shared version that is trained further.

    `view` reads version `parent`.
    """

    attempt: Attempt
    encoder: Encoder
    gallery: Gallery
    parent: int
    view: View


@dataclass(frozen=True)
class TrainingData:
    """One language's dataset, with features of its English texts and vectors of its pictures.

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
        """The language that is learned."""
        return self.expansion.language


def open_context(attempt: Attempt) -> TrainingContext:
    """Base, gallery and parent: the shared version at the first attempt, and the same in every later one."""
    settings, registry = attempt.settings, attempt.registry
    torch.set_num_threads(settings.threads)
    encoder = open_encoder(settings, registry, training=True)
    torch.use_deterministic_algorithms(encoder.base.device.type == "cpu")  # on a GPU some products have none
    parent = int(attempt.decided("plan.json", lambda: {"parent": registry.releases.serving().shared})["parent"])
    lineage = [version for version in reversed(registry.versions.lineage(parent)) if version.number]
    view = encoder.open([VersionFolder.of(version, attempt.root) for version in lineage])
    return TrainingContext(attempt, encoder, Gallery(registry, attempt.root), parent, view)


def prepare(context: TrainingContext, expansion: Expansion) -> TrainingData:
    """Read and validate the expansion's dataset and gather its features; `CheckpointMismatch` when the file changed.

    What the gallery held at the first attempt is kept: a picture deleted or replaced later changes nothing here. A
    rebuild goes without the pictures that were deleted since the language was learned.
    """
    attempt = context.attempt
    path = attempt.dataset(expansion)
    if storage.sha256_file(path) != expansion.dataset_sha256:
        raise CheckpointMismatch("the dataset is not the one that was submitted")
    data = dataset.read(path, language=expansion.language)
    texts = list(dict.fromkeys(row.english for row in data.rows if row.english is not None))
    named = list(dict.fromkeys(row.picture for row in data.rows if row.picture is not None))
    pictures, known = _pictures(context, named, attempt.folder / "pictures" / expansion.language)
    if attempt.expansion.kind == "rebuild":
        data = dataset.without(data, frozenset(named).difference(known))
    report = dataset.validate(data, expansion.language, lambda ids: known)
    return TrainingData(
        expansion=expansion,
        rows=data.rows,
        report=report,
        english_texts={text: place for place, text in enumerate(texts)},
        english=_teacher(context, texts),
        picture_ids={picture: place for place, picture in enumerate(known)},
        pictures=pictures,
    )


def _teacher(context: TrainingContext, texts: Sequence[str]) -> Tensor:
    """The base's features of the English texts, (count, dimension), from the parts on disk as far as they go.

    A part is found by its texts, in whatever order a dataset has them. Those that were not used for longest are
    removed; an attempt that misses one makes it again.
    """
    attempt, encoder = context.attempt, context.encoder
    folder, order = attempt.root.path(TEACHER), sorted(range(len(texts)), key=texts.__getitem__)
    starts = range(0, len(texts), _PART)
    features = torch.empty((len(texts), encoder.dimension))
    for number, start in enumerate(starts):
        places = order[start : start + _PART]
        part = [texts[place] for place in places]
        key = [encoder.text_fingerprint, part]
        earlier = kept(folder / digest(key), key)
        if earlier is None:
            earlier = Kept({"features": teacher_features(encoder, part, attempt.check)})
            keep(folder / digest(key), key, earlier)
            attempt.saved()
        with suppress(FileNotFoundError):  # another worker removed it
            os.utime(folder / digest(key))
        features[places] = earlier.tensors["features"]
        attempt.done(number + 1, len(starts))
    _remove_oldest(folder)
    return features


def _remove_oldest(folder: Path) -> None:
    """All but the parts used last; of towers that are gone, nothing is used any more."""
    used: dict[Path, float] = {}
    for path in folder.glob("[0-9a-f]*"):
        with suppress(FileNotFoundError):
            used[path] = path.stat().st_mtime
    for path in sorted(used, key=lambda each: used[each])[:-_MOST_PARTS]:
        storage.remove(path)


def _pictures(context: TrainingContext, named: Sequence[str], folder: Path) -> tuple[Tensor, Sequence[str]]:
    """The gallery's vectors (count, dimension) of those of the named pictures that it has, and which these are."""
    attempt, fingerprint = context.attempt, context.encoder.image_fingerprint
    key = [fingerprint, named]
    earlier = kept(folder, key)
    if earlier is not None:
        return earlier.tensors["vectors"], earlier.facts
    by_id = picture_vectors(context.encoder, context.gallery, named)
    vectors = np.stack([*by_id.values()]) if by_id else np.empty((0, context.encoder.dimension), dtype=np.float32)
    known = Kept({"vectors": torch.from_numpy(vectors)}, list(by_id))
    if len(by_id) == len(named) or attempt.expansion.kind == "rebuild":  # otherwise the dataset is refused
        keep(folder, key, known)
        attempt.saved()
    return known.tensors["vectors"], known.facts


def teacher_features(encoder: Encoder, texts: Sequence[str], check: Callable[[], None]) -> Tensor:
    """Features (count, dimension) of texts by the untouched base, not normalised; `check` runs between batches."""
    view = encoder.base_view
    sequences = [view.sequence(ids)[0] for ids in view.tokens(texts)]
    return torch.from_numpy(encoder.text_features(sequences, _BATCH, check))
