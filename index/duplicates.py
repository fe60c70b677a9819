"""Groups of near-equal pictures, some pictures at a time. Keeps nothing, and compares no picture with all others.

A picture is the head of a group when others of a higher id are near it, which form the group with it. It is none when
one of a lower id is near it and near all of these: they are in the group of that one, or of one before it. So every two
pictures that are near each other are in one group at least, and no group is part of another of this kind. That holds
where no picture has more than `MOST` near it. Of one that has, only the nearest are seen, and others may be in no group
until some of these are gone: of 160 equal pictures 101 form one group, which says that there are more. Each picture
costs one search.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from index.gallery import Gallery
from index.records import GalleryPicture, Place
from index.selection import Selection, Wanted
from index.vectors import Hit, Keys, Vector, VectorSet, compute_scores

MOST = 100  # pictures that are compared as near to one: a group has at most one more
AT_ONCE = 16  # pictures that are looked at together


@dataclass(frozen=True)
class Near:
    """A picture near the head of its group."""

    picture: str
    score: float


@dataclass(frozen=True)
class Group:
    """The head of a group, and the others, nearest first; `more` when only the nearest ones are there."""

    head: str
    others: tuple[Near, ...]
    more: bool


@dataclass(frozen=True)
class Compared:
    """The groups whose heads are among some pictures, how many these were, and the place of the last of them.

    No place when there are no more pictures.
    """

    groups: tuple[Group, ...]
    examined: int
    place: Place | None


def compared(
    gallery: Gallery,
    selection: Selection,
    fingerprint: str,
    pictures: VectorSet,
    least: float,
    wanted: Wanted,
    after: Place | None,
    most: int,
) -> Compared:
    """The groups of the next pictures in the order in which they were added; `least` is the score of near ones.

    Only pictures that are wanted; those up to the head of group number `most`, if there are as many. Raises
    `RegistryUnavailable`.
    """
    some, allowed = selection.page(wanted, AT_ONCE, after), selection.allowed(wanted)
    stored = gallery.content_vectors([picture.content_sha256 for picture in some], fingerprint)
    near = {
        picture.id: _near(picture, stored[picture.content_sha256], pictures, least, allowed)
        for picture in some
        if picture.content_sha256 in stored
    }
    between = {hit.entry.picture for id, hits in near.items() if _is_between(id, hits) for hit in hits[:MOST]}
    vectors = gallery.picture_vectors(sorted(between), fingerprint)
    groups = list[Group]()
    for number, picture in enumerate(some, start=1):
        group = _group(picture.id, near.get(picture.id, []), vectors, least)
        if group is not None:
            groups.append(group)
        if len(groups) == most:
            return Compared(tuple(groups), number, picture.place)
    return Compared(tuple(groups), len(some), some[-1].place if some else None)


def _near(
    picture: GalleryPicture, vector: Vector, pictures: VectorSet, least: float, allowed: Keys | None
) -> list[Hit]:
    """The others that are near a picture, nearest first: at most `MOST`, and one more if there are more."""
    hits = pictures.search(vector, MOST + 2, allowed)  # itself is one of them
    return [hit for hit in hits if hit.score >= least and hit.entry.picture != picture.id][: MOST + 1]


def _is_between(id: str, hits: Sequence[Hit]) -> bool:
    """Whether both lower and higher ids are near: only then the vectors of these are needed."""
    return any(hit.entry.picture < id for hit in hits) and any(hit.entry.picture > id for hit in hits)


def _group(id: str, hits: Sequence[Hit], vectors: Mapping[str, Vector], least: float) -> Group | None:
    more, hits = len(hits) > MOST, hits[:MOST]
    higher = [Near(hit.entry.picture, hit.score) for hit in hits if hit.entry.picture > id]
    if not higher:
        return None
    lower = [vectors[hit.entry.picture] for hit in hits if hit.entry.picture < id and hit.entry.picture in vectors]
    known = [vectors[near.picture] for near in higher if near.picture in vectors]
    if lower and known:
        others = np.stack(known)
        if any(np.all(compute_scores(vector, others) >= least) for vector in lower):
            return None
    return Group(id, tuple(higher), more)
