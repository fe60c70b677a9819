"""Which pictures and captions exist, and the change feed that every process follows. Encodes and searches nothing.

A write is one transaction of the registry's only writer, and leaves a row in the feed: no change is committed after one
with a later number, so a follower cannot miss it. Files are written before their row, outside of the transaction.
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
from index.rows import Caption, Captions
from index.tables import CaptionRow, GalleryChangeRow, PictureRow
from model import storage
from model.data_root import DataRoot
from model.errors import PictoglotError, StoreUnavailable
from model.registry import Registry

FOLDER = "pictures"  # under the data root
_BATCH = 500  # names in one SQL statement
Place = tuple[float, str]  # when a picture was added, and its id
_CREATED = type_coerce(PictureRow.created_at, Double)  # in Python a time loses the digits after the microsecond


@dataclass(frozen=True)
class GalleryPicture:
    """A picture and all its captions, by language; width and height in pixels, as rows.

    `place` is where it stands in a listing.
    """

    id: str
    content_sha256: str
    width: int
    height: int
    captions: dict[str, list[str]]
    created_at: datetime
    place: Place


@dataclass(frozen=True)
class Put:
    """The picture as it is now, and whether its id is new."""

    picture: GalleryPicture
    created: bool


class Gallery(rows.StoredVectors):
    """The pictures and captions of one registry, with stored pictures under `root`. Safe from threads and processes."""

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
        caption_vectors: Mapping[tuple[str, str, int], Vector] | None = None,
        *,
        picture: Picture | None = None,
    ) -> Put:
        """Add a picture or replace what `id` holds, with everything that belongs to it, or nothing at all.

        `captions` replace those put before (None keeps them); captions of expansions stay. `caption_vectors` are by
        language, text and version. `picture` is written to disk unless the same content is there already.
        """
        with self._files(content_sha256, picture), self._registry.begin() as session:
            old = session.scalar(select(PictureRow.content_sha256).where(PictureRow.id == id))
            said = captions is None or rows.captions_are(session, id, captions)
            if old != content_sha256 or not said or caption_vectors:  # else the same once more, which nobody follows
                change = _feed(session, "picture_put", id)
                facts = {"content_sha256": content_sha256, "width": width, "height": height, "change": change}
                if old is None:
                    session.execute(insert(PictureRow).values(id=id, **facts))
                else:
                    session.execute(update(PictureRow).where(PictureRow.id == id).values(**facts))
                if captions is not None:
                    rows.replace_captions(session, id, captions, change)
            rows.keep_picture_vectors(session, fingerprint, {content_sha256: picture_vector})
            rows.keep_vectors_of(session, id, caption_vectors or {})
            put = _pictures(session, [id])[id]
            if not self._has_files(content_sha256):  # another process forgot the same content a moment ago
                self._write_locally(content_sha256, picture)
        if old is not None and old != content_sha256:
            with suppress(StoreUnavailable, OSError):  # as in `delete`
                self.forget(old)
        return Put(put, created=old is None)

    def delete(self, id: str) -> None:
        """Remove a picture, its captions and, when no other picture shows the same, what is kept of its content.

        Raises `PictureNotFound`.
        """
        with self._registry.begin() as session:
            content = session.scalar(select(PictureRow.content_sha256).where(PictureRow.id == id))
            if content is None:
                raise PictureNotFound("there is no picture of this id")
            rows.remove_captions(
                session, session.scalars(select(CaptionRow.id).where(CaptionRow.picture_id == id)).all()
            )
            session.execute(delete(PictureRow).where(PictureRow.id == id))
            _feed(session, "picture_deleted", id)
        with suppress(StoreUnavailable, OSError):  # the picture is gone all the same, and `sweep` finds its files
            self.forget(content)

    def get(self, id: str) -> GalleryPicture:
        """One picture; raises `PictureNotFound`."""
        with self._registry.read() as session:
            found = _pictures(session, [id])
        if id not in found:
            raise PictureNotFound("there is no picture of this id")
        return found[id]

    def page(self, limit: int, after: Place | None = None) -> Sequence[GalleryPicture]:
        """At most `limit` pictures in the order in which they were added, those behind `after`."""
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
        """Those of `ids` that the gallery has."""
        with self._registry.read() as session:
            return {
                id
                for batch in rows.batches(sorted(set(ids)), _BATCH)
                for id in session.scalars(select(PictureRow.id).where(PictureRow.id.in_(batch)))
            }

    def contents(self, ids: Sequence[str]) -> dict[str, str]:
        """The content hash of each picture that the gallery has."""
        columns = select(PictureRow.id, PictureRow.content_sha256)
        with self._registry.read() as session:
            return {
                id: content
                for batch in rows.batches(ids, _BATCH)
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

    def captions(self, ids: Sequence[str], language: str | None = None) -> list[Caption]:
        """The captions of these pictures, in the order in which they were given: of one language, or of all."""
        with self._registry.read() as session:
            return [
                caption for batch in rows.batches(ids, _BATCH) for caption in rows.captions_of(session, batch, language)
            ]

    def captioned(self, language: str, expansions: Iterable[str]) -> list[str]:
        """The pictures that have a caption in this language, put with them or by one of these expansions; sorted."""
        ours = CaptionRow.expansion.is_(None) | CaptionRow.expansion.in_(list(expansions))
        with self._registry.read() as session:
            query = select(CaptionRow.picture_id).where(CaptionRow.language == language, ours).distinct()
            return sorted(session.scalars(query))

    def add_captions(self, expansion: str, language: str, captions: Iterable[tuple[str, str]]) -> int:
        """Add an expansion's captions (picture, text), except what is there already; returns how many were new.

        Pictures that the gallery does not have (any more) are passed over. They are not in the feed: they show from the
        version on that the expansion makes, whose caption vectors are built after this.
        """
        added = 0
        for batch in rows.batches(list(dict.fromkeys(captions)), _BATCH):
            with self._registry.begin() as session:
                added += rows.add_captions(session, expansion, language, batch)
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
            changes = session.execute(query.group_by(GalleryChangeRow.picture_id).order_by(last)).all()
        return {row[0]: row[1] for row in changes}

    def content_path(self, content_sha256: str) -> Path:
        """Where the stored picture (WebP, at most 1,024 pixels a side) is."""
        return self._root.path(_content(content_sha256))

    def thumbnail_path(self, content_sha256: str) -> Path:
        """Where the thumbnail (WebP, at most 256 pixels a side) is."""
        return self._root.path(_thumbnail(content_sha256))

    def read(self, content_sha256: str, *, thumbnail: bool = False) -> bytes:
        """The stored picture or its thumbnail, copied from the store if need be; raises `FileNotFoundError`."""
        name = _thumbnail(content_sha256) if thumbnail else _content(content_sha256)
        return self._root.open(name).read_bytes()

    def contents_kept(self) -> set[str]:
        """The content of every picture."""
        with self._registry.read() as session:
            return set(session.scalars(select(PictureRow.content_sha256)))

    def forget(self, content: str) -> None:
        """Drop the vectors and files of a content, unless a picture shows it.

        The store is asked outside of every transaction, and what was put meanwhile goes back into it: for that, this
        machine needs the files.
        """
        names = (_content(content), _thumbnail(content))
        if self._root.shared and not self._is_shown(content):
            for name in names:
                self._root.open(name)
                self._root.forget(name)
        with self._registry.begin() as session:
            if forgotten := not _shown(session, content):
                rows.drop_picture_vectors(session, content)
                for name in names:
                    self._root.path(name).unlink(missing_ok=True)
        if not forgotten:
            for name in names:
                if self._root.path(name).exists():
                    self._root.commit(name)

    def _is_shown(self, content: str) -> bool:
        with self._registry.read() as session:
            return _shown(session, content)

    def _has_files(self, content: str) -> bool:
        return self.content_path(content).exists() and self.thumbnail_path(content).exists()

    def _write_locally(self, content: str, picture: Picture | None) -> None:
        if picture is not None and not self._has_files(content):
            storage.require_free(self._root.home, 2 * (len(picture.stored) + len(picture.thumbnail)))
            storage.write_bytes(self.thumbnail_path(content), picture.thumbnail)
            storage.write_bytes(self.content_path(content), picture.stored)

    @contextmanager
    def _files(self, content: str, picture: Picture | None) -> Iterator[None]:
        """The files of a picture around the transaction that writes its row.

        Before it, so that a full disk or a store that is away refuses the picture before anything changed; and again
        after it, since another process may have removed them from the store meanwhile as left over.
        """
        self._write_files(content, picture)
        try:
            yield
        except BaseException:
            with suppress(PictoglotError, OSError):  # otherwise the sweeper takes them
                self.forget(content)
            raise
        self._write_files(content, picture)

    def _write_files(self, content: str, picture: Picture | None) -> None:
        """Here and, when there is a store, there; again when another process removed them as left over meanwhile."""
        if picture is None:
            return
        self._write_locally(content, picture)
        with suppress(FileNotFoundError):
            return self._commit_files(content)
        self._write_locally(content, picture)
        self._commit_files(content)

    def _commit_files(self, content: str) -> None:
        if self._root.shared:
            self._root.commit(_thumbnail(content))
            self._root.commit(_content(content))


def _content(content_sha256: str) -> str:
    return f"{FOLDER}/{content_sha256[:2]}/{content_sha256}.webp"


def _thumbnail(content_sha256: str) -> str:
    return f"{FOLDER}/{content_sha256[:2]}/{content_sha256}.thumb.webp"


def _shown(session: Session, content: str) -> bool:
    return session.scalar(select(PictureRow.id).where(PictureRow.content_sha256 == content).limit(1)) is not None


def _feed(session: Session, kind: str, picture: str) -> int:
    """Note a change, and drop the older ones of the same picture: a follower asks for the last one alone."""
    session.execute(delete(GalleryChangeRow).where(GalleryChangeRow.picture_id == picture))
    row = insert(GalleryChangeRow).values(kind=kind, picture_id=picture).returning(GalleryChangeRow.change)
    return session.execute(row).scalar_one()


def _pictures(session: Session, ids: Sequence[str]) -> dict[str, GalleryPicture]:
    captions: dict[str, dict[str, list[str]]] = {id: {} for id in ids}
    for caption in rows.captions_of(session, ids):
        captions[caption.picture].setdefault(caption.language, []).append(caption.text)
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
            captions=captions[row.id],
            created_at=row.created_at,
            place=(created, row.id),
        )
        for row, created in session.execute(query)
    }
