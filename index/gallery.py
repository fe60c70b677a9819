"""Stores pictures and captions, and the change feed that every process follows. Encodes and searches nothing.

The registry has one writer at a time. Each write is one transaction and adds a row to the feed, so changes are
committed in the order of their numbers and a follower misses none. Files are written before their row, outside the
transaction.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Double, delete, func, insert, select, tuple_, type_coerce, update
from sqlalchemy.orm import Session

from index import rows
from index.engine import Vector
from index.errors import PictureNotFound
from index.pictures import Picture
from index.rows import Captions
from index.tables import CaptionRow, GalleryChangeRow, PictureRow
from model import storage
from model.data_root import DataRoot
from model.errors import CorruptFolder, PictoglotError, StoreUnavailable
from model.registry import Registry

FOLDER = "pictures"  # under the data root
_BATCH = 500  # values in one SQL statement
Place = tuple[float, str]  # when a picture was added, and its id
_CREATED = type_coerce(PictureRow.created_at, Double)  # as a Python datetime it would be cut to microseconds


@dataclass(frozen=True)
class GalleryPicture:
    """A row of the gallery: a picture without its captions; width and height are in pixels.

    `place` is its position in a listing.
    """

    id: str
    content_sha256: str
    width: int
    height: int
    created_at: datetime
    place: Place


@dataclass(frozen=True)
class Put:
    """The picture as it is now, and whether its id was new."""

    picture: GalleryPicture
    created: bool


class Gallery(rows.CaptionsAndVectors):
    """The pictures and captions of one registry, with picture files under `root`. Safe for threads and processes."""

    def __init__(self, registry: Registry, root: DataRoot) -> None:
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
        caption_vectors: Mapping[tuple[str, str, rows.ReadBy], Vector] | None = None,
        *,
        picture: Picture | None = None,
    ) -> Put:
        """Add a picture, or replace the one with this `id`, together with its captions and vectors: all or nothing.

        `captions` replace those added before with the picture (None keeps them); captions of expansions stay.
        `caption_vectors` are by language, text and what read them. `picture` is written to disk unless its files exist.
        """
        with self._files(content_sha256, picture), self._registry.begin() as session:
            old = session.scalar(select(PictureRow.content_sha256).where(PictureRow.id == id))
            same_captions = captions is None or rows.captions_equal(session, id, captions)
            if old != content_sha256 or not same_captions or caption_vectors:  # otherwise nothing changed
                change = _add_change(session, "picture_put", id)
                columns = {"content_sha256": content_sha256, "width": width, "height": height, "change": change}
                if old is None:
                    session.execute(insert(PictureRow).values(id=id, **columns))
                else:
                    session.execute(update(PictureRow).where(PictureRow.id == id).values(**columns))
                if captions is not None:
                    rows.replace_captions(session, id, captions, change)
            rows.store_picture_vectors(session, fingerprint, {content_sha256: picture_vector})
            rows.store_vectors_of(session, id, caption_vectors or {})
            stored = _pictures(session, [id])[id]
            if not self._has_files(content_sha256):  # another process has just deleted this content as unused
                self._write_locally(content_sha256, picture)
        if old is not None and old != content_sha256:
            with suppress(PictoglotError, OSError):  # as in `delete`
                self.delete_unused_content(old)
        return Put(stored, created=old is None)

    def delete(self, id: str) -> None:
        """Delete a picture and its captions, and its vectors and files unless another picture has the same content.

        Raises `PictureNotFound`.
        """
        with self._registry.begin() as session:
            content = session.scalar(select(PictureRow.content_sha256).where(PictureRow.id == id))
            if content is None:
                raise PictureNotFound("there is no picture with this id")
            rows.remove_captions(
                session, session.scalars(select(CaptionRow.id).where(CaptionRow.picture_id == id)).all()
            )
            session.execute(delete(PictureRow).where(PictureRow.id == id))
            _add_change(session, "picture_deleted", id)
        with suppress(PictoglotError, OSError):  # the picture is deleted; `sweep` removes its files later
            self.delete_unused_content(content)

    def get(self, id: str) -> GalleryPicture:
        """One picture; raises `PictureNotFound`."""
        with self._registry.read() as session:
            pictures = _pictures(session, [id])
        if id not in pictures:
            raise PictureNotFound("there is no picture with this id")
        return pictures[id]

    def page(self, limit: int, after: Place | None = None) -> Sequence[GalleryPicture]:
        """At most `limit` pictures in the order in which they were added, starting after `after`."""
        query = select(PictureRow.id).order_by(PictureRow.created_at, PictureRow.id).limit(limit)
        if after is not None:
            query = query.where(tuple_(_CREATED, PictureRow.id) > tuple_(*after))
        with self._registry.read() as session:
            ids = session.scalars(query).all()
            pictures = _pictures(session, ids)
        return [pictures[id] for id in ids]

    def ids(self) -> list[str]:
        """The ids of all pictures, sorted."""
        with self._registry.read() as session:
            return sorted(session.scalars(select(PictureRow.id)))

    def known(self, ids: Iterable[str]) -> set[str]:
        """The ids among `ids` that exist in the gallery."""
        with self._registry.read() as session:
            return {
                id
                for batch in rows.batches(sorted(set(ids)), _BATCH)
                for id in session.scalars(select(PictureRow.id).where(PictureRow.id.in_(batch)))
            }

    def contents(self, ids: Sequence[str]) -> dict[str, str]:
        """The content hash of each of these pictures that exists."""
        columns = select(PictureRow.id, PictureRow.content_sha256)
        with self._registry.read() as session:
            return {
                id: content
                for batch in rows.batches(ids, _BATCH)
                for id, content in session.execute(columns.where(PictureRow.id.in_(batch)))
            }

    def change(self) -> int:
        """The number of the last change; 0 when there is none."""
        with self._registry.read() as session:
            return session.scalar(select(func.max(GalleryChangeRow.change))) or 0

    def changes_since(self, change: int) -> dict[str, int]:
        """The pictures that were changed or deleted after `change`, each with its last change."""
        last = func.max(GalleryChangeRow.change)
        query = select(GalleryChangeRow.picture_id, last).where(GalleryChangeRow.change > change)
        with self._registry.read() as session:
            changes = session.execute(query.group_by(GalleryChangeRow.picture_id).order_by(last)).all()
        return {row[0]: row[1] for row in changes}

    def content_path(self, content_sha256: str) -> Path:
        """The path of the stored picture (at most 1,024 pixels a side)."""
        return self._root.path(self._here_first(_content(content_sha256))[0])

    def thumbnail_path(self, content_sha256: str) -> Path:
        """The path of the thumbnail (at most 256 pixels a side)."""
        return self._root.path(self._here_first(_thumbnail(content_sha256))[0])

    def read(self, content_sha256: str, *, thumbnail: bool = False) -> bytes:
        """The stored picture or its thumbnail, fetched from the store if needed; raises `FileNotFoundError`."""
        stem = _thumbnail(content_sha256) if thumbnail else _content(content_sha256)
        for name in self._here_first(stem):
            with suppress(FileNotFoundError):
                return self._root.open(name).read_bytes()
        raise FileNotFoundError(stem)

    def contents_in_use(self) -> set[str]:
        """The content hashes of all pictures."""
        with self._registry.read() as session:
            return set(session.scalars(select(PictureRow.content_sha256)))

    def delete_unused_content(self, content: str) -> None:
        """Delete the vectors and files of a content, unless a picture has this content.

        The files are first removed from the store, outside any transaction. If a picture with this content is added
        meanwhile, they are uploaded again: that is why local copies are fetched first.
        """
        names = [*_names(_content(content)), *_names(_thumbnail(content))]
        if self._root.shared and not self._is_used(content):
            for name in names:
                with suppress(CorruptFolder):  # then there is nothing that could be uploaded again
                    self._root.open(name)
                self._root.forget(name)
        with self._registry.begin() as session:
            if unused := not _used(session, content):
                rows.drop_picture_vectors(session, content)
                for name in names:
                    self._root.path(name).unlink(missing_ok=True)
        if not unused:
            for name in names:
                if self._root.path(name).exists():
                    self._root.commit(name)

    def _is_used(self, content: str) -> bool:
        with self._registry.read() as session:
            return _used(session, content)

    def _has_files(self, content: str) -> bool:
        return self.content_path(content).exists() and self.thumbnail_path(content).exists()

    def _write_locally(self, content: str, picture: Picture | None) -> None:
        if picture is not None and not self._has_files(content):
            storage.require_free(self._root.home, 2 * (len(picture.stored) + len(picture.thumbnail)))
            storage.write_bytes(self.thumbnail_path(content), picture.thumbnail)
            storage.write_bytes(self.content_path(content), picture.stored)

    @contextmanager
    def _files(self, content: str, picture: Picture | None) -> Iterator[None]:
        """Write the files of a picture before and after the transaction that writes its row.

        Before it, so that a full disk or an unavailable store refuses the picture while nothing has changed. Again
        after it, because another process may meanwhile have removed the files from the store as left over.
        """
        self._write_files(content, picture)
        try:
            yield
        except BaseException:
            with suppress(PictoglotError, OSError):  # if this fails, the sweeper removes them later
                self.delete_unused_content(content)
            raise
        with suppress(StoreUnavailable):  # the row is committed, and the store took the files before
            self._write_files(content, picture)

    def _write_files(self, content: str, picture: Picture | None) -> None:
        """Write the files locally and to the store, if any; once more if another process removed them meanwhile."""
        if picture is None:
            return
        self._write_locally(content, picture)
        with suppress(FileNotFoundError):
            return self._commit_files(content)
        self._write_locally(content, picture)
        self._commit_files(content)

    def _commit_files(self, content: str) -> None:
        if self._root.shared:
            for stem in (_thumbnail(content), _content(content)):
                self._root.commit(self._here_first(stem)[0])

    def _here_first(self, stem: str) -> list[str]:
        """The names that a file can have; first the one under which it is on this machine, if it is."""
        return sorted(_names(stem), key=lambda name: not self._root.path(name).exists())


def _content(content_sha256: str) -> str:
    return f"{FOLDER}/{content_sha256[:2]}/{content_sha256}"


def _thumbnail(content_sha256: str) -> str:
    return f"{FOLDER}/{content_sha256[:2]}/{content_sha256}.thumb"


def _names(stem: str) -> list[str]:
    """The name under which a file is written, and the one under which releases before decision 26 wrote it."""
    return [f"{stem}.jpg", f"{stem}.webp"]


def _used(session: Session, content: str) -> bool:
    return session.scalar(select(PictureRow.id).where(PictureRow.content_sha256 == content).limit(1)) is not None


def _add_change(session: Session, kind: str, picture: str) -> int:
    """Add a change and delete older ones of the same picture: a follower only needs the last one."""
    session.execute(delete(GalleryChangeRow).where(GalleryChangeRow.picture_id == picture))
    row = insert(GalleryChangeRow).values(kind=kind, picture_id=picture).returning(GalleryChangeRow.change)
    return session.execute(row).scalar_one()


def _pictures(session: Session, ids: Sequence[str]) -> dict[str, GalleryPicture]:
    query = (
        select(PictureRow, _CREATED.label("place"))
        .where(PictureRow.id.in_(ids))
        .execution_options(populate_existing=True)
    )
    return {
        row.id: GalleryPicture(
            id=row.id,
            content_sha256=row.content_sha256,
            width=row.width,
            height=row.height,
            created_at=row.created_at,
            place=(created, row.id),
        )
        for row, created in session.execute(query)
    }
