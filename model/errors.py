"""Every error that `model` raises, as data: a class, a stable code, a safe detail. Imports nothing.

Its groups (the direct subclasses of `PictoglotError`) are those that the service maps to statuses. `detail` is a
sentence for people; it never contains their input, a path, SQL or the text of another exception.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class FieldError:
    """One error in the input: its location (`body.limit`, `line 7`) and its kind."""

    location: str
    code: str


class PictoglotError(Exception):
    """Root of all errors; `code` is stable (docs/errors.md), `extra` are further fields that are safe to send."""

    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str = "", *, errors: tuple[FieldError, ...] = (), **extra: object) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = errors
        self.extra = extra

    @property
    def told(self) -> str:
        """What logs and terminals say: the detail, and what clients are not told, but never a secret."""
        return self.detail


class InvalidInput(PictoglotError):
    """Understood, but not acceptable."""

    code, title = "invalid_request", "Invalid request"


class NotFound(PictoglotError):
    """Nothing has this name."""

    code, title = "not_found", "Not found"


class Conflict(PictoglotError):
    """The current state does not allow it."""

    code, title = "conflict", "Conflict"


class UnsupportedMedia(PictoglotError):
    """A format that is not read here."""

    code, title = "unsupported_media_type", "Unsupported media type"


class Unavailable(PictoglotError):
    """Cannot be answered now; a retry may succeed."""

    code, title = "overloaded", "Overloaded"


class StorageFull(PictoglotError):
    """Not enough free space to do this safely."""

    code, title = "storage_full", "Storage full"


class Failure(PictoglotError):
    """An expansion or a file failed; never the fault of one request."""


class EmptyText(InvalidInput):
    """Nothing to read after cleaning."""

    code, title = "empty_text", "Empty text"


class TextInvalidUnicode(InvalidInput):
    """Surrogates, NUL, controls or non-characters."""

    code, title = "text_invalid_unicode", "Text is not valid Unicode"


class TextTooLong(InvalidInput):
    """More than 1,000 code points."""

    code, title = "text_too_long", "Text too long"


class UnsupportedPictureFormat(UnsupportedMedia):
    """The file is not in a format that is read here."""

    code, title = "unsupported_picture_format", "Unsupported picture format"


class PictureCorrupt(InvalidInput):
    """The file begins like a picture but cannot be decoded."""

    code, title = "picture_corrupt", "Corrupt picture"


class PictureTooManyPixels(InvalidInput):
    """More pixels than the setting allows, or than can be read of such a file."""

    code, title = "picture_too_many_pixels", "Too many pixels"


class PictureBadDimensions(InvalidInput):
    """A side, or the aspect ratio, is out of bounds."""

    code, title = "picture_bad_dimensions", "Bad picture dimensions"


class PictureAnimated(InvalidInput):
    """More than one frame."""

    code, title = "picture_animated", "Animated picture"


class LanguageTagInvalid(InvalidInput):
    """Not a BCP 47 tag of an existing language."""

    code, title = "language_tag_invalid", "Invalid language tag"


class LanguageNotFound(NotFound):
    """A language that is not available; `languages` are the available ones."""

    code, title = "language_not_found", "Language not found"

    def __init__(self, *, languages: Sequence[str] = ()) -> None:
        super().__init__(f"language not available; available: {', '.join(languages)}", languages=list(languages))


class DatasetInvalid(InvalidInput):
    """Too many faulty rows, or not readable as a dataset at all."""

    code, title = "dataset_invalid", "Invalid dataset"


class DatasetTooSmall(InvalidInput):
    """Fewer than 64 usable rows, or to learn from, fewer than two held-out pictures or texts."""

    code, title = "dataset_too_small", "Dataset too small"


class DatasetLanguageMismatch(InvalidInput):
    """Most captions are in another script than the tag's."""

    code, title = "dataset_language_mismatch", "Dataset is in another language"


class DatasetPictureNotFound(InvalidInput):
    """Rows name pictures that the gallery does not have."""

    code, title = "picture_not_found", "Picture not found"


class PivotNotServed(InvalidInput):
    """Captions are paired with texts in a language that nothing here reads."""

    code, title = "pivot_not_served", "Pivot language not served"


class PivotTextEmpty(InvalidInput):
    """A pair whose other side has a language but no text."""

    code, title = "pivot_text_empty", "Pivot text empty"


class NothingHeldOut(InvalidInput):
    """A language cannot be measured without a held-out row."""

    code, title = "nothing_held_out", "Nothing held out"


class ExpansionNotFound(NotFound):
    """No expansion has this id."""

    code, title = "expansion_not_found", "Expansion not found"


class VersionNotFound(NotFound):
    """No version has this number."""

    code, title = "version_not_found", "Version not found"


class ReleaseNotFound(NotFound):
    """No release has this number."""

    code, title = "release_not_found", "Release not found"


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
    """English is built in and cannot be rolled back."""

    code, title = "rollback_not_possible", "Rollback not possible"


class NoEarlierBase(Conflict):
    """No other base has served before, so that there is none to go back to."""

    code, title = "no_earlier_base", "No earlier base"


class BaseServes(Conflict):
    """A move to the base that serves already."""

    code, title = "base_serves", "Base serves already"


class VersionPruned(Conflict):
    """The files of a version that is needed were removed by `pictoglot prune`."""

    code, title = "version_pruned", "Version pruned"


class IdempotencyKeyReused(InvalidInput):
    """The same key with another body."""

    code, title = "idempotency_key_reused", "Idempotency key reused"


class TrainingDiverged(Failure):
    """The loss is no longer finite."""

    code, title = "training_diverged", "Training diverged"


class TooManyAttempts(Failure):
    """Three attempts without progress."""

    code, title = "too_many_attempts", "Too many attempts"


class ExpansionCancelled(Failure):
    """Cancelled before its version was released."""

    code, title = "expansion_cancelled", "Expansion cancelled"


class CheckpointMismatch(Failure):
    """The dataset, settings, method, tokenizer, parent or base changed between attempts."""

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


class DiskTooSmall(PictoglotError):
    """Less free space than a move to another base needs; it did not begin."""

    code, title = "disk_too_small", "Disk too small"


class RegistryUnavailable(Unavailable):
    """The registry database does not answer, or with `damaged` that its own files are, which no waiting mends.

    `reason` is what its driver said, without a password.
    """

    code, title = "registry_unavailable", "Registry unavailable"

    def __init__(self, detail: str = "", *, reason: str = "", damaged: bool = False, **more: Any) -> None:
        super().__init__(detail, **more)
        self.reason, self.damaged = reason, damaged

    @property
    def told(self) -> str:
        """The detail with the reason."""
        return f"{self.detail.removesuffix('.')}: {self.reason}" if self.reason else self.detail


class StoreUnavailable(Unavailable):
    """The object store does not answer, or refuses a request."""

    code, title = "store_unavailable", "Store unavailable"


class StorageUnavailable(Unavailable):
    """The disk under the data root reports an error."""

    code, title = "storage_unavailable", "Storage unavailable"


class BaseNotSupported(Failure):
    """A model that pictoglot cannot teach languages."""

    code, title = "base_not_supported", "Base not supported"


class BaseNotFound(Failure):
    """No such model, or its weights cannot be read."""

    code, title = "base_not_found", "Base not found"


class CheckpointUnfit(BaseNotFound):
    """The checkpoint is of another architecture than the one named."""

    code, title = "base_checkpoint_unfit", "Checkpoint of another architecture"


class TokenizerUnfit(BaseNotFound):
    """A `tokenizer.json` that is damaged, or does not fit the base: its size, or its special tokens."""

    code, title = "base_tokenizer_unfit", "Tokenizer of another base"


class CaptionsUnreadable(Failure):
    """The base's tokenizer has no tokens for much of the captions' script, so nothing can be learned from them."""

    code, title = "captions_unreadable", "Captions unreadable"


class BaseMismatch(Failure):
    """The registry was created for another base."""

    code, title = "base_mismatch", "Registry of another base"


class RegistryOutdated(Failure):
    """An earlier release wrote the registry, and no migration begins with its tables."""

    code, title = "registry_outdated", "Registry of an earlier release"


class BackendNotAvailable(Failure):
    """A backend, precision or device that this machine lacks; `setting` is the one that asks for it."""

    code, title = "backend_not_available", "Backend not available"

    def __init__(self, detail: str = "", *, setting: str = "BACKEND") -> None:
        super().__init__(detail)
        self.setting = setting


class BackendFailed(Failure):
    """OpenVINO cannot compile the towers of this base."""

    code, title = "backend_failed", "Backend failed"


class BaseMoved(Failure):
    """The service moved to another base while a language was learned for the one before."""

    code, title = "base_moved", "Another base serves"


class EncodingMismatch(Failure):
    """The vectors of this data root were made by another backend, or in another precision."""

    code, title = "encoding_mismatch", "Vectors of another encoding"


class PicturesUnreadable(Failure):
    """Stored pictures whose file is missing or damaged on this machine: they would be lost for searches."""

    code, title = "pictures_unreadable", "Pictures unreadable"
