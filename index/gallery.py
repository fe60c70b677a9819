"""The writer of pictures, captions and the change feed that every process follows. Encodes and searches nothing.

The registry has one writer at a time. Each write is one transaction; where it changes content or captions it adds a row
to the feed, so these are committed in the order of their numbers and a follower misses none. Files are written before
their row, outside the transaction.
"""

import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

from sqlalchemy import Double, Insert, Update, delete, insert, literal, select, update
from sqlalchemy.orm import Session

from index.captions import (
    Captions,
    EncoderId,
    find_captions,
    find_own_ids,
    flatten_captions,
    group_by_language,
    list_texts,
    replace_captions,
    split_batches,
    write_words,
)
from index.picture_files import PictureFiles
from index.picture_tables import PictureTables, store_caption_vectors, store_picture_vectors
from index.records import (
    CREATED,
    SHOWN,
    Collections,
    GalleryPicture,
    Patch,
    Precondition,
    RecordInput,
    add_record_change,
    find_pictures,
    find_records,
    find_spelling,
    find_taken_at,
    is_equal,
    write_values,
)
from index.set_states import DELETED
from index.vectors import Vector
from model.pictures import Picture
from store.audit import CURRENT, Act, note_act
from store.clock import now
from store.data_root import DataRoot
from store.errors import PictoglotError, PictureNotFound, StoreUnavailable
from store.reach import DeletedPictureRow
from store.registry import Registry
from store.tables import DiscardedContentRow, GalleryChangeRow, PictureRow, PictureVectorRow

KEPT_SECONDS = 86_400.0  # for which files stay after no picture has their content: a copy of the registry may name them
_NEVER = datetime.fromtimestamp(0, UTC)  # in the place of what only the database knows
_OF_FILE = ("width", "height", "original")


@dataclass(frozen=True)
class NewPicture:
    """A picture to be put under an id, with what was computed for it.

    `captions` replace those added before with the picture (None keeps them); captions of expansions stay. `vector` is
    None when its content has one, `picture` when its content has files. `caption_vectors` are by language, text and
    encoder.
    """

    id: str
    content_sha256: str
    width: int
    height: int
    captions: Captions | None = None
    vector: Vector | None = None
    picture: Picture | None = None
    caption_vectors: Mapping[tuple[str, str, EncoderId], Vector] = field(default_factory=dict)
    record: RecordInput = field(default_factory=RecordInput)
    act: Act | None = field(default_factory=CURRENT.get, compare=False)  # of whom the picture came


Outcome = Literal["created", "replaced", "kept"]


@dataclass(frozen=True)
class PutResult:
    """The picture as it is now, the captions added with it, the outcome, and its content before.

    `same_as` is another picture that the caller may see and that has its content, where it was not put there before.
    """

    picture: GalleryPicture
    captions: dict[str, list[str]]
    outcome: Outcome
    content_before: str | None = None
    same_as: str | None = None

    @property
    def created(self) -> bool:
        """Whether its id was new."""
        return self.outcome == "created"


class Gallery(PictureTables):
    """The pictures and captions of one registry, with picture files under `root`. Safe for threads and processes."""

    def __init__(self, registry: Registry, root: DataRoot, bound: Collection[str] = ()) -> None:
        super().__init__(registry, bound)
        self.root = root

    @cached_property
    def files(self) -> PictureFiles:
        return PictureFiles(self.root)

    def put(self, pictures: Sequence[NewPicture], fingerprint: str) -> list[PutResult]:
        """Add pictures, or replace those with their ids, with captions, records and vectors: all or nothing.

        `fingerprint` is that of the image tower that made the vectors. Raise `PictureNotFound` for a picture outside of
        the collections that may be written, and `RecordChanged`.
        """
        with self._write_files_around(pictures), self.registry.begin() as session:
            stored = [_put_picture(session, new) for new in pictures]
            for new, put in zip(pictures, stored, strict=True):
                if put.outcome != "kept":
                    note_act(session, {new.id: put.outcome}, new.act)
            vectors = {new.content_sha256: new.vector for new in pictures if new.vector is not None}
            with_vectors = store_picture_vectors(session, fingerprint, vectors)
            in_feed = {put.picture.id for put in stored if put.content_before != put.picture.content_sha256}
            _touch(session, _list_with_contents(session, with_vectors) - in_feed)
            _discard(session, {put.content_before for put in stored if put.content_before is not None})
            reclaim(session, {new.content_sha256 for new in pictures})
            for content, picture in _list_files(pictures):  # another process has just deleted this content as unused
                self.files.write_missing(content, picture)
        return stored

    def patch(self, patch: Patch, vectors: Mapping[tuple[str, str, EncoderId], Vector]) -> PutResult:
        """Change a picture's captions and record; `vectors` are of its new captions, as in `NewPicture`.

        Raise what `Patch.apply_to` raises; then nothing changed. Only new captions are an entry of the change feed.
        """
        with self.registry.begin() as session:
            before, own = find_pictures(session, [patch.id]).get(patch.id), find_own_ids(session, patch.id)
            record, captions = patch.apply_to(before.record if before else None, group_by_language(own))
            assert before is not None
            after = replace(before, record=record)
            put = write_row(session, before, after, own, captions, vectors, patch.collections)
            note_act(session, {patch.id: put.outcome})
            return put

    def check(self, id: str, change: RecordInput | Patch) -> None:
        """Raise what `put` or `patch` would raise now, before anything is decoded or encoded."""
        with self.registry.read() as session:
            before = find_records(session, [id]).get(id)
            if isinstance(change, RecordInput):
                change.apply_to(before)
            else:
                change.apply_to(before, group_by_language(find_own_ids(session, id)))

    def delete(self, id: str, collections: Collections = None, precondition: Precondition | None = None) -> None:
        """Delete a picture and its captions; `index.bulk` can bring it back until its files are deleted.

        These go later, by `delete_content`. Raise `PictureNotFound`, also outside of these collections, and
        `RecordChanged` unless the precondition holds.
        """
        with self.registry.begin() as session:
            if (picture := find_pictures(session, [id], collections).get(id)) is None:
                raise PictureNotFound("there is no picture with this id")
            if precondition is not None:
                precondition.require(picture.record)
            delete_rows(session, [picture])
            note_act(session, {id: "deleted"})

    def get(self, id: str, collections: Collections = None) -> GalleryPicture:
        """Return one picture; raise `PictureNotFound`, also outside of these collections."""
        with self.registry.read() as session:
            pictures = find_pictures(session, [id], collections)
        if id not in pictures:
            raise PictureNotFound("there is no picture with this id")
        return pictures[id]

    def list_needed_contents(self, prefix: str = "") -> set[str]:
        """Return the content hashes of all pictures, and the discarded ones, that begin with `prefix`."""
        with self.registry.read() as session:
            return {
                content
                for column in (PictureRow.content_sha256, DiscardedContentRow.content_sha256)
                for content in session.scalars(select(column).where(column.between(prefix, f"{prefix}g")))
            }  # hashes are hexadecimal

    def touch(self, ids: Sequence[str]) -> None:
        """Have every process read these pictures again, and compute the vectors that they lack."""
        with self.registry.begin() as session:
            _touch(session, find_pictures(session, ids))

    def erase_deleted(self, seconds: float = KEPT_SECONDS) -> None:
        """Erase pictures that were deleted more than so many seconds ago, with their vectors: none comes back then."""
        until, row = now() - seconds, DiscardedContentRow
        unused = select(row.content_sha256).where(row.discarded_at <= until)
        with self.registry.begin() as session:
            session.execute(delete(DeletedPictureRow).where(DeletedPictureRow.deleted_at <= until))
            session.execute(delete(PictureVectorRow).where(PictureVectorRow.content_sha256.in_(unused)))

    def list_discarded(self, seconds: float = KEPT_SECONDS) -> list[str]:
        """List the contents that no picture has had for this time."""
        row = DiscardedContentRow
        return list(self.registry.read_values(select(row.content_sha256).where(row.discarded_at <= now() - seconds)))

    def delete_content(self, content: str, seconds: float = KEPT_SECONDS) -> None:
        """Delete the files and vectors of a content, unless a picture has it, or had it less than `seconds` ago.

        The files are first removed from the store, outside any transaction. If a picture with this content is added
        meanwhile, they are uploaded again.
        """
        with self.registry.read() as session:
            needed = _is_needed(session, content, seconds)
        if not needed:
            self.files.remove_from_store(content)
        with self.registry.begin() as session:
            if not (needed := _is_needed(session, content, seconds)):
                for row in (PictureVectorRow, DiscardedContentRow):
                    session.execute(delete(row).where(row.content_sha256 == content))
                self.files.remove_locally(content)
        if needed:
            self.files.restore(content)

    @contextmanager
    def _write_files_around(self, pictures: Sequence[NewPicture]) -> Iterator[None]:
        """Write the files of pictures before and after the transaction that writes their rows.

        Before it, so that a full disk or an unavailable store refuses them while nothing has changed. Again after it,
        because another process may have removed the files from the store meanwhile, as unused.
        """
        files = _list_files(pictures)
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


def _list_files(pictures: Sequence[NewPicture]) -> list[tuple[str, Picture]]:
    return list({new.content_sha256: new.picture for new in pictures if new.picture is not None}.items())


def _put_picture(session: Session, new: NewPicture) -> PutResult:
    before = find_pictures(session, [new.id]).get(new.id)
    own = find_own_ids(session, new.id) if before else {}
    record = new.record.apply_to(before.record if before else None)
    original = new.picture is not None and new.picture.original is not None
    if before is not None and before.content_sha256 == new.content_sha256:
        original |= before.original
        after = replace(before, width=new.width, height=new.height, record=record, original=original)
    else:  # what only the database knows is filled in when its row is written
        place = (0.0, new.id)
        known, times = (new.id, new.content_sha256, new.width, new.height), (_NEVER, _NEVER, (place, place))
        after = GalleryPicture(*known, *times, record, original, key=0)
    within = new.record.collections
    put = write_row(session, before, after, own, new.captions, new.caption_vectors, within)
    is_new = put.content_before != new.content_sha256
    return replace(put, same_as=_find_same(session, put.picture, within) if is_new else None)


def _find_same(session: Session, picture: GalleryPicture, within: Collections) -> str | None:
    """Find another picture of the same content, the first one that came."""
    row = PictureRow
    query = select(row.id).where(row.content_sha256 == picture.content_sha256, row.id != picture.id)
    if within is not None:
        query = query.where(row.collection.in_(within))
    return session.scalar(query.order_by(row.created_at, row.id).limit(1))


def write_row(
    session: Session,
    before: GalleryPicture | None,
    after: GalleryPicture,
    own: Mapping[tuple[str, str], int],
    captions: Captions | None,
    vectors: Mapping[tuple[str, str, EncoderId], Vector],
    collections: Collections = None,
) -> PutResult:
    """Write what changed of a picture, whose captions were `own` before; a new one may have come at a time before.

    Its collection is spelled as one of `collections` is that differs by upper and lower case alone.
    """
    if before is None or before.record.collection != after.record.collection:
        spelled = find_spelling(session, after.record.collection, collections)
        after = replace(after, record=replace(after.record, collection=spelled))
    content = before.content_sha256 if before else None
    is_new_content = content != after.content_sha256
    is_edited = before is None or not is_equal(after.record, before.record)
    has_new_captions = captions is not None and [*own] != flatten_captions(captions)
    is_in_feed = is_new_content or has_new_captions or bool(vectors)
    if before is not None and not is_edited and not is_in_feed:
        changed = {name: getattr(after, name) for name in _OF_FILE if getattr(after, name) != getattr(before, name)}
        if changed:  # nothing that a record says
            session.execute(update(PictureRow).where(PictureRow.id == after.id).values(**changed))
        return PutResult(after, group_by_language(own), "kept", content)
    record = replace(after.record, tags=[*after.record.tags], etag=secrets.token_hex(8))
    columns: dict[str, Any] = {name: getattr(after, name) for name in ("content_sha256", *_OF_FILE)}
    if is_in_feed:
        record = replace(record, change=_add_change(session, "picture_put", after.id))
    if is_new_content:
        columns["key"] = record.change  # rising, and never used again
    columns |= {"change": record.change, "record_change": add_record_change(session), "etag": record.etag}
    columns |= {"collection": record.collection, "tags": record.tags, "facts": {**record.metadata}}
    came: Any = PictureRow.created_at
    if before is None:
        came = columns["created_at"] = now() if after.created_at == _NEVER else after.created_at
    columns["shown_at"] = came if (taken := find_taken_at(record)) is None else literal(taken, Double)
    row: Insert | Update = insert(PictureRow).values(id=after.id, **columns)
    if before is not None:
        row = update(PictureRow).where(PictureRow.id == after.id).values(**columns)
    returned = (PictureRow.key, PictureRow.created_at, PictureRow.shown_at, CREATED.label("c"), SHOWN.label("s"))
    key, created_at, shown_at, created, shown = session.execute(row.returning(*returned)).one()
    if captions is not None:
        own = replace_captions(session, after.id, own, captions, record.change)
    for (language, text, encoder), vector in vectors.items():
        if (language, text) in own:
            store_caption_vectors(session, encoder, {own[language, text]: vector})
    if is_edited:
        write_values(session, key, record)
    write_words(session, {key: [*list_texts(record.tags, record.metadata), *(text for _, text in own)]})
    places = (created, after.id), (shown, after.id)
    picture = replace(after, key=key, created_at=created_at, shown_at=shown_at, places=places, record=record)
    return PutResult(picture, group_by_language(own), "created" if before is None else "replaced", content)


def delete_rows(session: Session, pictures: Sequence[GalleryPicture]) -> None:
    """Delete pictures and their captions, and keep what they were."""
    captions: dict[str, list[list[str | None]]] = {picture.id: [] for picture in pictures}
    for batch in split_batches([*captions]):
        for each in find_captions(session, batch):
            captions[each.picture].append([each.language, each.text, each.expansion])
        session.execute(delete(DeletedPictureRow).where(DeletedPictureRow.id.in_(batch)))
        session.execute(delete(PictureRow).where(PictureRow.id.in_(batch)))
        session.execute(delete(GalleryChangeRow).where(GalleryChangeRow.picture_id.in_(batch)))
    names = ("id", "content_sha256", "created_at", *_OF_FILE)
    rows = [
        {name: getattr(picture, name) for name in names}
        | {"collection": picture.record.collection, "tags": [*picture.record.tags]}
        | {"facts": {**picture.record.metadata}, "captions": captions[picture.id]}
        for picture in pictures
    ]
    if rows:
        session.execute(insert(DeletedPictureRow), rows)
        session.execute(insert(GalleryChangeRow), [{"kind": DELETED, "picture_id": id} for id in captions])
        add_record_change(session, len(rows))  # facets have so many pictures fewer
        _discard(session, {picture.content_sha256 for picture in pictures})


def _touch(session: Session, ids: Iterable[str]) -> None:
    for id in ids:
        change = _add_change(session, "picture_put", id)
        session.execute(update(PictureRow).where(PictureRow.id == id).values(change=change))


def _list_with_contents(session: Session, contents: Collection[str]) -> set[str]:
    """List the pictures that have one of these contents."""
    batches = split_batches(sorted(contents))
    queries = (select(PictureRow.id).where(PictureRow.content_sha256.in_(batch)) for batch in batches)
    return {id for query in queries for id in session.scalars(query)}


def _is_needed(session: Session, content: str, seconds: float) -> bool:
    used, row = select(PictureRow.id).where(PictureRow.content_sha256 == content).limit(1), DiscardedContentRow
    recent = select(row.content_sha256).where(row.content_sha256 == content, row.discarded_at > now() - seconds)
    return session.scalar(used) is not None or session.scalar(recent) is not None


def _discard(session: Session, contents: Collection[str]) -> None:
    """Note that no picture has these contents from now on, unless one has; vectors go with the files."""
    column = PictureRow.content_sha256
    for batch in split_batches([*contents]):
        if unused := set(batch).difference(session.scalars(select(column).where(column.in_(batch)))):
            reclaim(session, unused)
            session.execute(insert(DiscardedContentRow), [{"content_sha256": content} for content in sorted(unused)])


def reclaim(session: Session, contents: Collection[str]) -> None:
    """Note that pictures have these contents again."""
    for batch in split_batches([*contents]):
        session.execute(delete(DiscardedContentRow).where(DiscardedContentRow.content_sha256.in_(batch)))


def _add_change(session: Session, kind: str, picture: str) -> int:
    """Add a change and delete older ones of the same picture: a follower only needs the last one."""
    session.execute(delete(GalleryChangeRow).where(GalleryChangeRow.picture_id == picture))
    row = insert(GalleryChangeRow).values(kind=kind, picture_id=picture).returning(GalleryChangeRow.change)
    return session.execute(row).scalar_one()
