"""Every error of the house, as data: a class, a stable code, a safe detail. Imports nothing.

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
    """An unexpected error; the log has the reason under the `request_id`."""

    code: ClassVar[str] = "internal_error"  # stable; docs/errors.md says the first paragraph of each docstring
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str = "", *, errors: tuple[FieldError, ...] = (), **extra: object) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = errors
        self.extra = extra  # further fields that are safe to send

    @property
    def told(self) -> str:
        """What logs and terminals say: the detail, and what clients are not told, but never a secret."""
        return self.detail


class InvalidInput(PictoglotError):
    """A field is missing, unknown or out of bounds; `errors` says which."""

    code, title = "invalid_request", "Invalid request"


class NotFound(PictoglotError):
    """The path, or what it names, does not exist."""

    code, title = "not_found", "Not found"


class Conflict(PictoglotError):
    """The current state does not allow this."""

    code, title = "conflict", "Conflict"


class UnsupportedMedia(PictoglotError):
    """This route does not read this format."""

    code, title = "unsupported_media_type", "Unsupported media type"


class Unavailable(PictoglotError):
    """Too many requests are waiting, or this one waited too long; try again later."""

    code, title = "overloaded", "Overloaded"


class StorageFull(PictoglotError):
    """There is not enough free disk space to do this safely."""

    code, title = "storage_full", "Storage full"


class Failure(PictoglotError):
    """An expansion or a file failed; never the fault of one request."""


class EmptyText(InvalidInput):
    """The text is empty after cleaning."""

    code, title = "empty_text", "Empty text"


class TextInvalidUnicode(InvalidInput):
    """The text has surrogates, NUL, control characters or non-characters."""

    code, title = "text_invalid_unicode", "Text is not valid Unicode"


class TextTooLong(InvalidInput):
    """More than 1,000 code points."""

    code, title = "text_too_long", "Text too long"


class UnsupportedPictureFormat(UnsupportedMedia):
    """Not a JPEG, PNG, WebP, AVIF, TIFF or HEIC by its first bytes, or one that is not read here; `detail` says why."""

    code, title = "unsupported_picture_format", "Unsupported picture format"


class PictureCorrupt(InvalidInput):
    """The file begins like a picture but cannot be decoded."""

    code, title = "picture_corrupt", "Corrupt picture"


class PictureTooManyPixels(InvalidInput):
    """More pixels than `PICTOGLOT_PICTURE_PIXELS`, or than can be read of such a file; `detail` has the number."""

    code, title = "picture_too_many_pixels", "Too many pixels"


class PictureBadDimensions(InvalidInput):
    """A side, or the ratio of the sides, is out of bounds."""

    code, title = "picture_bad_dimensions", "Bad picture dimensions"


class PictureAnimated(InvalidInput):
    """More than one frame."""

    code, title = "picture_animated", "Animated picture"


class LanguageTagInvalid(InvalidInput):
    """Not a BCP 47 tag of an existing language, such as `cy` or `pt-BR`; `detail` may suggest one."""

    code, title = "language_tag_invalid", "Invalid language tag"


class LanguageNotFound(NotFound):
    """The language of this tag is not served; `languages` lists those that are."""

    code, title = "language_not_found", "Language not found"

    def __init__(self, *, languages: Sequence[str] = ()) -> None:
        super().__init__(f"language not available; available: {', '.join(languages)}", languages=list(languages))


class DatasetInvalid(InvalidInput):
    """Too many rows are faulty, or the file cannot be read as a dataset within its limits."""

    code, title = "dataset_invalid", "Invalid dataset"


class DatasetTooSmall(InvalidInput):
    """Fewer than 64 usable rows, or held-out captions of one picture or text alone; `detail` says which."""

    code, title = "dataset_too_small", "Dataset too small"


class DatasetLanguageMismatch(InvalidInput):
    """Most captions are in another script than the tag's."""

    code, title = "dataset_language_mismatch", "Dataset is in another language"


class DatasetPictureNotFound(InvalidInput):
    """A dataset names pictures that the gallery does not have; `count` is how many."""

    code, title = "picture_not_found", "Picture not found"


class PivotNotServed(InvalidInput):
    """Captions are paired with texts in a language that is not served; teach that one first."""

    code, title = "pivot_not_served", "Pivot language not served"


class PivotTextEmpty(InvalidInput):
    """A row names the language of its pivot and has no text in it."""

    code, title = "pivot_text_empty", "Pivot text empty"


class NothingHeldOut(InvalidInput):
    """A language cannot be measured: no row is held out, or all that they describe was deleted."""

    code, title = "nothing_held_out", "Nothing held out"


class ExpansionNotFound(NotFound):
    """There is no expansion with this id."""

    code, title = "expansion_not_found", "Expansion not found"


class VersionNotFound(NotFound):
    """There is no version with this number."""

    code, title = "version_not_found", "Version not found"


class ReleaseNotFound(NotFound):
    """There is no release with this number."""

    code, title = "release_not_found", "Release not found"


class ExpansionInProgress(Conflict):
    """This language is queued or being taught, or a move to another base is; wait, or cancel it."""

    code, title = "expansion_in_progress", "Expansion in progress"


class ExpansionFinished(Conflict):
    """The expansion has ended; there is nothing to cancel."""

    code, title = "expansion_finished", "Expansion finished"


class AliasMoved(Conflict):
    """Another release serves now than the one in `expected`; nothing was changed."""

    code, title = "alias_moved", "Serving moved"


class RollbackNotPossible(Conflict):
    """English is built in and cannot be rolled back."""

    code, title = "rollback_not_possible", "Rollback not possible"


class NoEarlierBase(Conflict):
    """No other base has served before this one."""

    code, title = "no_earlier_base", "No earlier base"


class BaseServes(Conflict):
    """A move to the base that serves already."""

    code, title = "base_serves", "Base serves already"


class VersionPruned(Conflict):
    """A version that this needs was removed by `pictoglot prune`; `versions` has its number."""

    code, title = "version_pruned", "Version pruned"


class IdempotencyKeyReused(InvalidInput):
    """The same `Idempotency-Key` was used before with another body."""

    code, title = "idempotency_key_reused", "Idempotency key reused"


class TrainingDiverged(Failure):
    """The loss is no longer finite."""

    code, title = "training_diverged", "Training diverged"


class TooManyAttempts(Failure):
    """Three attempts without progress; the error says what the last one died of."""

    code, title = "too_many_attempts", "Too many attempts"


class ExpansionCancelled(Failure):
    """The expansion was cancelled before its version was released."""

    code, title = "expansion_cancelled", "Expansion cancelled"


class CheckpointMismatch(Failure):
    """Dataset, settings, method, tokenizer, parent or base changed between two attempts."""

    code, title = "checkpoint_mismatch", "Checkpoint mismatch"


class LeaseLost(Failure):
    """Another worker has taken over the expansion; this one may write nothing more."""

    code, title = "lease_lost", "Lease lost"


class CorruptFolder(Failure):
    """A folder differs from its manifest."""

    code, title = "folder_corrupt", "Corrupt folder"


class VersionCorrupt(CorruptFolder):
    """A version's files differ from what was registered."""

    code, title = "version_corrupt", "Version corrupt"


class DiskTooSmall(PictoglotError):
    """A move to another base needs more disk than is free; `needed` and `free` are bytes. It did not begin."""

    code, title = "disk_too_small", "Disk too small"


class RegistryUnavailable(Unavailable):
    """The registry database does not answer, or its files are damaged, which no waiting mends.

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
    """The object store does not answer, or refuses the request."""

    code, title = "store_unavailable", "Store unavailable"


class StorageUnavailable(Unavailable):
    """The disk under the data root reports an error; look at it before anything is written again."""

    code, title = "storage_unavailable", "Storage unavailable"


class BaseNotSupported(Failure):
    """The text tower of this model is not read by pictoglot; the sentence says why."""

    code, title = "base_not_supported", "Base not supported"


class BaseNotFound(Failure):
    """There is no such model, or its weights or its tokenizer cannot be read."""

    code, title = "base_not_found", "Base not found"


class CheckpointUnfit(BaseNotFound):
    """The checkpoint is of another architecture than the one that `PICTOGLOT_BASE` names."""

    code, title = "base_checkpoint_unfit", "Checkpoint of another architecture"


class TokenizerUnfit(BaseNotFound):
    """`tokenizer.json` is damaged, or has other special tokens or more tokens than the base."""

    code, title = "base_tokenizer_unfit", "Tokenizer of another base"


class CaptionsUnreadable(Failure):
    """The base's tokenizer has no tokens for the script of the captions; another base can learn them."""

    code, title = "captions_unreadable", "Captions unreadable"


class BaseMismatch(Failure):
    """The registry was made for another base; `pictoglot base move` makes everything anew for this one."""

    code, title = "base_mismatch", "Registry of another base"


class RegistryOutdated(Failure):
    """An earlier release wrote the registry: export with that release, and import into a new data root."""

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
    """The service moved to another base while this language was taught for the one before: teach it again."""

    code, title = "base_moved", "Another base serves"


class EncodingMismatch(Failure):
    """The vectors of this data root were made by another backend, or in another precision."""

    code, title = "encoding_mismatch", "Vectors of another encoding"


class PicturesUnreadable(Failure):
    """Stored pictures cannot be read; `pictoglot reencode --skip-unreadable` goes on without them."""

    code, title = "pictures_unreadable", "Pictures unreadable"
