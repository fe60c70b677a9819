"""Phase `prepare`: what an expansion learns from, fixed once: parent version, rows, teacher features, picture vectors.

The teacher is the version that serves a pivot's language: of English, the base. Its features are kept in parts under
the data root, so that an attempt goes on where the last one died, and another language with the same texts encodes none
of them again. No picture is encoded here: the gallery has its vector.
"""

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from index.gallery import Gallery
from index.sources import picture_vectors
from model import dataset, storage
from model.backends.choice import open_encoder
from model.checkpoint import Kept, digest, keep, kept
from model.data_root import EXPANSIONS
from model.dataset import Dataset, DatasetReport
from model.dataset_again import joined, without
from model.dataset_pictures import ids_of_files, without_suffix
from model.dataset_rows import Pivot, Row
from model.encoder import Encoder
from model.errors import BaseMoved, CheckpointMismatch
from model.languages import ENGLISH, reads
from model.registry import Expansion, Registry
from model.table import View
from model.views import Views
from worker.attempt import Attempt

_PART = 2048  # texts a part; some seconds of one core with a large tower
_BATCH = 128
NAMED = "named.json"  # in an expansion's folder: ids of the pictures that its dataset names by their files
AGAIN = ("rebuild", "base")  # kinds of expansions that teach what was taught before
TEACHER = "teacher"  # folder under the data root
_MOST_PARTS = 128  # that it keeps: of 512 dimensions, half a gigabyte


@dataclass(frozen=True)
class TrainingContext:
    """What all phases need: the attempt, the opened base, the gallery, and the shared version that is trained further.

    `view` reads version `parent`; `views` opens any other one.
    """

    attempt: Attempt
    encoder: Encoder
    gallery: Gallery
    parent: int
    view: View
    views: Views
    made: Mapping[str, int] | None = None

    @property
    def base(self) -> int:
        """The version that the base is."""
        return self.encoder.base_view.version

    @property
    def served(self) -> Mapping[str, int]:
        """The languages beside it: those that a move has `made` so far, or else those that serve."""
        return self.attempt.registry.releases.serving().languages if self.made is None else self.made


@dataclass(frozen=True)
class TrainingData:
    """What one language is taught from, with features of its pivots and vectors of its pictures.

    `taught` are the expansions with the datasets, the last of which says how to learn; there are several where a
    language that was taught more than once is taught again. `pivots` says which version reads each language of a pivot.
    `features` holds the teachers' features (count, dimension), not normalised, in the order of `texts`; both are empty
    where nothing is trained. `pictures` holds the gallery's unit vectors (count, dimension) in the order of
    `picture_ids`.
    """

    taught: tuple[Expansion, ...]
    rows: tuple[Row, ...]
    report: DatasetReport
    pivots: Mapping[str, int]
    texts: dict[Pivot, int]
    features: Tensor
    picture_ids: dict[str, int]
    pictures: Tensor

    @property
    def expansion(self) -> Expansion:
        """The last of `taught`."""
        return self.taught[-1]

    @property
    def language(self) -> str:
        """The language that is learned."""
        return self.expansion.language


def open_context(attempt: Attempt) -> TrainingContext:
    """Base, gallery and parent: the shared version at the first attempt, and the same in every later one.

    Raises `BaseMoved` when that one is of another base than serves by now.
    """
    settings, registry = attempt.settings, attempt.registry
    encoder = open_encoder(settings, registry, training=True)
    torch.use_deterministic_algorithms(encoder.base.device.type == "cpu")  # on a GPU some products have none
    parent = int(attempt.decided("plan.json", lambda: {"parent": registry.releases.serving().shared})["parent"])
    if registry.versions.lineage(parent)[-1].number != encoder.base_view.version:
        raise BaseMoved("Another base serves now than when this began: begin anew.")
    views = Views(encoder, registry, attempt.root)
    return TrainingContext(attempt, encoder, attempt.gallery, parent, views.of(parent), views)


def prepare(context: TrainingContext, *taught: Expansion) -> TrainingData:
    """Read and validate the datasets of these expansions and gather their features; several are of one language.

    They come in the order in which they were taught. Raises `CheckpointMismatch` when a file changed.

    Where a language is only assessed, no text is encoded here. What the gallery held at the first attempt is kept: a
    picture deleted or replaced later changes nothing here. A rebuild or a move goes without the pictures that were
    deleted since the language was learned.
    """
    attempt, language = context.attempt, taught[-1].language
    data = joined([rows_of(attempt, expansion) for expansion in taught])
    assessed = attempt.expansion.kind == "assess"
    said = [row.pivot for row in data.rows if row.pivot is not None]
    pivots = _pivots(context, language, {pivot.language for pivot in said})
    named = list(dict.fromkeys(row.picture for row in data.rows if row.picture is not None))
    pictures, known = _pictures(context, named, attempt.folder / "pictures" / language)
    again = attempt.expansion.kind in AGAIN
    if again:
        data = without(data, frozenset(named).difference(known))
    report = dataset.validate(
        data, language, lambda ids: known, pivots.__contains__, to_train=not assessed, again=again
    )
    texts = [] if assessed else list(dict.fromkeys(said))
    return TrainingData(
        taught=taught,
        rows=data.rows,
        report=report,
        pivots=pivots,
        texts={pivot: place for place, pivot in enumerate(texts)},
        features=_taught(context, texts, pivots),
        picture_ids={picture: place for place, picture in enumerate(known)},
        pictures=pictures,
    )


def teachable(registry: Registry, sources: Sequence[str]) -> list[Expansion]:
    """Of these expansions, those that have a dataset still, and the last one in any case."""
    *earlier, last = (registry.expansions.get(source) for source in sources)
    return [*(expansion for expansion in earlier if expansion.dataset_path is not None), last]


def rows_of(attempt: Attempt, expansion: Expansion) -> Dataset:
    """The dataset of this or of an earlier expansion. Raises `CheckpointMismatch` when the file changed.

    A picture that is named by its file is the one that this was when the expansion began, whatever the gallery has now.
    """
    path = attempt.dataset(expansion)
    if storage.sha256_file(path) != expansion.dataset_sha256:
        raise CheckpointMismatch("the dataset is not the one that was submitted")
    return dataset.read(path, language=expansion.language, ids=lambda names: _ids(attempt, expansion.id, names))


def _ids(attempt: Attempt, expansion: str, names: Iterable[str]) -> Mapping[str, str]:
    """The ids of the pictures that a dataset names by their files, as its expansion decided at its first attempt."""
    if not (files := without_suffix(names)):
        return {}
    if expansion == attempt.expansion.id:
        return dict(attempt.decided(NAMED, lambda: ids_of_files(files, attempt.gallery.known)))
    path = attempt.root.open(f"{EXPANSIONS}/{expansion}/{NAMED}")
    return dict(json.loads(path.read_bytes())) if path.exists() else {}  # earlier releases read ids alone


def _pivots(context: TrainingContext, language: str, pivots: Collection[str]) -> dict[str, int]:
    """The version that reads each of these languages, without those that nothing reads; as at the first attempt."""
    if not set(pivots) - {ENGLISH}:
        return {ENGLISH: context.base}
    served, built_in = context.served, context.encoder.languages
    known = {tag: served.get(tag, context.base) for tag in sorted(pivots) if tag in served or reads(built_in, tag)}
    path = f"pivots-{language}.json"
    if len(known) < len(pivots) and not context.attempt.has_decided(path):
        return known  # the dataset is refused; a move tries it again when it has taught more
    return {tag: int(number) for tag, number in context.attempt.decided(path, lambda: known).items()}


def _taught(context: TrainingContext, pivots: Sequence[Pivot], versions: Mapping[str, int]) -> Tensor:
    """Features (count, dimension) of texts, each read by the version of its language."""
    features = torch.empty((len(pivots), context.encoder.dimension))
    for version in sorted({versions[pivot.language] for pivot in pivots}):
        places = [place for place, pivot in enumerate(pivots) if versions[pivot.language] == version]
        features[places] = _teacher(context, [pivots[place].text for place in places], version)
    _remove_oldest(context.attempt.root.path(TEACHER))
    return features


def _teacher(context: TrainingContext, texts: Sequence[str], version: int) -> Tensor:
    """A version's features of the texts, (count, dimension), from the parts on disk as far as they go.

    A part is found by its texts, in whatever order a dataset has them, and by the version, unless that is the base.
    Those that were not used for longest are removed; an attempt that misses one makes it again.
    """
    attempt, encoder = context.attempt, context.encoder
    folder, order = attempt.root.path(TEACHER), sorted(range(len(texts)), key=texts.__getitem__)
    reader = [attempt.registry.versions.get(version).manifest_sha256] if version != context.base else []
    starts = range(0, len(texts), _PART)
    features = torch.empty((len(texts), encoder.dimension))
    for number, start in enumerate(starts):
        places = order[start : start + _PART]
        part = [texts[place] for place in places]
        key = [encoder.text_fingerprint, *reader, part]
        earlier = kept(folder / digest(key), key)
        if earlier is None:
            view = context.views.of(version)
            earlier = Kept({"features": teacher_features(encoder, part, attempt.check, view)})
            keep(folder / digest(key), key, earlier)
            attempt.saved()
        with suppress(FileNotFoundError):  # another worker removed it
            os.utime(folder / digest(key))
        features[places] = earlier.tensors["features"]
        attempt.done(number + 1, len(starts))
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
    if len(by_id) == len(named) or attempt.expansion.kind in AGAIN:  # otherwise the dataset is refused
        keep(folder, key, known)
        attempt.saved()
    return known.tensors["vectors"], known.facts


def teacher_features(
    encoder: Encoder, texts: Sequence[str], check: Callable[[], None], view: View | None = None
) -> Tensor:
    """Features (count, dimension) of texts by a version, not normalised; `check` runs between batches.

    Without a `view`, the untouched base reads them.
    """
    view = encoder.base_view if view is None else view
    sequences = [view.sequence(ids)[0] for ids in view.tokens(texts)]
    return torch.from_numpy(encoder.text_features(sequences, _BATCH, check))
