"""One change of many pictures, all or nothing: tagged, moved, deleted, brought back. Again it changes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Row, delete, select
from sqlalchemy.orm import Session

from index.captions import EncoderId, add_captions, find_own_ids, group_by_language, split_batches
from index.facts import validate_tags
from index.gallery import Gallery, delete_rows, reclaim, write_row
from index.records import Collections, GalleryPicture, Record, find_pictures
from index.vectors import Vector
from store.audit import note_act
from store.errors import FieldError, InvalidInput
from store.reach import DeletedPictureRow
from store.tables import DiscardedContentRow, PictureRow

MOST = 1_000  # pictures of one change, which is one transaction: other writers wait for it
Outcome = Literal["changed", "kept", "missing"]
_ACTS = {None: "changed", True: "deleted", False: "restored"}
_Deleted = Row[Any]  # of `DeletedPictureRow`
CaptionVectors = Mapping[tuple[str, str, EncoderId], Vector]


@dataclass(frozen=True)
class BulkChange:
    """A change of the pictures with these ids in the `collections` that the caller may see.

    `deleted` deletes them, or brings back those that were deleted lately; None changes their records.
    """

    ids: Sequence[str]
    add_tags: Sequence[str] = ()
    remove_tags: Sequence[str] = ()
    collection: str | None = None
    deleted: bool | None = None
    collections: Collections = None

    def apply_to(self, before: Record) -> Record:
        """Return the record that this makes of the one before; raise `InvalidInput` for too many tags."""
        kept = [tag for tag in before.tags if tag not in self.remove_tags]
        tags = validate_tags([*kept, *self.add_tags])
        return replace(before, tags=tags, collection=self.collection or before.collection)


def find_deleted_captions(gallery: Gallery, change: BulkChange) -> dict[str, dict[str, list[str]]]:
    """Return the captions, by language, of those pictures that the change would bring back."""
    if change.deleted is not False:
        return {}
    with gallery.registry.read() as session:
        return {id: group_by_language(_list_own(row)) for id, row in _find_deleted(session, change).items()}


def change_pictures(gallery: Gallery, change: BulkChange, vectors: Mapping[str, CaptionVectors]) -> dict[str, Outcome]:
    """Make a change, and return what became of each picture; `vectors` are those of captions that come back.

    `kept` are those that were so already, `missing` those that nobody finds, or can bring back any more. Raise
    `InvalidInput` when a picture would have too many tags; then nothing changed.
    """
    with gallery.registry.begin() as session:
        found = dict[str, GalleryPicture]()
        for batch in split_batches([*dict.fromkeys(change.ids)]):
            found |= find_pictures(session, batch, change.collections)
        deleted = {} if change.deleted is None else _find_deleted(session, change)
        if change.deleted is None:
            changed = {id for id, picture in found.items() if _edit(session, picture, change)}
        elif change.deleted:
            changed = {*found}
            delete_rows(session, [*found.values()])
        else:
            changed = {row.id for row in _list_restorable(session, [*deleted.values()])}
            for id in changed:
                _restore(session, deleted[id], vectors.get(id, {}))
            for batch in split_batches([*changed]):
                session.execute(delete(DeletedPictureRow).where(DeletedPictureRow.id.in_(batch)))
            reclaim(session, {deleted[id].content_sha256 for id in changed})
        note_act(session, dict.fromkeys(sorted(changed), _ACTS[change.deleted]))
    kept = {*found, *(deleted if change.deleted else ())}
    return {id: "changed" if id in changed else "kept" if id in kept else "missing" for id in change.ids}


def _edit(session: Session, before: GalleryPicture, change: BulkChange) -> bool:
    try:
        after = replace(before, record=change.apply_to(before.record))
    except InvalidInput as error:
        place = FieldError(f"body.ids.{change.ids.index(before.id)}", "too_many_tags")
        raise InvalidInput(f"{before.id}: {error.detail}", errors=(place,)) from error
    own = find_own_ids(session, before.id)
    return write_row(session, before, after, own, None, {}, change.collections).outcome == "replaced"


def _find_deleted(session: Session, change: BulkChange) -> dict[str, _Deleted]:
    row, found = DeletedPictureRow, dict[str, _Deleted]()
    # as rows of the table: each statement would look through objects, a thousand times a thousand
    columns = select(*(getattr(row, column.key).label(column.key) for column in row.__mapper__.column_attrs))
    for batch in split_batches(change.ids):
        query = columns.where(row.id.in_(batch))
        if change.collections is not None:
            query = query.where(row.collection.in_(change.collections))
        found |= {each.id: each for each in session.execute(query)}
    return found


def _list_own(row: _Deleted) -> list[tuple[str, str]]:
    return [(str(language), str(text)) for language, text, expansion in row.captions if expansion is None]


def _list_restorable(session: Session, rows: Sequence[_Deleted]) -> list[_Deleted]:
    """List those whose id was not given to another picture, and whose files have not been deleted."""
    taken, kept = set[str](), set[str]()
    for batch in split_batches(rows):
        taken.update(session.scalars(select(PictureRow.id).where(PictureRow.id.in_([row.id for row in batch]))))
        for content in (DiscardedContentRow.content_sha256, PictureRow.content_sha256):
            kept.update(session.scalars(select(content).where(content.in_([row.content_sha256 for row in batch]))))
    return [row for row in rows if row.id not in taken and row.content_sha256 in kept]


def _restore(session: Session, row: _Deleted, vectors: CaptionVectors) -> None:
    place = (0.0, row.id)  # it gets its places when it is written
    picture = GalleryPicture(
        row.id, row.content_sha256, row.width, row.height, row.created_at, row.created_at, (place, place),
        Record(row.collection, row.tags, row.facts), row.original, key=0,
    )  # fmt: skip
    write_row(session, None, picture, {}, group_by_language(_list_own(row)), vectors)
    for language, text, expansion in row.captions:
        if expansion is not None:
            add_captions(session, expansion, str(language), [(row.id, str(text))])
