"""All errors, as data: a class, a stable code, a safe detail. Imports nothing.

Its groups (the direct subclasses of `PictoglotError`) are those that the service maps to statuses. `detail` is a
sentence for people; it never contains their input, a path, SQL or the text of another exception.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


def format_count(count: int, one: str) -> str:
    """Return `1 picture`, `1,234 pictures`."""
    return f"{count:,} {one}{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class FieldError:
    """One error in the input: its location (`body.limit`, `line 7`) and its kind."""

    location: str
    code: str


class PictoglotError(Exception):
    """An unexpected error; the log has the reason under the `request_id`."""

    code: ClassVar[str] = "internal_error"  # stable; docs/errors.md says the first paragraph of each docstring
    title: ClassVar[str] = "Internal error"
    kinds: ClassVar[dict[str, type["PictoglotError"]]] = {}  # by code: so a child process can name one

    def __init_subclass__(cls, code: str = "") -> None:
        """Take the code from the name of the class unless it is given, and the title from the code."""
        cls.code = code or re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        cls.title = cls.code.replace("_", " ").capitalize().replace("json", "JSON").replace("api", "API")
        PictoglotError.kinds.setdefault(cls.code, cls)

    def __init__(self, detail: str = "", *, errors: tuple[FieldError, ...] = (), **extra: object) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = errors
        self.extra = extra  # further fields that are safe to send

    @property
    def full_detail(self) -> str:
        """The text for logs and terminals: the detail, and what clients may not know, but never a secret."""
        return self.detail


class InvalidInput(PictoglotError, code="invalid_request"):
    """A field is missing, unknown or out of bounds; `errors` says which."""


class NotFound(PictoglotError):
    """The path, or what it names, does not exist."""


class InsufficientScope(PictoglotError):
    """The key is valid, but its scope or its collections do not allow this."""


class Conflict(PictoglotError):
    """The current state does not allow this."""


class UnsupportedMedia(PictoglotError, code="unsupported_media_type"):
    """This route does not read this format."""


class Unavailable(PictoglotError, code="overloaded"):
    """Too many requests are waiting, or this one waited too long; try again later."""


class StorageFull(PictoglotError):
    """There is not enough free disk space to do this safely."""


class Failure(PictoglotError, code="internal_error"):
    """An expansion or a file failed; never the fault of one request."""


class EmptyText(InvalidInput):
    """The text is empty after cleaning."""


class TextInvalidUnicode(InvalidInput):
    """The text has surrogates, NUL, control characters or non-characters."""


class TextTooLong(InvalidInput):
    """More than 1,000 code points."""


class UnsupportedPictureFormat(UnsupportedMedia):
    """Not a JPEG, PNG, WebP, AVIF, TIFF or HEIC by its first bytes, or one that is not read here; `detail` says why."""


class PictureCorrupt(InvalidInput):
    """The file begins like a picture but cannot be decoded."""


class PictureTooManyPixels(InvalidInput):
    """More pixels than `PICTOGLOT_PICTURE_PIXELS`, or than can be read of such a file; `detail` has the number."""


class PictureBadDimensions(InvalidInput):
    """A side, or the ratio of the sides, is out of bounds."""


class PictureAnimated(InvalidInput):
    """More than one frame."""


class LanguageTagInvalid(InvalidInput):
    """Not a BCP 47 tag of an existing language, such as `cy` or `pt-BR`; `detail` may suggest one."""


class LanguageNotFound(NotFound):
    """The language of this tag is not served; `languages` lists those that are."""

    def __init__(self, *, languages: Sequence[str] = ()) -> None:
        super().__init__(f"language not available; available: {', '.join(languages)}", languages=list(languages))


class DatasetInvalid(InvalidInput):
    """Too many rows are faulty, or the file cannot be read as a dataset within its limits."""


class DatasetTooSmall(InvalidInput):
    """Fewer than 64 usable rows to assess or to replace with, or one text alone held out; `detail` says which."""


class DatasetLanguageMismatch(InvalidInput):
    """Most captions are in another script than the tag's."""


class DatasetPictureNotFound(InvalidInput, code="picture_not_found"):
    """A dataset names pictures that the gallery does not have; `count` is how many."""


class PivotNotServed(InvalidInput):
    """Captions are paired with texts in a language that is not served; teach that one first."""


class PivotTextEmpty(InvalidInput):
    """A row names the language of its pivot and has no text in it."""


class LanguageFileInvalid(InvalidInput):
    """Not a language file, or one with parts that no export writes; `detail` says what is wrong."""


class LanguageFileChanged(InvalidInput):
    """A language file that was changed after it was made: nothing of it was read."""


class NothingHeldOut(InvalidInput):
    """A language cannot be measured: no row is held out, or all that they describe was deleted."""


class TooManyAnswers(InvalidInput):
    """More answers of one language than are kept; send a dataset instead."""


class ExpansionNotFound(NotFound):
    """There is no expansion with this id."""


class VersionNotFound(NotFound):
    """There is no version with this number."""


class ReleaseNotFound(NotFound):
    """There is no release with this number."""


class WithdrawalNotFound(NotFound):
    """The language of this tag was not withdrawn, or its withdrawal is not finished: send it again."""


class KeyNotFound(NotFound):
    """There is no key with this id."""


class DatasetDoubted(Conflict):
    """The dataset looks wrong, as `doubts` says; nothing was queued. If it is right, send it with `confirmed=true`."""


class LanguageOfOtherBase(Conflict):
    """A language file that was made for another base than the one that serves; `detail` names both."""


class ExpansionInProgress(Conflict):
    """An expansion of this language, or a move to another base or encoding, has not ended; wait, or cancel it."""


class ExpansionFinished(Conflict):
    """The expansion has ended; there is nothing to cancel."""


class AliasMoved(Conflict):
    """Another release serves now than the one in `expected`; nothing was changed."""


class RollbackNotPossible(Conflict):
    """English is built in and cannot be rolled back."""


class NoEarlierBase(Conflict):
    """No other base or encoding has served before this one."""


class BaseServes(Conflict):
    """A move to the base and encoding that serve already."""


class VersionPruned(Conflict):
    """A version that this needs was removed by `pictoglot prune`; `versions` has its number."""


class IdempotencyKeyReused(InvalidInput):
    """An `Idempotency-Key` was used before with another body."""


class TrainingDiverged(Failure):
    """The loss is no longer finite."""


class TooManyAttempts(Failure):
    """Three attempts without progress, or twenty that ended with their worker; the error says what happened."""


class ExpansionCancelled(Failure):
    """The expansion was cancelled before its version was released."""


class CheckpointMismatch(Failure):
    """Dataset, settings, method, tokenizer, parent or base changed between two attempts."""


class LeaseLost(Failure):
    """Another worker has taken over the expansion; this one may write nothing more."""


class CorruptFolder(Failure, code="folder_corrupt"):
    """A folder differs from its manifest."""


class VersionCorrupt(CorruptFolder):
    """A version's files differ from what was registered."""


class DiskTooSmall(PictoglotError):
    """A move to another base or encoding needs more disk than is free; `needed` and `free` are bytes."""


class RegistryUnavailable(Unavailable):
    """The registry database does not answer, or its files are damaged, which no waiting mends.

    `reason` is what its driver said, without a password.
    """

    def __init__(self, detail: str = "", *, reason: str = "", damaged: bool = False, **more: Any) -> None:
        super().__init__(detail, **more)
        self.reason, self.damaged = reason, damaged

    @property
    def full_detail(self) -> str:
        """The detail with the reason."""
        return f"{self.detail.removesuffix('.')}: {self.reason}" if self.reason else self.detail


class StoreUnavailable(Unavailable):
    """The object store does not answer, or refuses the request."""


class DiskFailing(Unavailable, code="storage_unavailable"):
    """The disk under the data root reports an error; look at it before anything is written again."""


class BaseNotSupported(Failure):
    """The text tower of this model is not read by pictoglot; the sentence says why."""


class BaseNotFound(Failure):
    """There is no such model, or its weights or its tokenizer cannot be read."""


class CheckpointUnfit(BaseNotFound, code="base_checkpoint_unfit"):
    """The checkpoint is of another architecture than the one that `PICTOGLOT_BASE` names."""


class TokenizerUnfit(BaseNotFound, code="base_tokenizer_unfit"):
    """`tokenizer.json` is damaged, or has other special tokens or more tokens than the base."""


class CaptionsUnreadable(Failure):
    """The base's tokenizer has no tokens for the script of the captions; another base can learn them."""


class BaseMismatch(Failure):
    """The registry was made for another base; `pictoglot base move` makes everything anew for this one."""


class RegistryOutdated(Failure):
    """An earlier release wrote the registry, whose content has to come into a new data root; the log says how."""


class BackendNotAvailable(Failure):
    """A backend or precision that this machine lacks; `setting` is the one that asks for it."""

    def __init__(self, detail: str = "", *, setting: str = "BACKEND") -> None:
        super().__init__(detail)
        self.setting = setting


class BackendFailed(Failure):
    """OpenVINO cannot compile the towers of this base."""


class BaseMoved(Failure):
    """The service moved to another base or encoding while this was taught for the one before: teach it again."""


class EncodingMismatch(Failure):
    """The vectors of this data root were made by another backend, or in another precision."""


class PicturesUnreadable(Failure):
    """Stored pictures cannot be read; `force` goes on without them."""


class OriginalNotKept(NotFound):
    """The bytes of this picture as they were sent were not kept (`PICTOGLOT_KEEP_ORIGINALS`)."""


class PageTooDeep(InvalidInput):
    """The page would go beyond rank 10,000 of a search."""


class MetadataInvalid(InvalidInput):
    """Metadata with a key or a value that it cannot have, or more than 16 KiB of it; `errors` has the places."""


class InvalidFilter(InvalidInput):
    """A filter that does not follow the grammar, or is too large; `errors` has the place."""


class RecordChanged(Conflict):
    """The record has another `ETag` by now than the one in `If-Match`; nothing was changed."""


class PictureNotFound(NotFound):
    """There is no picture with this id."""


class PictureDamaged(Unavailable):
    """A stored file of this picture differs from its checksum, and there is no other copy: put the picture again."""


class IndexFileCorrupt(CorruptFolder):
    """The files of a segment differ from what was registered."""


class IndexInconsistent(Failure):
    """Vectors, keys and names of a segment do not match."""


class IndexVersionMismatch(Failure):
    """The segment was made by another model."""


class IndexUnavailable(Unavailable):
    """No verified snapshot serves yet, or the engine of `PICTOGLOT_INDEX` does not answer or has lost vectors."""


class IndexLost(IndexUnavailable, code="index_unavailable"):
    """What the engine should have of a vector set is not there any more: it is sealed again from the tables."""


class EngineMismatch(Failure):
    """Another process has sealed the vectors elsewhere than `PICTOGLOT_INDEX` says here."""


class OutOfMemory(Failure):
    """There is not enough memory for a second snapshot; the old one goes on serving."""


class BackupFailed(Failure):
    """A backup was not made, is not whole or was not restored, and nothing was changed; `detail` says why."""
