"""The errors that `index` raises about records, segments and snapshots; their parent classes are in `model`."""

from store.errors import Conflict, CorruptFolder, Failure, InvalidInput, NotFound, Unavailable


class OriginalNotKept(NotFound):
    """The bytes of this picture as they were sent were not kept (`PICTOGLOT_KEEP_ORIGINALS`)."""

    code, title = "original_not_kept", "Original not kept"


class PageTooDeep(InvalidInput):
    """The page would go beyond rank 10,000 of a search."""

    code, title = "page_too_deep", "Page too deep"


class MetadataInvalid(InvalidInput):
    """Metadata with a key or a value that it cannot have, or more than 16 KiB of it; `errors` has the places."""

    code, title = "metadata_invalid", "Invalid metadata"


class InvalidFilter(InvalidInput):
    """A filter that does not follow the grammar, or is too large; `errors` has the place."""

    code, title = "invalid_filter", "Invalid filter"


class RecordChanged(Conflict):
    """The record has another `ETag` by now than the one in `If-Match`; nothing was changed."""

    code, title = "record_changed", "Record changed"


class PictureNotFound(NotFound):
    """There is no picture with this id."""

    code, title = "picture_not_found", "Picture not found"


class PictureDamaged(Unavailable):
    """A stored file of this picture differs from its checksum, and there is no other copy: put the picture again."""

    code, title = "picture_damaged", "Picture damaged"


class IndexFileCorrupt(CorruptFolder):
    """The files of a segment differ from what was registered."""

    code, title = "index_file_corrupt", "Index file corrupt"


class IndexInconsistent(Failure):
    """Vectors, keys and names of a segment do not match."""

    code, title = "index_inconsistent", "Index inconsistent"


class IndexVersionMismatch(Failure):
    """The segment was made by another model."""

    code, title = "index_version_mismatch", "Index of another model"


class IndexUnavailable(Unavailable):
    """No verified snapshot serves yet, or the engine of `PICTOGLOT_INDEX` does not answer or has lost vectors."""

    code, title = "index_unavailable", "Index unavailable"


class IndexLost(IndexUnavailable):
    """What the engine should have of a vector set is not there any more: it is sealed again from the tables."""


class EngineMismatch(Failure):
    """Another process has sealed the vectors elsewhere than `PICTOGLOT_INDEX` says here."""

    code, title = "engine_mismatch", "Vectors in another engine"


class OutOfMemory(Failure):
    """There is not enough memory for a second snapshot; the old one goes on serving."""

    code, title = "out_of_memory", "Out of memory"
