"""Phase `prepare`: what an expansion learns from, fixed once: rows, features of the teacher, vectors of pictures.

The teacher is the version that serves a pivot's language: of English, the base. Its features are kept in parts under
the data root, so that an attempt goes on where the last one died, and another language with the same texts encodes none
of them again. A picture is encoded here only where the gallery lacks its vector.
"""

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from index.sources import ensure_picture_vectors
from model import dataset
from model.checkpoint import CachedResult, hash_key, load_result, save_result
from model.dataset import (
    MIN_ROWS,
    Dataset,
    DatasetReport,
    count_usable,
    join,
    restrict,
    select_proof_rows,
    select_taught_rows,
)
from model.dataset.rows import Pivot, Row, find_ids_of_files, put_on_sides, strip_suffixes
from model.encoder import Encoder, View
from model.languages import ENGLISH, can_read
from model.objectives import Entry
from store import files
from store.data_root import EXPANSIONS
from store.errors import CheckpointMismatch, DatasetInvalid
from store.expansions import Expansion
from worker.attempt import Attempt, TrainingContext

_PART_SIZE = 2048  # texts a part; some seconds of one core with a large tower
_BATCH_SIZE = 128
NAMED = "named.json"  # in an expansion's folder: ids of the pictures that its dataset names by their files
TEACHER = "teacher"  # folder under the data root
_MOST_PARTS = 128  # that it keeps, or more where one expansion has more: of 512 dimensions, half a gigabyte


@dataclass(frozen=True)
class TrainingData:
    """What one language is taught from, with features of its pivots and vectors of its pictures.

    Tables of `…_places` say at which place (0 to count - 1) the features or vectors stand.
    """

    expansions: tuple[Expansion, ...]  # those with the datasets; the last one says how to learn
    report: DatasetReport
    pivot_versions: Mapping[str, int]  # which version reads each language of a pivot
    features: Tensor  # (count, dimension) of the pivots, not normalised; empty where nothing is trained
    pictures: Tensor  # (count, dimension), the gallery's unit vectors
    rows: tuple[Row, ...] = ()  # of all datasets
    own_rows: tuple[Row, ...] = ()  # of the own dataset, which `report` is about; all rows if it brought none
    training_rows: tuple[Row, ...] = ()  # what serves is taught them all
    listed_rows: frozenset[Row] = frozenset()  # those of dictionaries
    proof_rows: tuple[Row, ...] = ()  # those of them that what is measured is taught, before; empty for an assessment
    pivot_places: Mapping[Pivot, int] = field(default_factory=dict)
    picture_places: Mapping[str, int] = field(default_factory=dict)

    def list_entries(self, rows: Iterable[Row]) -> list[Entry]:
        return [(row.caption, row.pivot and row.pivot.text, row in self.listed_rows) for row in rows]

    @property
    def expansion(self) -> Expansion:
        return self.expansions[-1]

    @property
    def language(self) -> str:
        return self.expansion.language


def prepare(context: TrainingContext, *expansions: Expansion) -> TrainingData:
    """Read and validate the datasets of one language's expansions, oldest first, and gather their features.

    Raises `CheckpointMismatch` when a file changed, and `DatasetInvalid` when it is missing, or when together they
    hold out every row. An assessment encodes no text here. What the gallery held at the first attempt is kept: a
    picture that is deleted or replaced later changes nothing. Earlier datasets lose the pictures deleted before that.
    """
    attempt, language = context.attempt, expansions[-1].language
    datasets = [_read_or_advise(attempt, expansion, context.encoder.things) for expansion in expansions]
    if len(datasets) > 1:  # of few rows none is held out: they would measure nothing
        datasets = [each if each.report.usable >= MIN_ROWS else _hold_out_none(each) for each in datasets]
    own = datasets[-1] if expansions[-1].id == attempt.expansion.id else None
    required = _list_pivot_languages([own] if own else datasets)
    versions = _choose_pivot_versions(context, language, _list_pivot_languages(datasets), required)
    strict = None if attempt.expansion.settings.get("without_missing") else own  # refused if it lacks a picture
    pictures, known = _gather_pictures(context, datasets, strict, attempt.folder / "pictures" / language)
    known_ids = frozenset(known)
    usable = [
        each if each is strict else restrict(each, known_ids, versions if own and each is not own else None)
        for each in datasets
    ]
    own, data = usable[-1] if own else None, join(usable)
    assesses = attempt.expansion.kind == "assess"
    report = dataset.validate(
        own or data,
        language,
        lambda ids: known_ids,
        versions.__contains__,
        to_train=not assesses,
        was_trained_on=own is None,
        least=1 if own and len(datasets) > 1 else MIN_ROWS,
    )
    proof_rows = () if assesses else select_proof_rows(data.rows)
    if not (assesses or proof_rows):
        raise DatasetInvalid(
            "no row is left to learn from: each is held out by this dataset or an earlier one; leave out the column "
            "`split`, or teach without the earlier ones (`replace`)",
            report=report.dump(),
        )
    own_keys = {row.content_key for row in own.rows} if own else None
    pairs = zip(expansions, datasets, strict=True)
    listed = {row.content_key for one, each in pairs if one.settings.get("pivot") for row in each.rows}
    groups = _group_pivots([] if assesses else datasets, data)
    return TrainingData(
        expansions=expansions,
        rows=data.rows,
        own_rows=tuple(row for row in data.rows if own_keys is None or row.content_key in own_keys),
        training_rows=select_taught_rows(data.rows),
        listed_rows=frozenset(row for row in data.rows if row.content_key in listed),
        proof_rows=proof_rows,
        report=report,
        pivot_versions=versions,
        pivot_places={pivot: place for place, pivot in enumerate(chain(*groups))},
        features=_gather_features(context, groups, versions),
        picture_places={picture: place for place, picture in enumerate(known)},
        pictures=pictures,
    )


def _hold_out_none(dataset: Dataset) -> Dataset:
    """Return the dataset with all rows on the side to learn from, but those that the file itself holds out."""
    kept_out = {row.group for row in dataset.rows if row.is_kept_out}
    rows = put_on_sides(dataset.rows, kept_out, kept_out)
    return Dataset(rows, replace(dataset.report, **count_usable(rows)))


def _read_or_advise(attempt: Attempt, expansion: Expansion, things: Path | None) -> Dataset:
    """Read a dataset; the error about an earlier one names it, and says how to go on without it."""
    try:
        return read_dataset(attempt, expansion, things)
    except (CheckpointMismatch, DatasetInvalid) as error:
        if attempt.expansion.kind != "learn" or expansion.id == attempt.expansion.id:
            raise
        which = f"the dataset of expansion {expansion.id}, which is taught again, cannot be read ({error.detail})"
        raise type(error)(f"{which}: bring its file back, or teach without the earlier ones (`replace`)") from error


def read_dataset(attempt: Attempt, expansion: Expansion, things: Path | None = None) -> Dataset:
    """Read the dataset of this or of an earlier expansion. Raises `CheckpointMismatch` when the file changed.

    A picture that is named by its file is the one that this was when the expansion began.
    """
    if expansion.kind == "import":
        raise DatasetInvalid("the language came as a file, without its dataset: import one that was made for this base")
    path = attempt.fetch_dataset(expansion)
    if files.hash_file(path) != expansion.dataset_sha256:
        raise CheckpointMismatch("the dataset is not the one that was submitted")
    return dataset.read(
        path,
        language=expansion.language,
        find_ids=lambda names: _find_ids(attempt, expansion.id, names),
        pivot=expansion.settings.get("pivot"),
        things=things,
    )


def _find_ids(attempt: Attempt, expansion: str, names: Iterable[str]) -> Mapping[str, str]:
    """Return the ids of pictures that a dataset names by their files, as its expansion's first attempt decided."""
    if not (stems := strip_suffixes(names)):
        return {}
    if expansion == attempt.expansion.id:
        return dict(attempt.decide_once(NAMED, lambda: find_ids_of_files(stems, attempt.gallery.find_known)))
    return dict(json.loads(attempt.root.open(f"{EXPANSIONS}/{expansion}/{NAMED}").read_bytes()))


def _list_pivot_languages(datasets: Iterable[Dataset]) -> set[str]:
    return {row.pivot.language for each in datasets for row in each.rows if row.pivot is not None}


def _choose_pivot_versions(
    context: TrainingContext, language: str, named: Collection[str], required: Collection[str]
) -> dict[str, int]:
    """Choose the version that reads each of the languages that are `named`, without those that nothing reads.

    The first attempt decides; it refuses the dataset later on where one is lacking that is `required`.
    """
    if not set(named) - {ENGLISH}:
        return {ENGLISH: context.base_version}
    served, built_in = context.served_versions, context.encoder.languages
    readers = {
        tag: served.get(tag, context.base_version) for tag in sorted(named) if tag in served or can_read(built_in, tag)
    }
    path = f"pivots-{language}.json"
    if set(required) - readers.keys() and not context.attempt.root.open(f"{context.attempt.name}/{path}").exists():
        return readers  # the dataset is refused; a move tries it again when it has taught more
    return {tag: int(number) for tag, number in context.attempt.decide_once(path, lambda: readers).items()}


def _group_pivots(datasets: Sequence[Dataset], data: Dataset) -> list[list[Pivot]]:
    """Return for each dataset the pivots of `data` that no dataset before it has."""
    groups, remaining = list[list[Pivot]](), {row.pivot for row in data.rows}
    for each in datasets:
        groups.append([*dict.fromkeys(row.pivot for row in each.rows if row.pivot and row.pivot in remaining)])
        remaining.difference_update(groups[-1])
    return groups


def _gather_features(
    context: TrainingContext, groups: Sequence[Sequence[Pivot]], versions: Mapping[str, int]
) -> Tensor:
    """Return features (count, dimension) of all pivots, group after group, each by the version of its language.

    A group that was taught before has the same parts again, so that none of them is encoded twice.
    """
    attempt, places = context.attempt, {pivot: place for place, pivot in enumerate(chain(*groups))}
    parts = [part for group in groups for part in _split_texts(group, versions)]
    features = torch.empty((len(places), context.encoder.dimension))
    for number, (version, part) in enumerate(parts):
        texts = [pivot.text for pivot in part]
        features[[places[pivot] for pivot in part]] = _load_or_compute_features(context, texts, version)
        attempt.report_progress(number + 1, len(parts))
    _remove_oldest_parts(attempt.root.locate(TEACHER), max(_MOST_PARTS, len(parts)))
    return features


def _split_texts(pivots: Sequence[Pivot], versions: Mapping[str, int]) -> Iterator[tuple[int, list[Pivot]]]:
    """Yield some texts at a time that one version reads, in an order that does not depend on the dataset."""
    for version in sorted({versions[pivot.language] for pivot in pivots}):
        alike = sorted((pivot for pivot in pivots if versions[pivot.language] == version), key=lambda pivot: pivot.text)
        yield from ((version, alike[start : start + _PART_SIZE]) for start in range(0, len(alike), _PART_SIZE))


def _load_or_compute_features(context: TrainingContext, texts: Sequence[str], version: int) -> Tensor:
    """Return a version's features (count, dimension) of some texts, from the disk if they are there.

    They are found by the texts and by the version, unless that is the base.
    """
    attempt, encoder = context.attempt, context.encoder
    reader = [attempt.registry.versions.get(version).manifest_sha256] if version != context.base_version else []
    key = [encoder.text_fingerprint, *reader, texts]
    folder = attempt.root.locate(TEACHER) / hash_key(key)
    cached = load_result(folder, key)
    if cached is None:
        features = compute_teacher_features(encoder, texts, attempt.check_stop, context.views.open(version))
        cached = CachedResult({"features": features})
        save_result(folder, key, cached)
        attempt.record_durable_progress()
    with suppress(FileNotFoundError):  # another worker removed it
        os.utime(folder)
    return cached.tensors["features"]


def _remove_oldest_parts(folder: Path, count: int) -> None:
    """Remove all but the `count` parts used last; an attempt that misses one makes it again."""
    used: dict[Path, float] = {}
    for path in folder.glob("[0-9a-f]*"):
        with suppress(FileNotFoundError):
            used[path] = path.stat().st_mtime
    for path in sorted(used, key=lambda each: used[each])[:-count]:
        files.remove(path)


def _gather_pictures(
    context: TrainingContext, datasets: Sequence[Dataset], strict: Dataset | None, folder: Path
) -> tuple[Tensor, Sequence[str]]:
    """Return the gallery's vectors (count, dimension) of the named pictures that it has, and their ids.

    They are kept for later attempts, unless `strict` names a picture that is missing: that dataset is refused.
    """
    attempt, fingerprint = context.attempt, context.encoder.image_fingerprint
    named = list(dict.fromkeys(row.picture for each in datasets for row in each.rows if row.picture is not None))
    key = [fingerprint, named]
    cached = load_result(folder, key)
    if cached is None:
        by_id = ensure_picture_vectors(context.encoder, context.gallery, named)
        vectors = np.stack([*by_id.values()]) if by_id else np.empty((0, context.encoder.dimension), dtype=np.float32)
        cached = CachedResult({"vectors": torch.from_numpy(vectors)}, list(by_id))
        if strict is None or all(row.picture is None or row.picture in by_id for row in strict.rows):
            save_result(folder, key, cached)
            attempt.record_durable_progress()
    return cached.tensors["vectors"], cached.facts


def compute_teacher_features(
    encoder: Encoder, texts: Sequence[str], check_stop: Callable[[], None], view: View | None = None
) -> Tensor:
    """Compute features (count, dimension) of texts, not normalised, by a view or else by the untouched base.

    `check_stop` runs between batches.
    """
    view = encoder.base_view if view is None else view
    sequences = [view.build_sequence(ids)[0] for ids in view.tokenize(texts)]
    return torch.from_numpy(encoder.compute_text_features(sequences, _BATCH_SIZE, check_stop))
