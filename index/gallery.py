"""Which pictures and captions exist, and the change feed that every process follows. Encodes and searches nothing.

A write is one transaction of the registry's only writer, and leaves a row in the feed: no change is committed after one
with a later number, so a follower cannot miss it. Files are written and removed inside such a transaction too.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Double, delete, func, insert, select, tuple_, type_coerce, update
from sqlalchemy.orm import Session

from index import caption_rows, stored
from index.caption_rows import Caption, Captions
from index.engine import Vector
from index.pictures import Picture
from model import remote, storage
from model.errors import PictureNotFound, StoreUnavailable
from model.registry import Registry
from model.registry.tables import CaptionRow, GalleryChangeRow, PictureRow

FOLDER = "pictures"  # under the data root
_BATCH = 500  # names in one SQL statement
Place = tuple[float, str]  # when a picture was added, and its id


@dataclass(frozen=True)
class GalleryPicture:
    """A picture and all its captions, by language; width and height in pixels, as stored."""

    id: str
    content_sha256: str
    width: int
    height: int
    captions: dict[str, list[str]]
    created_at: datetime


@dataclass(frozen=True)
class Put:
    """The picture as it is now, and whether its id is new."""

    picture: GalleryPicture
    created: bool


@dataclass(frozen=True)
class Page:
    """Some pictures, oldest first, and the place of the last one; None where none follows."""

    items: list[GalleryPicture]
    last: Place | None


class Gallery(stored.StoredVectors):
    """The pictures and captions of one registry, with stored pictures under `root`. Safe from threads and processes."""

    def __init__(self, registry: Registry, root: Path) -> None:
        super().__init__(registry)
        self._root = root

    def put(
        self,
        id: str,
        content_sha256: str,
        width: int,
        height: int,
        captions: Captions | None,
        picture_vector: Vector,
        fingerprint: str,
        caption_vectors: Mapping[tuple[str, str, int], Vector] | None = None,
        *,
        picture: Picture | None = None,
    ) -> Put:
        """Add a picture or replace what `id` holds, with everything that belongs to it, or nothing at all.

        `captions` replace those put before (None keeps them); captions of expansions stay. `caption_vectors` are by
        language, text and version. `picture` is written to disk unless the same content is there already.
        """
        self._publish(content_sha256, picture)  # a store that is away refuses it before anything has changed
        with self._registry.begin() as session:
            old = session.scalar(select(PictureRow.content_sha256).where(PictureRow.id == id))
            said = captions is None or caption_rows.are(session, id, captions)
            if old != content_sha256 or not said or caption_vectors:  # else the same once more, which nobody follows
                change = _feed(session, "picture_put", id)
                facts = {"content_sha256": content_sha256, "width": width, "height": height, "change": change}
                if old is None:
                    session.execute(insert(PictureRow).values(id=id, **facts))
                else:
                    session.execute(update(PictureRow).where(PictureRow.id == id).values(**facts))
                if captions is not None:
                    caption_rows.replace(session, id, captions, change)
            stored.keep_picture_vectors(session, fingerprint, {content_sha256: picture_vector})
            caption_rows.keep_vectors(session, id, caption_vectors or {})
            self._write_files(content_sha256, picture)
            found = _pictures(session, [id])[id]
        self._publish(content_sha256, picture)  # again: another process may have forgotten the same content meanwhile
        if old is not None and old != content_sha256:
            with suppress(StoreUnavailable, OSError):  # as in `delete`
                self._forget(old)
        return Put(found, created=old is None)

    def delete(self, id: str) -> None:
        """Remove a picture, its captions and, when no other picture shows the same, what is kept of its content.

        Raises `PictureNotFound`.
        """
        with self._registry.begin() as session:
            content = session.scalar(select(PictureRow.content_sha256).where(PictureRow.id == id))
            if content is None:
                raise PictureNotFound("there is no picture of this id")
            caption_rows.remove(
                session, session.scalars(select(CaptionRow.id).where(CaptionRow.picture_id == id)).all()
            )
            session.execute(delete(PictureRow).where(PictureRow.id == id))
            _feed(session, "picture_deleted", id)
        with suppress(StoreUnavailable, OSError):  # the picture is gone all the same, and `sweep` finds its files
            self._forget(content)

    def get(self, id: str) -> GalleryPicture:
        """One picture; raises `PictureNotFound`."""
        with self._registry.read() as session:
            found = _pictures(session, [id])
        if id not in found:
            raise PictureNotFound("there is no picture of this id")
        return found[id]

    def page(self, limit: int, after: Place | None = None) -> Page:
        """At most `limit` pictures in the order in which they were added, those behind `after`."""
        created = type_coerce(PictureRow.created_at, Double)
        place = tuple_(created, PictureRow.id)
        query = select(PictureRow.id, created).order_by(created, PictureRow.id).limit(limit + 1)
        if after is not None:
            query = query.where(place > tuple_(*after))
        with self._registry.read() as session:
            rows = session.execute(query).all()
            found = _pictures(session, [row[0] for row in rows[:limit]])
        more = len(rows) > limit
        last = (rows[limit - 1][1], rows[limit - 1][0]) if more else None
        return Page([found[row[0]] for row in rows[:limit]], last)

    def ids(self) -> list[str]:
        """The ids of all pictures, sorted."""
        with self._registry.read() as session:
            return sorted(session.scalars(select(PictureRow.id)))

    def known(self, ids: Iterable[str]) -> set[str]:
        """Those of `ids` that the gallery has."""
        with self._registry.read() as session:
            return {
                id
                for batch in stored.batches(sorted(set(ids)), _BATCH)
                for id in session.scalars(select(PictureRow.id).where(PictureRow.id.in_(batch)))
            }

    def contents(self, ids: Sequence[str]) -> dict[str, str]:
        """The content hash of each picture that the gallery has."""
        columns = select(PictureRow.id, PictureRow.content_sha256)
        with self._registry.read() as session:
            return {
                id: content
                for batch in stored.batches(ids, _BATCH)
                for id, content in session.execute(columns.where(PictureRow.id.in_(batch)))
            }

    def captions_for(self, ids: Sequence[str], tags: Iterable[str] | None = None) -> dict[str, dict[str, list[str]]]:
        """The captions of each of these pictures by language, of all languages or those of `tags`."""
        found: dict[str, dict[str, list[str]]] = {id: {} for id in ids}
        wanted = None if tags is None else set(tags)
        for caption in self.captions(ids):
            if wanted is None or caption.language in wanted:
                found[caption.picture].setdefault(caption.language, []).append(caption.text)
        return found

    def captions(self, ids: Sequence[str]) -> list[Caption]:
        """All captions of these pictures, in the order in which they were given."""
        with self._registry.read() as session:
            return [caption for batch in stored.batches(ids, _BATCH) for caption in caption_rows.read(session, batch)]

    def captioned(self, language: str, expansions: Iterable[str]) -> list[str]:
        """The pictures that have a caption in this language, put with them or by one of these expansions; sorted."""
        ours = CaptionRow.expansion.is_(None) | CaptionRow.expansion.in_(list(expansions))
        with self._registry.read() as session:
            query = select(CaptionRow.picture_id).where(CaptionRow.language == language, ours).distinct()
            return sorted(session.scalars(query))

    def add_captions(self, expansion: str, language: str, rows: Iterable[tuple[str, str]]) -> int:
        """Add an expansion's captions (picture, text), except what is there already; returns how many were new.

        Pictures that the gallery does not have (any more) are passed over. They are not in the feed: they show from the
        version on that the expansion makes, whose caption vectors are built after this.
        """
        added = 0
        for batch in stored.batches(list(dict.fromkeys(rows)), _BATCH):
            with self._registry.begin() as session:
                added += caption_rows.add(session, expansion, language, batch)
        return added

    def change(self) -> int:
        """The number of the last change; 0 before the first."""
        with self._registry.read() as session:
            return session.scalar(select(func.max(GalleryChangeRow.change))) or 0

    def changes_since(self, change: int) -> dict[str, int]:
        """The pictures that changed or went after `change`, each with its last change."""
        last = func.max(GalleryChangeRow.change)
        query = select(GalleryChangeRow.picture_id, last).where(GalleryChangeRow.change > change)
        with self._registry.read() as session:
            rows = session.execute(query.group_by(GalleryChangeRow.picture_id).order_by(last)).all()
        return {row[0]: row[1] for row in rows}

    def content_path(self, content_sha256: str) -> Path:
        """Where the stored picture (WebP, at most 1,024 pixels a side) lies."""
        return self._root / FOLDER / content_sha256[:2] / f"{content_sha256}.webp"

    def thumbnail_path(self, content_sha256: str) -> Path:
        """Where the thumbnail (WebP, at most 256 pixels a side) lies."""
        return self._root / FOLDER / content_sha256[:2] / f"{content_sha256}.thumb.webp"

    def read(self, path: Path) -> bytes:
        """What lies at one of these places, brought from the store if need be; raises `FileNotFoundError`."""
        remote.fetch(path)
        return path.read_bytes()

    def sweep(self) -> int:
        """Remove files whose picture is gone, left by a crash within `delete`; returns how many contents."""
        with self._registry.read() as session:
            kept = set(session.scalars(select(PictureRow.content_sha256)))
        left = {file.name.partition(".")[0] for file in (self._root / FOLDER).glob("*/*.webp")} - kept
        for content in left:
            self._forget(content)
        return len(left)

    def _write_files(self, content: str, picture: Picture | None) -> None:
        if picture is not None and not self.content_path(content).exists():
            storage.require_free(self._root, 2 * (len(picture.stored) + len(picture.thumbnail)))
            storage.write_bytes(self.thumbnail_path(content), picture.thumbnail)
            storage.write_bytes(self.content_path(content), picture.stored)

    def _publish(self, content: str, picture: Picture | None) -> None:
        if picture is None or not remote.mounted(self._root):
            return
        with suppress(FileNotFoundError):
            return self._publish_files(content, picture)
        self._publish_files(content, picture)  # a sweep took them for left over, as no picture showed them yet

    def _publish_files(self, content: str, picture: Picture) -> None:
        self._write_files(content, picture)
        remote.publish(self.thumbnail_path(content))
        remote.publish(self.content_path(content))

    def _forget(self, content: str) -> None:
        """Drop the vectors and files of a content that no picture shows; nobody can put it meanwhile."""
        with self._registry.begin() as session:
            if session.scalar(select(PictureRow.id).where(PictureRow.content_sha256 == content).limit(1)) is None:
                remote.remove(self.content_path(content))
                remote.remove(self.thumbnail_path(content))
                stored.drop_picture_vectors(session, content)
                self.content_path(content).unlink(missing_ok=True)
                self.thumbnail_path(content).unlink(missing_ok=True)


def _feed(session: Session, kind: str, picture: str) -> int:
    row = insert(GalleryChangeRow).values(kind=kind, picture_id=picture).returning(GalleryChangeRow.change)
    return session.execute(row).scalar_one()


def _pictures(session: Session, ids: Sequence[str]) -> dict[str, GalleryPicture]:
    captions: dict[str, dict[str, list[str]]] = {id: {} for id in ids}
    for caption in caption_rows.read(session, ids):
        captions[caption.picture].setdefault(caption.language, []).append(caption.text)
    rows = session.scalars(select(PictureRow).where(PictureRow.id.in_(ids)).execution_options(populate_existing=True))
    return {
        row.id: GalleryPicture(row.id, row.content_sha256, row.width, row.height, captions[row.id], row.created_at)
        for row in rows
    }
