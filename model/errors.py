"""Every refusal and failure of pictoglot as data: a class, a stable code, safe details. Knows no HTTP; imports nothing.

A class belongs to one group (the direct subclasses of `PictoglotError`); the service maps groups to statuses. `detail`
is written for the person who reads it and never holds their input, a path, SQL or the text of another exception.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class FieldError:
    """One faulty place: where (`body.limit`, `line 7`) and what kind of fault."""

    location: str
    code: str


class PictoglotError(Exception):
    """Base of all errors; `code` is stable (docs/errors.md), `extra` are further safe members of an answer."""

    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str = "", *, errors: tuple[FieldError, ...] = (), **extra: object) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = errors
        self.extra = extra


class InvalidInput(PictoglotError):
    """Understood, but not acceptable."""

    code, title = "invalid_request", "Invalid request"


class Malformed(PictoglotError):
    """Cannot even be read."""

    code, title = "malformed_json", "Malformed JSON"


class Unauthorized(PictoglotError):
    """No valid key."""

    code, title = "invalid_api_key", "Invalid API key"


class Forbidden(PictoglotError):
    """A valid key that may not do this."""

    code, title = "insufficient_scope", "Insufficient scope"


class NotFound(PictoglotError):
    """Nothing of that name."""

    code, title = "not_found", "Not found"


class Conflict(PictoglotError):
    """The state of things does not allow it now."""

    code, title = "conflict", "Conflict"


class Gone(PictoglotError):
    """Was there, is no longer."""

    code, title = "cursor_expired", "Cursor expired"


class TooLarge(PictoglotError):
    """More bytes than this route takes."""

    code, title = "body_too_large", "Body too large"


class UnsupportedMedia(PictoglotError):
    """A format this route does not read."""

    code, title = "unsupported_media_type", "Unsupported media type"


class RateLimited(PictoglotError):
    """This key asks too often."""

    code, title = "rate_limited", "Rate limited"


class Unavailable(PictoglotError):
    """Cannot be answered now; worth a retry."""

    code, title = "overloaded", "Overloaded"


class StorageFull(PictoglotError):
    """Not enough free space to do this safely."""

    code, title = "storage_full", "Storage full"


class Failure(PictoglotError):
    """An expansion or a file failed; never the fault of one request."""


class InvalidEncoding(Malformed):
    """A body that is not UTF-8."""

    code, title = "invalid_encoding", "Invalid encoding"


class MalformedMultipart(Malformed):
    """A multipart body that is cut short, or none."""

    code, title = "malformed_multipart", "Malformed multipart body"


class MissingApiKey(Unauthorized):
    """No key at all."""

    code, title = "missing_api_key", "Missing API key"


class MethodNotAllowed(PictoglotError):
    """The path exists, the method on it does not."""

    code, title = "method_not_allowed", "Method not allowed"


class BodyTimeout(PictoglotError):
    """A body that does not arrive in time."""

    code, title = "body_timeout", "Body timeout"


class TooManyHeaders(PictoglotError):
    """More header fields than any client needs."""

    code, title = "too_many_headers", "Too many headers"


class EmptyText(InvalidInput):
    """Nothing to read after cleaning."""

    code, title = "empty_text", "Empty text"


class TextInvalidUnicode(InvalidInput):
    """Surrogates, NUL, controls or non-characters."""

    code, title = "text_invalid_unicode", "Text is not valid Unicode"


class TextTooLong(InvalidInput):
    """More than 1,000 code points."""

    code, title = "text_too_long", "Text too long"


class LanguageTagInvalid(InvalidInput):
    """Not a BCP 47 tag of an existing language."""

    code, title = "language_tag_invalid", "Invalid language tag"


class LanguageNotFound(NotFound):
    """A tag that is not served."""

    code, title = "language_not_found", "Language not found"


class UnsupportedPictureFormat(UnsupportedMedia):
    """Not a JPEG, PNG or WebP."""

    code, title = "unsupported_picture_format", "Unsupported picture format"


class PictureCorrupt(InvalidInput):
    """Starts like a picture, cannot be decoded."""

    code, title = "picture_corrupt", "Corrupt picture"


class PictureTooManyPixels(InvalidInput):
    """More than 20 million pixels."""

    code, title = "picture_too_many_pixels", "Too many pixels"


class PictureBadDimensions(InvalidInput):
    """A side or the ratio of sides is out of bounds."""

    code, title = "picture_bad_dimensions", "Bad picture dimensions"


class PictureAnimated(InvalidInput):
    """More than one frame."""

    code, title = "picture_animated", "Animated picture"


class PictureNotFound(NotFound):
    """No picture of that id."""

    code, title = "picture_not_found", "Picture not found"


class DatasetInvalid(InvalidInput):
    """Too many faulty rows, or not readable as a dataset at all."""

    code, title = "dataset_invalid", "Invalid dataset"


class DatasetTooSmall(InvalidInput):
    """Fewer than 64 usable rows."""

    code, title = "dataset_too_small", "Dataset too small"


class DatasetLanguageMismatch(InvalidInput):
    """Most captions are in another script than the tag's."""

    code, title = "dataset_language_mismatch", "Dataset is in another language"


class DatasetPictureNotFound(InvalidInput):
    """Rows name pictures that the gallery does not have."""

    code, title = "picture_not_found", "Picture not found"


class ExpansionNotFound(NotFound):
    """No expansion of that id."""

    code, title = "expansion_not_found", "Expansion not found"


class VersionNotFound(NotFound):
    """No version of that number."""

    code, title = "version_not_found", "Version not found"


class ReleaseNotFound(NotFound):
    """No release of that number."""

    code, title = "release_not_found", "Release not found"


class KeyNotFound(NotFound):
    """No key of that id."""

    code, title = "key_not_found", "Key not found"


class ExpansionInProgress(Conflict):
    """This language is queued or being learned."""

    code, title = "expansion_in_progress", "Expansion in progress"


class ExpansionFinished(Conflict):
    """Nothing left to cancel."""

    code, title = "expansion_finished", "Expansion finished"


class AliasMoved(Conflict):
    """Another release was published meanwhile."""

    code, title = "alias_moved", "Serving moved"


class RollbackNotPossible(Conflict):
    """The base cannot be rolled back."""

    code, title = "rollback_not_possible", "Rollback not possible"


class IdempotencyKeyReused(InvalidInput):
    """The same key with another body."""

    code, title = "idempotency_key_reused", "Idempotency key reused"


class CursorInvalid(InvalidInput):
    """Not a cursor that this server gave."""

    code, title = "invalid_cursor", "Invalid cursor"


class TrainingDiverged(Failure):
    """The loss is no longer finite."""

    code, title = "training_diverged", "Training diverged"


class GateFailed(Failure):
    """The new language is not good enough to serve."""

    code, title = "gate_failed", "Promotion gate failed"


class TooManyAttempts(Failure):
    """Three attempts without progress."""

    code, title = "too_many_attempts", "Too many attempts"


class ExpansionCancelled(Failure):
    """Cancelled before its version was released."""

    code, title = "expansion_cancelled", "Expansion cancelled"


class CheckpointMismatch(Failure):
    """Corpus, settings, method, tokenizer, parent or base changed between attempts."""

    code, title = "checkpoint_mismatch", "Checkpoint mismatch"


class LeaseLost(Failure):
    """Another worker holds the expansion now; nothing more may be written."""

    code, title = "lease_lost", "Lease lost"


class CorruptFolder(Failure):
    """A folder differs from its manifest."""

    code, title = "folder_corrupt", "Corrupt folder"


class VersionCorrupt(CorruptFolder):
    """A version's files differ from what was registered."""

    code, title = "version_corrupt", "Version corrupt"


class IndexFileCorrupt(CorruptFolder):
    """A generation's files differ from what was registered."""

    code, title = "index_file_corrupt", "Index file corrupt"


class IndexInconsistent(Failure):
    """Vectors and ids of a generation do not fit each other."""

    code, title = "index_inconsistent", "Index inconsistent"


class IndexVersionMismatch(Failure):
    """A generation made by another model."""

    code, title = "index_version_mismatch", "Index of another model"


class IndexUnavailable(Unavailable):
    """No verified snapshot serves yet."""

    code, title = "index_unavailable", "Index unavailable"


class OutOfMemory(Failure):
    """No room for a second snapshot; the old one goes on serving."""

    code, title = "out_of_memory", "Out of memory"


class RegistryUnavailable(Unavailable):
    """The registry database does not answer."""

    code, title = "registry_unavailable", "Registry unavailable"


class StoreUnavailable(Unavailable):
    """The object store does not answer, or refuses."""

    code, title = "store_unavailable", "Store unavailable"


class BaseNotSupported(Failure):
    """A model that pictoglot cannot teach languages."""

    code, title = "base_not_supported", "Base not supported"


class BaseNotFound(Failure):
    """No such model, or its weights cannot be read."""

    code, title = "base_not_found", "Base not found"


class BaseMismatch(Failure):
    """A registry that was made for another base."""

    code, title = "base_mismatch", "Registry of another base"
