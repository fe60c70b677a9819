"""Stores pictures and captions, and the change feed that every process follows. Encodes and searches nothing.

The registry has one writer at a time. Each write is one transaction and adds a row to the feed, so changes are
committed in the order of their numbers and a follower misses none. Files are written before their row, outside the
transaction.
"""

import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import Insert, Update, delete, insert, select, update
from sqlalchemy.orm import Session

from index.captions import (
    Captions,
    ReadBy,
    batches,
    group,
    order,
    own_ids,
    replace_captions,
    texts_of,
    write_words,
)
from index.files import PictureFiles
from index.records import (
    CREATED,
    GalleryPicture,
    Given,
    Patch,
    Place,
    Seen,
    Within,
    equal,
    following,
    next_change,
    pictures_of,
    record_of,
    write_values,
)
from index.rows import Stored, store_caption_vectors, store_picture_vectors
from index.set_states import DELETED
from index.vectors import Vector
from model.pictures import Picture
from store.clock import now
from store.data_root import DataRoot
from store.errors import PictoglotError, PictureNotFound, StoreUnavailable
from store.registry import Registry
from store.tables import DiscardedContentRow, GalleryChangeRow, PictureRow, PictureVectorRow

KEPT_SECONDS = 86_400.0  # for which files stay after no picture has their content: a copy of the registry may name them


@dataclass(frozen=True)
class NewPicture:
    """A picture to be put under an id, with what was computed for it.

    `captions` replace those added before with the picture (None keeps them); captions of expansions stay. `vector` is
    None when its content has one, `picture` when its content has files. `caption_vectors` are by language, text and
    what read them.
    """

    id: str
    content_sha256: str
    width: int
    height: int
    captions: Captions | None = None
    vector: Vector | None = None
    picture: Picture | None = None
    caption_vectors: Mapping[tuple[str, str, ReadBy], Vector] = field(default_factory=dict)
    given: Given = field(default_factory=Given)


Outcome = Literal["created", "replaced", "kept"]


@dataclass(frozen=True)
class Put:
    """The picture as it is now, the captions added with it, and what became of its id: new, changed, or as before."""

    picture: GalleryPicture
    captions: dict[str, list[str]]
    outcome: Outcome
    before: str | None = None  # the content that it had

    @property
    def created(self) -> bool:
        """Whether its id was new."""
        return self.outcome == "created"


class Gallery(Stored):
    """The pictures and captions of one registry, with picture files under `root`. Safe for threads and processes."""

    def __init__(self, registry: Registry, root: DataRoot) -> None:
        super().__init__(registry)
        self.root = root
        self.files = PictureFiles(root)

    def put(self, pictures: Sequence[NewPicture], fingerprint: str) -> list[Put]:
        """Add pictures, or replace those with their ids, with captions, records and vectors: all or nothing.

        `fingerprint` is that of the image tower that made the vectors. Raises `PictureNotFound` for one outside of the
        collections that may be written, and `RecordChanged`.
        """
        with self._written(pictures), self.registry.begin() as session:
            stored = [_store(session, new) for new in pictures]
            vectors = {new.content_sha256: new.vector for new in pictures if new.vector is not None}
            store_picture_vectors(session, fingerprint, vectors)
            _discard(session, {put.before for put in stored if put.before is not None})
            _reclaim(session, {new.content_sha256 for new in pictures})
            for content, picture in _files_of(pictures):  # another process has just deleted this content as unused
                self.files.write_missing(content, picture)
        return stored

    def patch(self, patch: Patch, vectors: Mapping[tuple[str, str, ReadBy], Vector]) -> Put:
        """Change a picture's captions and record; `vectors` are of its new captions, as in `NewPicture`.

        Raises as `Patch.on`; then nothing changed. Only other captions are an entry of the change feed.
        """
        with self.registry.begin() as session:
            before, own = pictures_of(session, [patch.id]).get(patch.id), own_ids(session, patch.id)
            record, captions = patch.on(before.record if before else None, group(own))
            assert before is not None
            return _write(session, before, replace(before, record=record), own, captions, vectors)

    def check(self, id: str, change: Given | Patch) -> None:
        """Raise what `put` or `patch` would for this picture by now, before anything is decoded or encoded for it."""
        with self.registry.read() as session:
            before = record_of(session, id)
            if isinstance(change, Given):
                change.on(before)
            else:
                change.on(before, group(own_ids(session, id)))

    def delete(self, id: str, within: Within = None, seen: Seen | None = None) -> None:
        """Delete a picture and its captions, and its vectors unless another picture has its content.

        Then its files go later: see `delete_content`.

        Raises `PictureNotFound`, also for one in none of the collections `within`, and `RecordChanged` unless it is as
        it was `seen`.
        """
        with self.registry.begin() as session:
            if (record := record_of(session, id, within)) is None:
                raise PictureNotFound("there is no picture with this id")
            if seen is not None:
                seen.require(record)
            content = session.scalars(select(PictureRow.content_sha256).where(PictureRow.id == id)).one()
            session.execute(delete(PictureRow).where(PictureRow.id == id))
            next_change(session)  # facets have one picture fewer
            _add_change(session, DELETED, id)
            _discard(session, {content})

    def get(self, id: str, within: Within = None) -> GalleryPicture:
        """One picture; raises `PictureNotFound`, also for one in none of the collections `within`."""
        with self.registry.read() as session:
            pictures = pictures_of(session, [id], within)
        if id not in pictures:
            raise PictureNotFound("there is no picture with this id")
        return pictures[id]

    def page(self, limit: int, after: Place | None = None, *, newest_first: bool = False) -> Sequence[GalleryPicture]:
        """At most `limit` pictures in the order in which they were added, or the other one, starting after `after`."""
        with self.registry.read_in_time() as session:
            ids = following(session, limit, after, newest_first)
            pictures = pictures_of(session, ids)
        return [pictures[id] for id in ids]

    def contents_needed(self, prefix: str = "") -> set[str]:
        """The content hashes of all pictures, and of those discarded, or those that begin with `prefix`."""
        with self.registry.read() as session:
            return {
                content
                for column in (PictureRow.content_sha256, DiscardedContentRow.content_sha256)
                for content in session.scalars(select(column).where(column.between(prefix, f"{prefix}g")))
            }  # hashes are hexadecimal

    def touch(self, ids: Sequence[str]) -> None:
        """Have whoever follows the gallery read these pictures again, and compute what they lack."""
        with self.registry.begin() as session:
            for id in pictures_of(session, ids):
                change = _add_change(session, "picture_put", id)
                session.execute(update(PictureRow).where(PictureRow.id == id).values(change=change))

    def discarded(self, seconds: float = KEPT_SECONDS) -> list[str]:
        """The contents that no picture has had for so many seconds."""
        row = DiscardedContentRow
        with self.registry.read() as session:
            return list(session.scalars(select(row.content_sha256).where(row.discarded_at <= now() - seconds)))

    def delete_content(self, content: str, seconds: float = KEPT_SECONDS) -> None:
        """Delete the files and vectors of a content, unless a picture has it, or had it less than `seconds` ago.

        The files are first removed from the store, outside any transaction. If a picture with this content is added
        meanwhile, they are uploaded again.
        """
        with self.registry.read() as session:
            needed = _is_needed(session, content, seconds)
        if not needed:
            self.files.forget(content)
        with self.registry.begin() as session:
            if not (needed := _is_needed(session, content, seconds)):
                for row in (PictureVectorRow, DiscardedContentRow):
                    session.execute(delete(row).where(row.content_sha256 == content))
                self.files.remove_locally(content)
        if needed:
            self.files.restore(content)

    @contextmanager
    def _written(self, pictures: Sequence[NewPicture]) -> Iterator[None]:
        """Write the files of pictures before and after the transaction that writes their rows.

        Before it, so that a full disk or an unavailable store refuses them while nothing has changed. Again after it,
        because another process may meanwhile have removed the files from the store as left over.
        """
        files = _files_of(pictures)
        try:
            self.files.write(files)
            yield
        except BaseException:
            for content, _ in files:
                with suppress(PictoglotError, OSError):  # if this fails, the sweeper removes them later
                    self.delete_content(content)
            raise
        with suppress(StoreUnavailable):  # the rows are committed, and the store took the files before
            self.files.write(files)


def _files_of(pictures: Sequence[NewPicture]) -> list[tuple[str, Picture]]:
    return list({new.content_sha256: new.picture for new in pictures if new.picture is not None}.items())


def _store(session: Session, new: NewPicture) -> Put:
    before = pictures_of(session, [new.id]).get(new.id)
    own = own_ids(session, new.id) if before else {}
    record = new.given.on(before.record if before else None)
    original = new.picture is not None and new.picture.original is not None
    if before is not None and before.content_sha256 == new.content_sha256:
        after = replace(before, record=record, original=original or before.original)
    else:  # what only the database knows is filled in when its row is written
        never, place = datetime.fromtimestamp(0, UTC), (0.0, new.id)
        after = GalleryPicture(new.id, new.content_sha256, new.width, new.height, never, place, record, original, key=0)
    return _write(session, before, after, own, new.captions, new.caption_vectors)


def _write(
    session: Session,
    before: GalleryPicture | None,
    after: GalleryPicture,
    own: Mapping[tuple[str, str], int],
    captions: Captions | None,
    vectors: Mapping[tuple[str, str, ReadBy], Vector],
) -> Put:
    """Write what changed of a picture, whose captions are `own` until then."""
    content = before.content_sha256 if before else None
    edited = before is None or not equal(after.record, before.record)
    indexed = content != after.content_sha256 or (captions is not None and [*own] != order(captions)) or bool(vectors)
    if before is not None and not edited and not indexed:
        if after.original != before.original:
            session.execute(update(PictureRow).where(PictureRow.id == after.id).values(original=after.original))
        return Put(after, group(own), "kept", content)
    record = replace(after.record, tags=[*after.record.tags], etag=secrets.token_hex(8))
    columns = {name: getattr(after, name) for name in ("content_sha256", "width", "height", "original")}
    if indexed:
        record = replace(record, change=_add_change(session, "picture_put", after.id))
    if content != after.content_sha256:
        columns["key"] = record.change
    columns |= {"change": record.change, "record": next_change(session), "etag": record.etag}
    columns |= {"collection": record.collection, "tags": record.tags, "facts": {**record.metadata}}
    row: Insert | Update = insert(PictureRow).values(id=after.id, **columns)
    if before is not None:
        row = update(PictureRow).where(PictureRow.id == after.id).values(**columns)
    key, created, place = session.execute(
        row.returning(PictureRow.key, PictureRow.created_at, CREATED.label("place"))
    ).one()
    if captions is not None:
        own = replace_captions(session, after.id, own, captions, record.change)
    for (language, text, by), vector in vectors.items():
        if (language, text) in own:
            store_caption_vectors(session, by, {own[language, text]: vector})
    if edited:
        write_values(session, key, record)
    write_words(session, {key: [*texts_of(record.tags, record.metadata), *(text for _, text in own)]})
    picture = replace(after, key=key, created_at=created, place=(place, after.id), record=record)
    return Put(picture, group(own), "created" if before is None else "replaced", content)


def _is_needed(session: Session, content: str, seconds: float) -> bool:
    used, row = select(PictureRow.id).where(PictureRow.content_sha256 == content).limit(1), DiscardedContentRow
    recent = select(row.content_sha256).where(row.content_sha256 == content, row.discarded_at > now() - seconds)
    return session.scalar(used) is not None or session.scalar(recent) is not None


def _discard(session: Session, contents: Collection[str]) -> None:
    """Delete the vectors of these contents, and note that no picture has them from now on, unless one has."""
    column = PictureRow.content_sha256
    for batch in batches([*contents]):
        if unused := set(batch).difference(session.scalars(select(column).where(column.in_(batch)))):
            _reclaim(session, unused)
            session.execute(delete(PictureVectorRow).where(PictureVectorRow.content_sha256.in_(unused)))
            session.execute(insert(DiscardedContentRow), [{"content_sha256": content} for content in sorted(unused)])


def _reclaim(session: Session, contents: Collection[str]) -> None:
    """Note that pictures have these contents."""
    for batch in batches([*contents]):
        session.execute(delete(DiscardedContentRow).where(DiscardedContentRow.content_sha256.in_(batch)))


def _add_change(session: Session, kind: str, picture: str) -> int:
    """Add a change and delete older ones of the same picture: a follower only needs the last one."""
    session.execute(delete(GalleryChangeRow).where(GalleryChangeRow.picture_id == picture))
    row = insert(GalleryChangeRow).values(kind=kind, picture_id=picture).returning(GalleryChangeRow.change)
    return session.execute(row).scalar_one()
