"""Phase `prepare`: what an expansion learns from, fixed once: rows, features of the teacher, vectors of pictures.

The teacher is the version that serves a pivot's language: of English, the base. Its features are kept in parts under
the data root, so that an attempt goes on where the last one died, and another language with the same texts encodes none
of them again. No picture is encoded here: the gallery has its vector.
"""

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from index.sources import ensure_picture_vectors
from model import dataset
from model.checkpoint import Kept, digest, keep, kept
from model.dataset import Dataset, DatasetReport, joined, left, to_train
from model.dataset.rows import Pivot, Row, ids_of_files, without_suffix
from model.encoder import Encoder
from model.languages import ENGLISH, reads
from model.table import View
from store import files
from store.data_root import EXPANSIONS
from store.errors import CheckpointMismatch, DatasetInvalid
from store.expansions import Expansion
from worker.attempt import Attempt, TrainingContext

_PART = 2048  # texts a part; some seconds of one core with a large tower
_BATCH = 128
NAMED = "named.json"  # in an expansion's folder: ids of the pictures that its dataset names by their files
TEACHER = "teacher"  # folder under the data root
_MOST_PARTS = 128  # that it keeps: of 512 dimensions, half a gigabyte


@dataclass(frozen=True)
class TrainingData:
    """What one language is taught from, with features of its pivots and vectors of its pictures.

    `taught` are the expansions with the datasets, the last of which says how to learn; there are several where a
    language was taught before. `fresh` are the rows of the expansion's own dataset, which `report` is about: all rows
    where it brought none; `trained` are those that are learned from. `pivots` says which version reads each language
    of a pivot.
    `features` holds the teachers' features (count, dimension), not normalised, in the order of `texts`; both are empty
    where nothing is trained. `pictures` holds the gallery's unit vectors (count, dimension) in the order of
    `picture_ids`.
    """

    taught: tuple[Expansion, ...]
    rows: tuple[Row, ...]
    fresh: tuple[Row, ...]
    trained: tuple[Row, ...]
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


def prepare(context: TrainingContext, *taught: Expansion) -> TrainingData:
    """Read and validate the datasets of these expansions and gather their features; several are of one language.

    They come in the order in which they were taught. Raises `CheckpointMismatch` when a file changed, and
    `DatasetInvalid` when it is missing, or when together they hold out every row.

    Where a language is only assessed, no text is encoded here. What the gallery held at the first attempt is kept: a
    picture deleted or replaced later changes nothing here. What an earlier expansion brought is taught again without
    the pictures that were deleted since.
    """
    attempt, language = context.attempt, taught[-1].language
    datasets = [_read(attempt, expansion) for expansion in taught]
    fresh = datasets[-1] if taught[-1].id == attempt.expansion.id else None
    pivots = _pivots(context, language, _languages(datasets), _languages([fresh] if fresh else datasets))
    strict = None if attempt.expansion.settings.get("without_missing") else fresh  # is refused for a missing picture
    pictures, known = _pictures(context, datasets, strict, attempt.folder / "pictures" / language)
    there = frozenset(known)
    told = [
        each if each is strict else left(each, there, pivots if fresh and each is not fresh else None)
        for each in datasets
    ]
    fresh, data = told[-1] if fresh else None, joined(told)
    assessed = attempt.expansion.kind == "assess"
    report = dataset.validate(
        fresh or data, language, lambda ids: there, pivots.__contains__, to_train=not assessed, again=fresh is None
    )
    trained = () if assessed else to_train(data.rows)
    if not (assessed or trained):
        raise DatasetInvalid(
            "no row is left to learn from: each is held out by this dataset or an earlier one; leave out the column "
            "`split`, or teach without the earlier ones (`replace`)",
            report=report.as_dict(),
        )
    new = {row.said for row in fresh.rows} if fresh else None
    groups = _first_said([] if assessed else datasets, data)
    return TrainingData(
        taught=taught,
        rows=data.rows,
        fresh=tuple(row for row in data.rows if new is None or row.said in new),
        trained=trained,
        report=report,
        pivots=pivots,
        texts={pivot: place for place, pivot in enumerate(pivot for group in groups for pivot in group)},
        features=_taught(context, groups, pivots),
        picture_ids={picture: place for place, picture in enumerate(known)},
        pictures=pictures,
    )


def _read(attempt: Attempt, expansion: Expansion) -> Dataset:
    """Read a dataset; where an earlier one cannot be read, the error names it, and says how to go on without."""
    try:
        return rows_of(attempt, expansion)
    except (CheckpointMismatch, DatasetInvalid) as error:
        if attempt.expansion.kind != "learn" or expansion.id == attempt.expansion.id:
            raise
        which = f"the dataset of expansion {expansion.id}, which is taught again, cannot be read ({error.detail})"
        raise type(error)(f"{which}: bring its file back, or teach without the earlier ones (`replace`)") from error


def rows_of(attempt: Attempt, expansion: Expansion) -> Dataset:
    """The dataset of this or of an earlier expansion. Raises `CheckpointMismatch` when the file changed.

    A picture that is named by its file is the one that this was when the expansion began, whatever the gallery has now.
    """
    path = attempt.dataset(expansion)
    if files.hash_file(path) != expansion.dataset_sha256:
        raise CheckpointMismatch("the dataset is not the one that was submitted")
    return dataset.read(path, language=expansion.language, ids=lambda names: _ids(attempt, expansion.id, names))


def _ids(attempt: Attempt, expansion: str, names: Iterable[str]) -> Mapping[str, str]:
    """The ids of the pictures that a dataset names by their files, as its expansion decided at its first attempt."""
    if not (stems := without_suffix(names)):
        return {}
    if expansion == attempt.expansion.id:
        return dict(attempt.decided(NAMED, lambda: ids_of_files(stems, attempt.gallery.find_known)))
    return dict(json.loads(attempt.root.open(f"{EXPANSIONS}/{expansion}/{NAMED}").read_bytes()))


def _languages(datasets: Iterable[Dataset]) -> set[str]:
    """Return the languages of the pivots."""
    return {row.pivot.language for each in datasets for row in each.rows if row.pivot is not None}


def _pivots(context: TrainingContext, language: str, said: Collection[str], needed: Collection[str]) -> dict[str, int]:
    """The version that reads each of the languages that are `said`, without those that nothing reads.

    They are as at the first attempt, which refuses the dataset where one is lacking that is `needed`.
    """
    if not set(said) - {ENGLISH}:
        return {ENGLISH: context.base}
    served, built_in = context.served, context.encoder.languages
    known = {tag: served.get(tag, context.base) for tag in sorted(said) if tag in served or reads(built_in, tag)}
    path = f"pivots-{language}.json"
    if set(needed) - known.keys() and not context.attempt.has_decided(path):
        return known  # the dataset is refused; a move tries it again when it has taught more
    return {tag: int(number) for tag, number in context.attempt.decided(path, lambda: known).items()}


def _first_said(datasets: Sequence[Dataset], taught: Dataset) -> list[list[Pivot]]:
    """Of each dataset, the pivots that none before it has, as far as they are taught."""
    groups, left_over = list[list[Pivot]](), {row.pivot for row in taught.rows}
    for each in datasets:
        groups.append([*dict.fromkeys(row.pivot for row in each.rows if row.pivot and row.pivot in left_over)])
        left_over.difference_update(groups[-1])
    return groups


def _taught(context: TrainingContext, groups: Sequence[Sequence[Pivot]], versions: Mapping[str, int]) -> Tensor:
    """Features (count, dimension) of all texts, group after group, each read by the version of its language.

    What was a group by itself before has the same parts again, so that none of them is encoded twice.
    """
    attempt, places = context.attempt, {pivot: place for place, pivot in enumerate(chain(*groups))}
    parts = [part for group in groups for part in _parts(group, versions)]
    features = torch.empty((len(places), context.encoder.dimension))
    for number, (version, part) in enumerate(parts):
        features[[places[pivot] for pivot in part]] = _teacher(context, [pivot.text for pivot in part], version)
        attempt.done(number + 1, len(parts))
    _remove_oldest(attempt.root.locate(TEACHER))
    return features


def _parts(pivots: Sequence[Pivot], versions: Mapping[str, int]) -> Iterator[tuple[int, list[Pivot]]]:
    """Yield some texts at a time that one version reads, in an order that does not depend on the dataset."""
    for version in sorted({versions[pivot.language] for pivot in pivots}):
        read = sorted((pivot for pivot in pivots if versions[pivot.language] == version), key=lambda pivot: pivot.text)
        yield from ((version, read[start : start + _PART]) for start in range(0, len(read), _PART))


def _teacher(context: TrainingContext, part: Sequence[str], version: int) -> Tensor:
    """A version's features of some texts, (count, dimension), from the disk if they are there.

    They are found by the texts and by the version, unless that is the base. Those that were not used for longest are
    removed; an attempt that misses them makes them again.
    """
    attempt, encoder = context.attempt, context.encoder
    reader = [attempt.registry.versions.get(version).manifest_sha256] if version != context.base else []
    key = [encoder.text_fingerprint, *reader, part]
    folder = attempt.root.locate(TEACHER) / digest(key)
    earlier = kept(folder, key)
    if earlier is None:
        earlier = Kept({"features": teacher_features(encoder, part, attempt.check, context.views.of(version))})
        keep(folder, key, earlier)
        attempt.saved()
    with suppress(FileNotFoundError):  # another worker removed it
        os.utime(folder)
    return earlier.tensors["features"]


def _remove_oldest(folder: Path) -> None:
    """Remove all but the parts used last; of towers that are gone, nothing is used any more."""
    used: dict[Path, float] = {}
    for path in folder.glob("[0-9a-f]*"):
        with suppress(FileNotFoundError):
            used[path] = path.stat().st_mtime
    for path in sorted(used, key=lambda each: used[each])[:-_MOST_PARTS]:
        files.remove(path)


def _pictures(
    context: TrainingContext, datasets: Sequence[Dataset], strict: Dataset | None, folder: Path
) -> tuple[Tensor, Sequence[str]]:
    """The gallery's vectors (count, dimension) of those of the named pictures that it has, and which these are.

    They are kept, unless a picture is missing that `strict` names: that one is refused.
    """
    attempt, fingerprint = context.attempt, context.encoder.image_fingerprint
    named = list(dict.fromkeys(row.picture for each in datasets for row in each.rows if row.picture is not None))
    key = [fingerprint, named]
    earlier = kept(folder, key)
    if earlier is not None:
        return earlier.tensors["vectors"], earlier.facts
    by_id = ensure_picture_vectors(context.encoder, context.gallery, named)
    vectors = np.stack([*by_id.values()]) if by_id else np.empty((0, context.encoder.dimension), dtype=np.float32)
    known = Kept({"vectors": torch.from_numpy(vectors)}, list(by_id))
    if strict is None or all(row.picture is None or row.picture in by_id for row in strict.rows):
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
