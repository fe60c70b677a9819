"""What requests and answers look like. Strict: unknown fields, other types and numbers that are none are refused."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.values import Cursor, Expiry, Finite, Limit, Note, PictureId, Tags, TextLimit, TextNumber

Captions = dict[str, list[str]]
Report = dict[str, Any]


class Asked(BaseModel):
    """A JSON body: exact types, known fields."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Filled(BaseModel):
    """The fields of a form, which are all text."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Answer(BaseModel):
    """What is sent; a number that is none is a fault of ours and fails here."""

    model_config = ConfigDict(allow_inf_nan=False, from_attributes=True)


# --- errors -----------------------------------------------------------------------------------------------------------


class Place(Answer):
    location: str
    code: str


class Problem(Answer):
    """Every refusal and failure (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[Place]


# --- search -----------------------------------------------------------------------------------------------------------


class PictureSearch(Asked):
    """Pictures for a text."""

    text: str
    language: str = Field("auto", description="`auto`, `shared` or the tag of a learned language.")
    limit: Limit = 10
    min_score: Finite | None = None
    cursor: Cursor | None = None


class SimilarPictures(Filled):
    """Pictures like an uploaded one."""

    limit: TextLimit = 10
    min_score: TextNumber | None = None
    cursor: Cursor | None = None


class CaptionSearch(Asked):
    """Captions for a picture of the gallery."""

    picture: PictureId
    languages: Tags | None = None
    limit: Limit = 10


class CaptionsOfUpload(Filled):
    """Captions for an uploaded picture; `languages` repeated, as a JSON list or separated by commas."""

    languages: Tags | None = None
    limit: TextLimit = 10


class LanguageUsed(Answer):
    requested: str
    used: str
    source: Literal["told", "detected", "shared"]
    confidence: Finite | None


class PictureHit(Answer):
    picture: str
    score: Finite
    rank: int
    url: str
    captions: Captions


class PictureHits(Answer):
    items: list[PictureHit]
    language: LanguageUsed | None = Field(description="None when a picture was asked with.")
    version: int | None
    release: int
    generation: str
    truncated: bool
    warnings: list[str]
    next_cursor: str | None
    timing_ms: Finite


class CaptionHit(Answer):
    caption: str
    language: str
    score: Finite
    rank: int
    picture: str


class CaptionHits(Answer):
    items: list[CaptionHit]
    release: int
    generations: dict[str, str]
    timing_ms: Finite


class EmbeddingsAsked(Asked):
    """OpenAI's shape; `model` and `user` are accepted and have no effect."""

    input: str | Annotated[list[str], Field(min_length=1, max_length=256)]
    model: str | None = None
    language: str = "auto"
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None


class Embedding(Answer):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[Finite] | str


class Usage(Answer):
    prompt_tokens: int
    total_tokens: int


class Embeddings(Answer):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


# --- gallery ----------------------------------------------------------------------------------------------------------


class PictureForm(Filled):
    """Fields beside the file `picture`; `captions` is JSON: `{TAG: [text, ...]}`."""

    captions: str | None = Field(None, description="Absent: those put before stay.")


class CaptionsOfPicture(Asked):
    """The JSON of `captions`."""

    captions: dict[str, Annotated[list[str], Field(max_length=100)]] = Field(max_length=100)


class PictureItem(Answer):
    id: str
    captions: Captions
    url: str
    width: int
    height: int
    created_at: datetime


class PicturePage(Answer):
    items: list[PictureItem]
    next_cursor: str | None


# --- languages, expansions, versions ----------------------------------------------------------------------------------


class Recall(Answer):
    """Shares 0..1; null where nothing was measured."""

    model_config = ConfigDict(extra="allow")

    at_1: Finite | None = Field(None, alias="R@1")
    at_5: Finite | None = Field(None, alias="R@5")
    at_10: Finite | None = Field(None, alias="R@10")


class Measured(Answer):
    """How well a version retrieves, on `pairs` held-out pairs, and what else its expansion found."""

    model_config = ConfigDict(extra="allow")

    t2i: Recall = Field(default_factory=Recall)
    i2t: Recall = Field(default_factory=Recall)
    pairs: int = 0


class LanguageItem(Answer):
    language: str
    name: str
    native_name: str
    direction: Literal["ltr", "rtl"]
    version: int
    captions: int
    learned_at: datetime
    report: Measured


class Languages(Answer):
    items: list[LanguageItem]
    shared_version: int
    release: int


class LanguageForm(Filled):
    """Fields beside the file `dataset`; `settings` is JSON."""

    language: str
    settings: str = "{}"
    dry_run: Literal["true", "false"] = "false"


class TeachingSettings(Asked):
    """What may be set of an expansion; what is left out follows the size of the dataset."""

    epochs: int = Field(0, ge=0, le=1_000, description="0: by the size of the dataset.")
    batch_size: int = Field(128, ge=2, le=4_096)
    learning_rate: float = Field(3e-3, gt=0, le=1)
    weight_decay: float = Field(0.05, ge=0, le=1)
    warmup: float = Field(0.1, ge=0, le=1, description="Share of the steps in which the rate rises.")
    cooldown: float = Field(0.6, ge=0, le=1, description="Share of the steps in which it falls; 0: not at all.")
    clip: float = Field(1.0, gt=0, le=1_000, description="Global gradient norm.")
    vocabulary: int = Field(10_000, ge=0, le=50_000, description="Most tokens of the language's own.")
    seed: int = Field(0, ge=0, lt=1 << 31)
    checkpoint_every: int = Field(0, ge=0, le=1_000_000, description="Steps; 0: by the length of the training.")


class ExpansionError(Answer):
    code: str
    detail: str


class ExpansionItem(Answer):
    id: str
    kind: Literal["learn", "rebuild"]
    language: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    phase: str | None
    progress: Finite
    step: int
    steps: int
    eta_seconds: Finite | None
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    version: int | None
    release: int | None
    error: ExpansionError | None
    report: Report | None


class Submitted(Answer):
    expansion: ExpansionItem


class DryRun(Answer):
    dry_run: Literal[True] = True
    language: str
    report: Report


class ExpansionPage(Answer):
    items: list[ExpansionItem]
    next_cursor: str | None


class VersionItem(Answer):
    number: int
    parent: int | None
    language: str
    expansion: str | None
    manifest_sha256: str | None
    rows: int
    bytes: int
    report: Measured
    created_at: datetime


class VersionDetail(VersionItem):
    manifest: Report | None
    digests: dict[str, str] = Field(description="sha256 by file; of the base, the fingerprints of its towers.")
    metrics: Measured = Field(description="The same as `report`.")


class VersionPage(Answer):
    items: list[VersionItem]
    next_cursor: str | None


# --- admin ------------------------------------------------------------------------------------------------------------


class RollbackAsked(Asked):
    reason: Note = Field("", max_length=1_000)
    dry_run: bool = False
    rebuild: bool = False


class Rollback(Answer):
    release: int
    language: str
    from_version: int
    to_version: int | None
    unchanged: list[str]
    shared_version: int
    replay: list[str]
    rebuild_expansion: str | None
    dry_run: bool


class ReleaseItem(Answer):
    number: int
    shared: int
    languages: dict[str, int]
    created_at: datetime
    actor: str
    reason: str
    change: Report


class ReleasePage(Answer):
    items: list[ReleaseItem]
    next_cursor: str | None


class RestoreAsked(Asked):
    expected: int = Field(ge=0, lt=1 << 31)
    reason: Note = Field("", max_length=1_000)


class KeyAsked(Asked):
    scope: Literal["search", "write", "admin"]
    label: Note = Field("", max_length=200)
    expires_at: Expiry | None = Field(None, description="In the future, with a time zone.")


class KeyItem(Answer):
    id: str
    scope: Literal["search", "write", "admin"]
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewKey(KeyItem):
    key: str = Field(description="Told this once.")


class Keys(Answer):
    items: list[KeyItem]


class Verified(Answer):
    ok: bool
    release: int
    problems: list[str]


# --- operations -------------------------------------------------------------------------------------------------------


class Live(Answer):
    status: Literal["alive"] = "alive"


class Ready(Answer):
    status: Literal["ready", "not_ready"]
    release: int | None
    base: str
    generations: dict[str, str]
    degraded: list[str]
