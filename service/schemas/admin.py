"""Rollbacks, releases, retention, keys, moving to another base; and whether the service is alive and ready."""

from datetime import datetime
from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from service.schemas import Collections, Expected, Expiry, IndexRecall, Note, Problem, Report, RequestBody, Response
from service.schemas.languages import ExpansionItem
from store.keys import Scope
from store.reach import KEEP, LEAST


class _PlannedRequest(RequestBody):
    reason: Note = Field("", max_length=1_000)
    expected: Expected = None
    dry_run: bool = False


class RollbackRequest(_PlannedRequest):
    rebuild: bool = False


class WithdrawalRequest(_PlannedRequest):
    pass


class WithdrawnVersion(Response):
    number: int
    manifest_sha256: str | None
    bytes: int


class WithdrawnDataset(Response):
    expansion: str
    sha256: str | None
    bytes: int | None


class Remainder(Response):
    """What a withdrawal leaves, and why."""

    what: Literal["version", "captions", "dataset", "terms", "backups", "exports", "history"]
    name: str
    why: str


class LanguageWithdrawal(Response):
    """What a withdrawal removes for good, or has removed; `release` serves."""

    language: str
    release: int
    versions: list[WithdrawnVersion]
    datasets: list[WithdrawnDataset]
    captions: int = Field(description="Captions that came with datasets.")
    answers: int = Field(description="Answers to words.")
    remains: list[Remainder]
    dry_run: bool
    certificate: Report | None = Field(
        description="What was done, signed by Ed25519 over the object without `signature`, as UTF-8 without blanks, "
        "its keys in order; null of a dry run."
    )


class Rollback(Response):
    release: int
    language: str
    from_version: int
    to_version: int | None
    unchanged: list[str]
    shared_version: int
    replay: list[str]
    rebuild_expansion: str | None
    dry_run: bool


class ReleaseItem(Response):
    number: int
    shared: int
    languages: dict[str, int]
    created_at: datetime
    actor: str
    reason: str
    change: Report
    pruned: list[int] = Field(description="Versions of it that were pruned: with any, it cannot be restored.")


class ReleasePage(Response):
    items: list[ReleaseItem]
    next_cursor: str | None


class AuditItem(Response):
    """An act: `targets` are ids, each with what became of it; `act` is the method and route, or what a worker did.

    `actor` is the id of a key, or the person: `oidc:SUBJECT` who signed in, `proxy:USER` whom a proxy named.
    """

    number: int
    at: datetime
    actor: str
    label: str = Field(description="What the key or the person was called then.")
    act: str
    targets: dict[str, str]
    request_id: str


class AuditPage(Response):
    items: list[AuditItem]
    next_cursor: str | None


class RestoreRequest(RequestBody):
    expected: int = Field(ge=0, lt=1 << 31)
    reason: Note = Field("", max_length=1_000)


class PruneRequest(RequestBody):
    keep: int = Field(KEEP, ge=LEAST, le=1_000_000, description="How many of the newest releases stay in reach.")
    expected: Expected = None
    dry_run: bool = False


class PrunedItem(Response):
    """One thing that goes, and why; `bytes` is about how much space it takes."""

    what: Literal["version", "vectors", "dataset"]
    name: str
    language: str
    why: str
    bytes: int


class PruneResult(Response):
    release: int = Field(description="The release that serves.")
    oldest: int = Field(description="The oldest release in reach.")
    items: list[PrunedItem]
    bytes: int
    dry_run: bool


class CallerStatus(Response):
    """Who sends a request: all is null where nobody is known, and `refused` is why, an error's code."""

    by: Literal["key", "proxy", "session", "open"] | None = None
    id: str | None = Field(None, description="As `actor` in the audit log.")
    label: str = ""
    scope: Scope | None = None
    collections: list[str] | None = Field(None, description="What the sender is bound to; null for everything.")
    refused: str | None = None
    sign_in: str | None = Field(None, description="Where a person signs in; null where nobody can.")


class KeyRequest(RequestBody):
    scope: Scope
    label: Note = Field("", max_length=200)
    expires_at: Expiry | None = Field(None, description="In the future, with a time zone.")
    collections: Collections | None = Field(
        None, description="The key sees, finds, counts and writes nothing else. Not with scope `admin`."
    )

    @model_validator(mode="after")
    def _refuse_bound_admin(self) -> "KeyRequest":
        if self.scope == "admin" and self.collections is not None:
            raise PydanticCustomError("bound_admin", "a key of scope admin cannot be bound to collections")
        return self


class KeyItem(Response):
    id: str
    scope: Scope
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    collections: list[str] | None = Field(description="What the key is bound to; null for everything.")


class NewKey(KeyItem):
    key: str = Field(description="Shown only in this response.")


class Keys(Response):
    items: list[KeyItem]


class SessionItem(Response):
    id: str
    subject: str = Field(description="`oidc:SUBJECT` for a person, `key:ID` for a key that a browser remembers.")
    label: str
    created_at: datetime
    expires_at: datetime


class Sessions(Response):
    items: list[SessionItem]


class VerifyResult(Response):
    ok: bool
    release: int
    problems: list[str]
    recall: IndexRecall | None


class BaseMove(RequestBody):
    base: str | None = Field(
        None, min_length=1, max_length=1_000, description="As in `PICTOGLOT_BASE`; null: the one that serves."
    )
    backend: Literal["auto", "torch", "openvino"] | None = Field(
        None, description="What computes the vectors; null: what computes them now."
    )
    precision: Literal["auto", "float32", "bfloat16", "int8"] | None = Field(None, description="null: that of now.")
    force: bool = Field(False, description="Move even if a language would lose more than the forgetting budget.")
    dry_run: bool = False


class BaseUndo(_PlannedRequest):
    pass


class SubmittedMove(Response):
    """What a move takes, in bytes of disk, or null when it was queued before; without `expansion` it was not queued."""

    base: str
    languages: list[str] | None = Field(None, description="Those that are taught again.")
    needed: int | None = None
    free: int | None = None
    expansion: ExpansionItem | None
    dry_run: bool


class BaseUndoResult(Response):
    """The way back to the base before; `lost` are served now and not there, `changed` by another version there."""

    release: int = Field(description="The new release; with `dry_run` the one that serves.")
    restored: int
    from_base: str
    to_base: str
    encoding: str | None = Field(description="What has computed the vectors there.")
    lost: list[str]
    returned: list[str]
    changed: list[str]
    dry_run: bool


class OpenBase(Response):
    """What this process has open. After a move it opens the other base beside, and serves this one until then."""

    base: str
    encoding: str
    version: int
    release: int | None


class BaseStatus(Response):
    """`move` is the newest move; `undo` what the way back would do now, if there is one."""

    base: str
    encoding: str = Field(description="What makes the vectors of the release.")
    version: int
    release: int
    open: OpenBase
    move: ExpansionItem | None
    undo: BaseUndoResult | None


class Live(Response):
    status: Literal["alive"] = "alive"


class ServingStatus(Response):
    """What is served, and what is wrong with it."""

    release: int | None
    base: str
    encoding: str = Field(description="What computes the vectors, for example `openvino in bfloat16`.")
    generations: dict[str, str] = Field(description="Of each vector set; empty without a key that may see all.")
    degraded: list[str] = Field(description="Codes, or with a key that may see all also sentences.")


class Space(Response):
    """The disk under the data root, in bytes; `reserve` is what a write must leave."""

    free: int
    total: int
    reserve: int


class Queues(Response):
    """What waits: texts and pictures to be encoded, changes to be sealed; expansions that are queued, or running."""

    texts: int
    pictures: int
    unsealed: int
    queued: int
    running: int


class BackupNote(Response):
    """A backup that was taken of this data root; `missing` are files that the registry names and nobody had."""

    folder: str
    time: datetime
    bytes: int
    missing: int


class ServiceStatus(ServingStatus):
    faults: list[str] = Field(description="The code of each thing that is wrong, as metrics count them.")
    space: Space
    queues: Queues
    backup: BackupNote | None = Field(description="The newest one, as far as this machine knows.")


class Ready(ServingStatus):
    status: Literal["ready"] = "ready"


class NotReady(ServingStatus, Problem):
    """No searches are accepted: `index_unavailable`."""
