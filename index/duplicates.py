"""Groups of near-equal pictures, some pictures at a time. Keeps nothing, and compares no picture with all others.

A picture is the head of a group when others of a higher id are near it: these form the group with it. It is none when
one of a lower id is near it and near all of these: they are in the group of that one, or of one before it. So any two
pictures that are near each other share a group, and no group is part of another. That holds where no picture has more
than `MOST` near it. Where one has, only the nearest count, and others may be in no group until some of these are
deleted: of 160 equal pictures 101 form one group, which says that there are more. Each picture costs one search.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from index.gallery import Gallery
from index.records import GalleryPicture, Place
from index.selection import Criteria, Selection
from index.vectors import Hit, Vector, VectorKeys, VectorSet, compute_scores

MOST = 100  # pictures that are compared as near to one: a group has at most one more
AT_ONCE = 16  # pictures that are looked at together


@dataclass(frozen=True)
class DuplicateGroup:
    """The head of a group, and the others with their scores, nearest first; `more` when only the nearest are there."""

    head: str
    others: tuple[tuple[str, float], ...]
    more: bool


@dataclass(frozen=True)
class DuplicatesPage:
    """The groups whose heads are among some pictures, the number of these, and the place of the last, if any."""

    groups: tuple[DuplicateGroup, ...]
    examined: int
    place: Place | None


def find_groups(
    gallery: Gallery,
    selection: Selection,
    fingerprint: str,
    picture_set: VectorSet,
    least: float,
    criteria: Criteria,
    after: Place | None,
    most: int,
) -> DuplicatesPage:
    """Find the groups of the next pictures, in the order of adding, up to group number `most`.

    `least` is the score of near ones. Raise `RegistryUnavailable`.
    """
    some, allowed = selection.list_pictures(criteria, AT_ONCE, after), selection.find_allowed_keys(criteria)
    stored = gallery.find_content_vectors([picture.content_sha256 for picture in some], fingerprint)
    near = {
        picture.id: _find_near(picture, stored[picture.content_sha256], picture_set, least, allowed)
        for picture in some
        if picture.content_sha256 in stored
    }
    inner = {hit.entry.picture for id, hits in near.items() if _is_inner(id, hits) for hit in hits[:MOST]}
    vectors = gallery.find_picture_vectors(sorted(inner), fingerprint)
    groups = list[DuplicateGroup]()
    for number, picture in enumerate(some, start=1):
        group = _build_group(picture.id, near.get(picture.id, []), vectors, least)
        if group is not None:
            groups.append(group)
        if len(groups) == most:
            return DuplicatesPage(tuple(groups), number, picture.find_place("created_at"))
    return DuplicatesPage(tuple(groups), len(some), some[-1].find_place("created_at") if some else None)


def _find_near(
    picture: GalleryPicture, vector: Vector, picture_set: VectorSet, least: float, allowed: VectorKeys | None
) -> list[Hit]:
    """Return the others near a picture, nearest first: at most `MOST`, and one more if there are more."""
    hits = picture_set.search(vector, MOST + 2, allowed)  # itself is one of them
    return [hit for hit in hits if hit.score >= least and hit.entry.picture != picture.id][: MOST + 1]


def _is_inner(id: str, hits: Sequence[Hit]) -> bool:
    """Whether both lower and higher ids are near: only then the vectors of these are needed."""
    return any(hit.entry.picture < id for hit in hits) and any(hit.entry.picture > id for hit in hits)


def _build_group(id: str, hits: Sequence[Hit], vectors: Mapping[str, Vector], least: float) -> DuplicateGroup | None:
    more, hits = len(hits) > MOST, hits[:MOST]
    higher = [(hit.entry.picture, hit.score) for hit in hits if hit.entry.picture > id]
    if not higher:
        return None
    lower = [vectors[hit.entry.picture] for hit in hits if hit.entry.picture < id and hit.entry.picture in vectors]
    known = [vectors[near] for near, _ in higher if near in vectors]
    if lower and known:
        others = np.stack(known)
        if any(np.all(compute_scores(vector, others) >= least) for vector in lower):
            return None
    return DuplicateGroup(id, tuple(higher), more)
