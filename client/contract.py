"""What the API takes, answers and does. Written by `python -m scripts.openapi` from docs/openapi.json."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import IO, Any, Literal, NotRequired, TypedDict

File = bytes | IO[bytes] | tuple[str, bytes | IO[bytes]] | tuple[str, bytes | IO[bytes], str]
"""Content; or a name, content and perhaps a media type."""


class Answer(TypedDict):
    """What a word is called in the language, in one or several ways; without `captions`, it has no word for it."""

    english: str
    captions: list[str]
    more: NotRequired[bool]
    """Keep the captions beside what the same key answered before, not in its place."""


class AnswerCounts(TypedDict):
    """How much is kept of a language."""

    answered: int
    """Captions in all answers."""
    needed: int
    """With so many it can be taught."""


class Answers(TypedDict):
    words: list[Answer]


class AskedWord(TypedDict):
    """A word to ask a speaker for; or a `word` of searches that nobody taught, to ask what it is in English."""

    english: str
    """Empty where a `word` is asked about."""
    word: NotRequired[str | None]
    """A word of searches in the language that was not understood."""
    pictures: list[str]
    """Ids of at most three pictures that show it, the nearest first."""
    asked_for: NotRequired[int]
    """In how many searches the `word` was."""


class AskedWords(TypedDict):
    answered: int
    """Captions in all answers."""
    needed: int
    """With so many it can be taught."""
    items: list[AskedWord]
    covered: float | None
    """Share of the pictures that have a word already; null where there are none."""


class Assessment(TypedDict):
    """How well the base reads a language untaught, as it was measured last."""

    expansion: str
    at: str
    reads: bool
    """Whether well enough that a taught version would be served."""
    sentence: str
    t2i: Recall
    i2t: Recall
    pairs: int


class AuditItem(TypedDict):
    """An act: `targets` are ids, each with what became of it; `act` is the method and route, or what a worker did.

    `actor` is the id of a key, or the person: `oidc:SUBJECT` who signed in, `proxy:USER` whom a proxy named.
    """

    number: int
    at: str
    actor: str
    label: str
    """What the key or the person was called then."""
    act: str
    targets: dict[str, str]
    request_id: str


class AuditPage(TypedDict):
    items: list[AuditItem]
    next_cursor: str | None


class BackupNote(TypedDict):
    """A backup that was taken of this data root; `missing` are files that the registry names and nobody had."""

    folder: str
    time: str
    bytes: int
    missing: int


class BaseMove(TypedDict):
    base: NotRequired[str | None]
    """As in `PICTOGLOT_BASE`; null: the one that serves."""
    backend: NotRequired[Literal["auto", "torch", "openvino"] | None]
    """What computes the vectors; null: what computes them now."""
    precision: NotRequired[Literal["auto", "float32", "bfloat16", "int8"] | None]
    """null: that of now."""
    force: NotRequired[bool]
    """Move even if a language would lose more than the forgetting budget."""
    dry_run: NotRequired[bool]


class BaseStatus(TypedDict):
    """`move` is the newest move; `undo` what the way back would do now, if there is one."""

    base: str
    encoding: str
    """What makes the vectors of the release."""
    version: int
    release: int
    open: OpenBase
    move: ExpansionItem | None
    undo: BaseUndoResult | None


class BaseUndo(TypedDict):
    reason: NotRequired[str]
    expected: NotRequired[int | None]
    """The release you have seen; 409 if another serves."""
    dry_run: NotRequired[bool]


class BaseUndoResult(TypedDict):
    """The way back to the base before; `lost` are served now and not there, `changed` by another version there."""

    release: int
    """The new release; with `dry_run` the one that serves."""
    restored: int
    from_base: str
    to_base: str
    encoding: str | None
    """What has computed the vectors there."""
    lost: list[str]
    returned: list[str]
    changed: list[str]
    dry_run: bool


class BatchForm(TypedDict):
    """Fields sent with up to 256 files `picture`, of which the n-th belongs to the n-th record."""

    picture: list[File]
    records: NotRequired[Any]
    """JSON. A list of objects, each with any of `id`, `captions`, `collection`, `tags`, `metadata`, as with `PUT`;
    without `id` as with `POST`. If left out, all are as with `POST`, and nothing is said of them.
    """


class CallerStatus(TypedDict):
    """Who sends a request: all is null where nobody is known, and `refused` is why, an error's code."""

    by: NotRequired[Literal["key", "proxy", "session", "open"] | None]
    id: NotRequired[str | None]
    """As `actor` in the audit log."""
    label: NotRequired[str]
    scope: NotRequired[Literal["search", "write", "admin"] | None]
    collections: NotRequired[list[str] | None]
    """What the sender is bound to; null for everything."""
    refused: NotRequired[str | None]
    sign_in: NotRequired[str | None]
    """Where a person signs in; null where nobody can."""


class CaptionHit(TypedDict):
    caption: str
    language: str
    score: float
    rank: int
    picture: str


class CaptionHits(TypedDict):
    items: list[CaptionHit]
    release: int
    generations: dict[str, str]
    warnings: list[str]
    terms: dict[str, TermsInBrief]
    """Of the languages of the hits that have any."""
    timing_ms: float


class CaptionProposal(TypedDict):
    """What a person calls a picture; the same text as another person's is agreement."""

    picture: str
    text: str
    name: NotRequired[str]


class CaptionSearch(TypedDict):
    """Captions for a picture in the gallery, or with a form for an uploaded one: fields as in a search there."""

    picture: str
    languages: NotRequired[list[str] | None]
    limit: NotRequired[int]
    filter: NotRequired[dict[str, Any]]
    """Only captions of pictures that it leaves. As Qdrant's: `must`, `should`, `must_not` of conditions with `key`
    and `match` or `range`.
    """


class ChainStep(TypedDict):
    """AA and F of the shared table after one version; null where its report does not contain them."""

    version: int
    language: str
    AA: float | None
    F: float | None


class ChangeOutcome(TypedDict):
    id: str
    outcome: Literal["changed", "kept", "missing"]


class ChangeOutcomes(TypedDict):
    """What became of each picture."""

    items: list[ChangeOutcome]
    changed: int


class CollectionItem(TypedDict):
    name: str
    count: int


class Collections(TypedDict):
    items: list[CollectionItem]


class DatasetItem(TypedDict):
    """A dataset that a language was taught from, by the expansion that it came with."""

    expansion: str
    created_at: str
    settings: dict[str, Any]
    """Those that were sent with it, as `POST /v1/languages` takes them."""
    pivot: str | None
    """Of a dictionary, the language of its glosses; null of captions."""
    sha256: str | None
    bytes: int | None
    kept: bool
    """false: it was pruned."""
    imported: bool
    """It is a language file, for `POST /v1/languages/import`."""
    terms: LanguageTerms | None
    """Those of the language when it was sent."""


class Datasets(TypedDict):
    items: list[DatasetItem]


class Doubt(TypedDict):
    """What may be wrong with a dataset."""

    code: Literal["columns_swapped", "other_language", "pairs_unrelated"]
    detail: str
    rows: list[ShownRow]
    """The first five for which it is so."""
    expected: NotRequired[str | None]
    """The language that texts should be in, where they seem not to be."""
    found: NotRequired[str | None]
    """The one that they seem to be in; null: none that is known."""


class DryRun(TypedDict):
    """What a dataset holds, of which nothing is taught now: it was a dry run, or there are too few rows."""

    dry_run: NotRequired[bool]
    language: str
    waiting: WaitingCounts | None
    """Set where there are too few rows to teach the language. Unless this was a dry run they are kept."""
    report: dict[str, Any]
    doubts: list[Doubt]
    """With any, it is taught only if it is sent with `confirmed=true`."""
    sample: list[ShownRow]
    """The first five rows of what was sent."""
    joined: EarlierDatasets | None
    """What would be taught again; null: this dataset would be taught alone."""
    replaced: EarlierDatasets | None
    """With `replace`: whose place the dataset would take."""


class DuplicateGroup(TypedDict):
    pictures: list[NearPicture]
    more: bool
    """Whether more than 100 pictures are near the first one, of which these are nearest."""


class Duplicates(TypedDict):
    items: list[DuplicateGroup]
    examined: int
    """How many pictures were looked at for this page."""
    release: int
    generation: str
    next_cursor: str | None
    timing_ms: float


class EarlierDatasets(TypedDict):
    """What a language was taught from before: taught again beside a new dataset, or replaced by it."""

    datasets: int
    rows: int
    """Total rows, counting duplicates across datasets."""


class Embedding(TypedDict):
    object: NotRequired[Literal["embedding"]]
    index: int
    embedding: list[float] | str


class Embeddings(TypedDict):
    object: NotRequired[Literal["list"]]
    data: list[Embedding]
    languages: list[str | None]
    """By which each input was read: a tag, or `shared`; null: a picture."""
    model: str
    usage: Usage


class EmbeddingsRequest(TypedDict):
    """OpenAI's format; `model` and `user` are accepted and have no effect."""

    input: str | list[str]
    """Texts; one that begins with `data:image/` is a picture as a data URL in base64."""
    model: NotRequired[str | None]
    language: NotRequired[str]
    encoding_format: NotRequired[Literal["float", "base64"]]
    user: NotRequired[str | None]


class Evaluation(TypedDict):
    """The retrieval of a version on `pairs` held-out pairs, and the other results of its evaluation."""

    t2i: NotRequired[Recall]
    i2t: NotRequired[Recall]
    pairs: NotRequired[int]


class ExpansionError(TypedDict):
    code: str
    detail: str


class ExpansionItem(TypedDict):
    id: str
    kind: Literal["learn", "assess", "import", "rebuild", "base"]
    language: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    phase: str | None
    progress: float
    step: int
    steps: int
    eta_seconds: float | None
    attempt: int
    created_at: str
    started_at: str | None
    finished_at: str | None
    version: int | None
    release: int | None
    error: ExpansionError | None
    report: dict[str, Any] | None
    doubts: list[Doubt]
    """About its dataset; a person has confirmed it all the same."""


class ExpansionPage(TypedDict):
    items: list[ExpansionItem]
    next_cursor: str | None


class FacetValue(TypedDict):
    """A value, and how many pictures have it."""

    value: str | bool | int | float
    count: int


class GalleryFacets(TypedDict):
    pictures: int
    months: list[MonthCount]
    """By `shown_at`, in UTC, newest first."""
    folders: list[FacetValue]
    cameras: list[FacetValue]
    collections: list[FacetValue]


class ImportForm(TypedDict):
    """Fields sent with the `file` of a language."""

    file: File
    dry_run: NotRequired[bool]
    """Only say what is in the file."""
    force: NotRequired[bool]
    """Serve the language even if it is read worse than before; this is recorded."""


class IndexRecall(TypedDict):
    """The share of the ten nearest pictures that searches found, `of` the gallery's captions or made-up texts."""

    share: float
    queries: int
    of: Literal["captions", "made-up"]
    depth: int | None
    """The most that is searched of a part of the index for ten hits, chosen for PICTOGLOT_RECALL: lists of a
    segment, or candidates of pgvector's graph; null where all is compared, or Milvus decides.
    """
    unit: Literal["lists", "candidates"] | None
    """What `depth` counts."""


class KeyItem(TypedDict):
    id: str
    scope: Literal["search", "write", "admin"]
    label: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    collections: list[str] | None
    """What the key is bound to; null for everything."""


class KeyRequest(TypedDict):
    scope: Literal["search", "write", "admin"]
    label: NotRequired[str]
    expires_at: NotRequired[str | None]
    """In the future, with a time zone."""
    collections: NotRequired[list[str] | None]
    """The key sees, finds, counts and writes nothing else. Not with scope `admin`."""


class Keys(TypedDict):
    items: list[KeyItem]


class Label(TypedDict):
    """A Traditional Knowledge (`tk`) or Biocultural (`bc`) label, with the text that its community gave it."""

    kind: Literal["tk", "bc"]
    name: str
    text: NotRequired[str]
    language: NotRequired[str]
    """Of name and text."""
    community: NotRequired[str]
    url: NotRequired[str | None]
    translations: NotRequired[list[Translation]]


class LabelName(TypedDict):
    kind: Literal["tk", "bc"]
    name: str


class LanguageDetail(TypedDict):
    language: str
    name: str
    native_name: str
    direction: Literal["ltr", "rtl"]
    version: int | None
    """What reads its texts: a taught version, or that of the base. null: nothing, it was only assessed."""
    captions: int
    learned_at: str | None
    """null of a language that was not taught, except English."""
    report: Evaluation
    taught: bool
    """An expansion learned it."""
    built_in: bool
    """The base reads it: its maker says so, or it was measured."""
    waiting: NotRequired[int]
    """Rows of datasets that were too small to teach it; from 64 on it is taught."""
    assessed: Assessment | None
    """How well the base reads it untaught; null when nobody measured that."""
    terms: LanguageTerms | None
    """Whose it is, and what they allow; null where nothing was said."""
    letters: list[str]
    """Letters of its texts that a plain keyboard lacks."""


class LanguageFileItem(TypedDict):
    """What is in a file; nothing was imported."""

    dry_run: NotRequired[bool]
    language: str
    name: str
    base: str
    learned_at: str
    rows: int
    bytes: int
    terms: Terms | None
    """Those of its language, which come with it; null where nothing was said."""
    signer: str | None
    """The public key of who signed it, in base64; null where nobody did."""
    pairs: int
    """Held-out pairs by which it was measured where it was taught."""
    recall: float | None
    """R@10 of texts there; null where nothing was measured."""


class LanguageForm(TypedDict):
    """Fields sent with the file `dataset`; `settings` is JSON."""

    dataset: NotRequired[File]
    language: str
    settings: NotRequired[Any]
    """JSON. Any of `epochs`, `learning_rate`, `vocabulary`, `seed`."""
    kind: NotRequired[Literal["captions", "dictionary"]]
    """A dictionary has an entry in each line, `{"word": "Apfel", "glosses": ["apple"]}`, and if it is known the
    part of speech `pos` and other `forms`; what is taught of it is chosen.
    """
    terms: NotRequired[Any]
    """JSON. Whose language it is, and what they allow, as `PUT /v1/languages/{tag}/terms` takes it; left out: as
    it is.
    """
    pivot: NotRequired[str | None]
    """The language of the glosses in a dictionary; left out: English."""
    dry_run: NotRequired[bool]
    assess: NotRequired[bool]
    """Measure how well the language is read already, and teach nothing."""
    force: NotRequired[bool]
    """Serve the language even if it is read worse than before; this is recorded."""
    without_missing: NotRequired[bool]
    """Pictures that are not in the gallery are left out, and their rows too, unless they have another text.
    Otherwise the dataset is refused for them.
    """
    replace: NotRequired[bool]
    """Teach from this dataset alone, without those that the language was taught from before."""
    confirmed: NotRequired[bool]
    """Teach the dataset although there are `doubts` about it: a person said that it is right."""
    swap: NotRequired[bool]
    """Take the captions for the texts beside them, and these for captions."""
    words: NotRequired[bool]
    """In place of a file: teach from the answers that `POST /v1/languages/{tag}/words` has kept. They take the
    place of those taught before.
    """
    captions: NotRequired[bool]
    """In place of a file: teach from the captions of pictures in the language, those that came with pictures and
    those that were accepted. They take the place of those taught like this before.
    """


class LanguageItem(TypedDict):
    language: str
    name: str
    native_name: str
    direction: Literal["ltr", "rtl"]
    version: int | None
    """What reads its texts: a taught version, or that of the base. null: nothing, it was only assessed."""
    captions: int
    learned_at: str | None
    """null of a language that was not taught, except English."""
    report: Evaluation
    taught: bool
    """An expansion learned it."""
    built_in: bool
    """The base reads it: its maker says so, or it was measured."""
    waiting: NotRequired[int]
    """Rows of datasets that were too small to teach it; from 64 on it is taught."""
    assessed: Assessment | None
    """How well the base reads it untaught; null when nobody measured that."""
    terms: LanguageTerms | None
    """Whose it is, and what they allow; null where nothing was said."""


class LanguageTerms(TypedDict):
    """The terms that a language has, or that it had when a dataset was sent or a version was made."""

    owner: str
    contact: str
    licence: str
    statement: str
    labels: list[Label]
    set_at: str


class LanguageWithdrawal(TypedDict):
    """What a withdrawal removes for good, or has removed; `release` serves."""

    language: str
    release: int
    versions: list[WithdrawnVersion]
    datasets: list[WithdrawnDataset]
    captions: int
    """Captions that came with datasets."""
    answers: int
    """Answers to words."""
    remains: list[Remainder]
    dry_run: bool
    certificate: dict[str, Any] | None
    """What was done, signed by Ed25519 over the object without `signature`, as UTF-8 without blanks, its keys in
    order; null of a dry run.
    """


class Languages(TypedDict):
    items: list[LanguageItem]
    shared_version: int
    release: int


class Limits(TypedDict):
    """What a picture may have, as the service is set."""

    picture_bytes: int
    picture_pixels: int


class Live(TypedDict):
    status: NotRequired[Literal["alive"]]


class MatchBin(TypedDict):
    """First hits of about the same chance: its mean, and the share that was right."""

    chance: float
    right: float
    count: int


class MatchQuality(TypedDict):
    """How right the chances of hits are (`match`), on texts that they were not fitted to.

    At `min_match` 0.5: `kept` is the share of right first hits, `found` of the texts that keep a right hit at
    all, and `absent` of the texts that keep nothing once what they mean is taken out of the gallery.
    """

    measured_at: str
    captions: int
    pictures: int
    """In the gallery when it was measured."""
    reason: NotRequired[Literal["few_captions", "few_pictures"] | None]
    """Why hits have no `match`."""
    error: NotRequired[float | None]
    """Expected calibration error of first hits."""
    by_chance: NotRequired[float | None]
    """What it would be on as many texts if every chance were right."""
    error_all: NotRequired[float | None]
    """Expected calibration error of the first ten hits."""
    kept: NotRequired[float | None]
    found: NotRequired[float | None]
    absent: NotRequired[float | None]
    near: NotRequired[str | None]
    """The language on whose curves it leans where it has few captions."""
    texts: NotRequired[int]
    """Held-out captions without pictures that it follows from: how far they are from what they mean says what the
    `captions`, English ones, would find in this language. 0: it is measured.
    """
    bins: NotRequired[list[MatchBin]]


class Minus(TypedDict):
    """What the pictures should not be like: a text, a picture of the gallery, or both."""

    text: NotRequired[str | None]
    picture: NotRequired[str | None]


class Model(TypedDict):
    """The base, as OpenAI describes a model, and what it reads."""

    id: str
    object: NotRequired[Literal["model"]]
    created: int
    """When this data root was made with it, in seconds since 1970."""
    owned_by: NotRequired[Literal["pictoglot"]]
    languages: list[str]
    """Tags of what the base reads untaught; `mul`: many more, without a list."""
    taught: list[str]
    """Tags of the languages that it was taught and that are served."""
    dimension: int
    inputs: NotRequired[tuple[Literal["text"], Literal["picture"]]]


class Models(TypedDict):
    object: NotRequired[Literal["list"]]
    data: list[Model]


class MonthCount(TypedDict):
    value: str
    """`2019-07`."""
    count: int


class NearPicture(TypedDict):
    id: str
    name: str
    width: int
    """Of the photograph, as in its record."""
    height: int
    score: float
    """To the first picture of the group; 1 for that one."""
    url: str


class NewKey(TypedDict):
    id: str
    scope: Literal["search", "write", "admin"]
    label: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    collections: list[str] | None
    """What the key is bound to; null for everything."""
    key: str
    """Shown only in this response."""


class OpenBase(TypedDict):
    """What this process has open. After a move it opens the other base beside, and serves this one until then."""

    base: str
    encoding: str
    version: int
    release: int | None


class PictureChanges(TypedDict):
    """What becomes of all these pictures; `deleted` goes alone."""

    ids: list[str]
    add_tags: NotRequired[list[str]]
    remove_tags: NotRequired[list[str]]
    collection: NotRequired[str | None]
    deleted: NotRequired[bool | None]
    """true deletes them, false brings back what was deleted within a day."""


class PictureForm(TypedDict):
    """Fields sent with the file `picture`; `captions` is JSON: `{TAG: [text, ...]}`."""

    picture: File
    captions: NotRequired[Any]
    """JSON. If left out, existing captions stay."""
    collection: NotRequired[str | None]
    """If left out, it stays, and is `default` for a new one."""
    tags: NotRequired[list[str] | None]
    """At most 64: repeated, or a JSON list. If left out, existing tags stay."""
    metadata: NotRequired[Any]
    """JSON. A flat JSON object of at most 16 KiB: keys of 1 to 64 of `a-z 0-9 _`; values are strings, numbers,
    true or false, and lists of strings. A string that is an RFC 3339 date is also a date. If left out, existing
    metadata stays.
    """


class PictureHit(TypedDict):
    """`collection`, `tags`, `metadata`, `etag`, `width` and `height` are null while the registry does not answer."""

    id: NotRequired[str]
    score: NotRequired[float]
    """By what the hits are ordered: of the meaning, the words, or 0 to 1 for `both`."""
    meaning: NotRequired[float | None]
    """Cosine to what is meant; null where only words found it."""
    words: NotRequired[float | None]
    """Share of the words that it has, by their weight; null without any."""
    rank: NotRequired[int]
    url: NotRequired[str]
    captions: NotRequired[dict[str, list[str]]]
    match: NotRequired[float | None]
    """Chance that this is what the text means; null where it is not known."""
    likely: NotRequired[bool | None]
    """Whether it rather is what the text means than not: it has all its words, or a `match` of 0.5 or more. Such
    hits come first. null where that is not known.
    """
    collection: NotRequired[str | None]
    tags: NotRequired[list[str] | None]
    metadata: NotRequired[dict[str, Any] | None]
    etag: NotRequired[str | None]
    width: NotRequired[int | None]
    """Of the photograph in pixels, upright."""
    height: NotRequired[int | None]


class PictureHits(TypedDict):
    items: list[PictureHit]
    facets: NotRequired[dict[str, list[FacetValue]] | None]
    """As asked for with `facets`."""
    language: QueryLanguage | None
    """null in a search by picture."""
    version: int | None
    release: int
    generation: str
    truncated: bool
    warnings: list[str]
    unknown_words: list[str]
    """Words of the text that no caption has and nobody taught; they are not read, unless all are such."""
    guessed_words: list[str]
    """Words for people, places and events that the base does not know: what they find is a guess."""
    did_you_mean: dict[str, str]
    """For unknown words, the nearest that is known."""
    below_min_match: NotRequired[int | None]
    """How many hits `min_match` left out of this page; without items: nothing matches well."""
    next_cursor: str | None
    timing_ms: float


class PictureItem(TypedDict):
    id: NotRequired[str]
    collection: NotRequired[str]
    captions: NotRequired[dict[str, list[str]]]
    waiting: NotRequired[dict[str, list[str]]]
    """Captions in languages that are not served: searchable when they are taught."""
    own: NotRequired[dict[str, list[str]]]
    """Captions that came with the picture or a patch, in whatever language: its record's."""
    tags: NotRequired[list[str]]
    metadata: NotRequired[dict[str, Any]]
    name: NotRequired[str]
    """`title` or `file_name` of its metadata, else the last part of its id."""
    url: NotRequired[str]
    width: NotRequired[int]
    """Of the photograph in pixels, upright; the stored copy may be smaller."""
    height: NotRequired[int]
    original: NotRequired[bool]
    """Whether its bytes are kept as they were sent: `GET .../original`."""
    created_at: NotRequired[str]
    shown_at: NotRequired[str]
    """When it was taken, as `taken_at` of its metadata tells, else `created_at`."""
    etag: NotRequired[str]
    """As the header `ETag`: of collection, tags, metadata, content and own captions."""


class PictureOutcome(TypedDict):
    id: str | None
    """Null where it would have come from the bytes of a picture that is refused."""
    outcome: Literal["created", "replaced", "kept", "refused"]
    """`kept`: the picture was there with this record; nothing changed."""
    status: int
    """Of the answer that this picture alone would have got."""
    picture: PictureItem | None
    problem: Problem | None
    """Why it is refused. With status 503 or 507 it may be sent again."""
    already_there_as: str | None
    """Another picture with the same bytes, the first that the key may see; of bytes that were not here before."""


class PictureOutcomes(TypedDict):
    """What became of each picture, in the order in which they were sent."""

    items: list[PictureOutcome]


class PicturePage(TypedDict):
    items: list[PictureItem]
    next_cursor: str | None
    facets: NotRequired[dict[str, list[FacetValue]] | None]
    """As asked for with `facets`."""


class PictureSearch(TypedDict):
    """Pictures for a text, like a picture of the gallery, or both; without what they should not be like.

    In a form `picture` is a file; `minus`, `weights` and `filter` are JSON; lists are repeated, as a JSON list
    or separated by commas. Without a text, `language` must be available, and only selects the language of the
    captions.
    """

    text: NotRequired[str | None]
    picture: NotRequired[str | None]
    """Pictures like this one, which is not among the hits."""
    minus: NotRequired[Minus | None]
    """What the pictures should not be like."""
    weights: NotRequired[Weights | None]
    mode: NotRequired[Literal["meaning", "words", "both"] | None]
    """`meaning`: by what pictures show. `words`: pictures that have words of the text in captions, tags or
    metadata. `both`: first what is called so, then what has all the words, then by meaning. Default: `both` for
    a text, `meaning` with a picture.
    """
    language: NotRequired[str]
    """`auto`, `shared` or the tag of a learned language."""
    limit: NotRequired[int]
    min_score: NotRequired[float | None]
    min_match: NotRequired[float | None]
    """Least `match` of a hit."""
    cursor: NotRequired[str | None]
    """`next_cursor` of the page before. Beyond rank 10,000 there is no page: 422 `page_too_deep`."""
    captions: NotRequired[list[str] | Literal["all", "none"] | None]
    """Languages of the captions in the answer; default: the language used, and English. A search by words also
    sends, by default, the captions in other languages that have some of them.
    """
    filter: NotRequired[dict[str, Any]]
    """As Qdrant's: `must`, `should`, `must_not` of conditions with `key` and `match` or `range`."""
    facets: NotRequired[list[str] | None]
    """Keys whose values are counted among the pictures that the filter leaves."""


class Place(TypedDict):
    location: str
    code: str


class Problem(TypedDict):
    """The body of every error (RFC 9457). What only some errors have is left out of others."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[Place]
    retry_after_seconds: NotRequired[int | None]
    """With 429 and 503: as `Retry-After`."""
    languages: NotRequired[list[str] | None]
    """With `language_not_found`: the available ones."""
    release: NotRequired[int | None]
    """With `alias_moved`: the release that serves now."""
    expansion: NotRequired[str | None]
    """With `expansion_in_progress`: the id of that expansion."""
    report: NotRequired[dict[str, Any] | None]
    """With refused datasets: counts and lines by kind of fault."""
    count: NotRequired[int | None]
    """With `picture_not_found`: how many pictures are unknown."""
    versions: NotRequired[list[int] | None]
    """With `version_pruned`: the versions whose files are gone."""
    kind: NotRequired[str | None]
    """With `dataset_invalid`: what is wrong with the file as a whole."""


class ProposalResult(TypedDict):
    captions: int
    """Accepted, or come with the pictures; counted up to `needed`."""
    needed: int
    """With so many it can be taught."""
    accepted: bool
    """Two have agreed: it is a caption of the picture now."""


class ProposedCaption(TypedDict):
    """A caption that waits, or was accepted: when, and who wrote it, unless the caller may only search."""

    id: int
    picture: str
    text: str
    name: str
    """As it was given; empty if none was."""
    label: str
    """Of the key."""
    proposed_at: str
    accepted_at: str | None
    accepted_by: str | None
    """The id of the key of the keeper, or of the second who agreed."""


class ProposedCaptions(TypedDict):
    """The newest first."""

    items: list[ProposedCaption]


class PruneRequest(TypedDict):
    keep: NotRequired[int]
    """How many of the newest releases stay in reach."""
    expected: NotRequired[int | None]
    """The release you have seen; 409 if another serves."""
    dry_run: NotRequired[bool]


class PruneResult(TypedDict):
    release: int
    """The release that serves."""
    oldest: int
    """The oldest release in reach."""
    items: list[PrunedItem]
    bytes: int
    dry_run: bool


class PrunedItem(TypedDict):
    """One thing that goes, and why; `bytes` is about how much space it takes."""

    what: Literal["version", "vectors", "dataset"]
    name: str
    language: str
    why: str
    bytes: int


class PutItem(TypedDict):
    id: NotRequired[str]
    collection: NotRequired[str]
    captions: NotRequired[dict[str, list[str]]]
    waiting: NotRequired[dict[str, list[str]]]
    """Captions in languages that are not served: searchable when they are taught."""
    own: NotRequired[dict[str, list[str]]]
    """Captions that came with the picture or a patch, in whatever language: its record's."""
    tags: NotRequired[list[str]]
    metadata: NotRequired[dict[str, Any]]
    name: NotRequired[str]
    """`title` or `file_name` of its metadata, else the last part of its id."""
    url: NotRequired[str]
    width: NotRequired[int]
    """Of the photograph in pixels, upright; the stored copy may be smaller."""
    height: NotRequired[int]
    original: NotRequired[bool]
    """Whether its bytes are kept as they were sent: `GET .../original`."""
    created_at: NotRequired[str]
    shown_at: NotRequired[str]
    """When it was taken, as `taken_at` of its metadata tells, else `created_at`."""
    etag: NotRequired[str]
    """As the header `ETag`: of collection, tags, metadata, content and own captions."""
    already_there_as: NotRequired[str | None]
    """Another picture with the same bytes, the first that the key may see; of bytes that were not here before.
    Left out where there is none.
    """


class QueryLanguage(TypedDict):
    requested: str
    used: str
    source: Literal["requested", "detected", "shared"]
    confidence: float | None
    terms: NotRequired[TermsInBrief | None]
    """Of the language that read the text; left out where nothing was said."""


class Queues(TypedDict):
    """What waits: texts and pictures to be encoded, changes to be sealed; expansions that are queued, or running."""

    texts: int
    pictures: int
    unsealed: int
    queued: int
    running: int


class Ready(TypedDict):
    release: int | None
    base: str
    encoding: str
    """What computes the vectors, for example `openvino in bfloat16`."""
    generations: dict[str, str]
    """Of each vector set; empty without a key that may see all."""
    degraded: list[str]
    """Codes, or with a key that may see all also sentences."""
    status: NotRequired[Literal["ready"]]


Recall = TypedDict(
    "Recall", {"R@1": NotRequired[float | None], "R@5": NotRequired[float | None], "R@10": NotRequired[float | None]}
)


class RecordPatch(TypedDict):
    """A JSON merge patch (RFC 7396): what is left out stays, null removes, lists are replaced."""

    captions: NotRequired[dict[str, list[str] | None] | None]
    tags: NotRequired[list[str] | None]
    metadata: NotRequired[dict[str, Any] | None]
    collection: NotRequired[str | None]


class ReleaseItem(TypedDict):
    number: int
    shared: int
    languages: dict[str, int]
    created_at: str
    actor: str
    reason: str
    change: dict[str, Any]
    pruned: list[int]
    """Versions of it that were pruned: with any, it cannot be restored."""


class ReleasePage(TypedDict):
    items: list[ReleaseItem]
    next_cursor: str | None


class Remainder(TypedDict):
    """What a withdrawal leaves, and why."""

    what: Literal["version", "captions", "dataset", "terms", "backups", "exports", "history"]
    name: str
    why: str


class RestoreRequest(TypedDict):
    expected: int
    reason: NotRequired[str]


class Review(TypedDict):
    """What a keeper accepts, and what not, by id."""

    accept: NotRequired[list[int]]
    reject: NotRequired[list[int]]


class ReviewResult(TypedDict):
    captions: int
    """Accepted, or come with the pictures; counted up to `needed`."""
    needed: int
    """With so many it can be taught."""
    accepted: int


class Rollback(TypedDict):
    release: int
    language: str
    from_version: int
    to_version: int | None
    unchanged: list[str]
    shared_version: int
    replay: list[str]
    rebuild_expansion: str | None
    dry_run: bool


class RollbackRequest(TypedDict):
    reason: NotRequired[str]
    expected: NotRequired[int | None]
    """The release you have seen; 409 if another serves."""
    dry_run: NotRequired[bool]
    rebuild: NotRequired[bool]


class SearchAnswer(TypedDict):
    """What `POST /v1/search/pictures` would answer: one of `answer` and `problem` is null."""

    status: int
    answer: PictureHits | None
    problem: Problem | None


class SearchAnswers(TypedDict):
    """In the order of the searches, all of one release and one state of the vectors."""

    items: list[SearchAnswer]
    release: int
    timing_ms: float


class Searches(TypedDict):
    """Searches, each as `POST /v1/search/pictures` takes it as JSON; each is answered or refused on its own."""

    searches: list[dict[str, Any]]


class ServiceStatus(TypedDict):
    release: int | None
    base: str
    encoding: str
    """What computes the vectors, for example `openvino in bfloat16`."""
    generations: dict[str, str]
    """Of each vector set; empty without a key that may see all."""
    degraded: list[str]
    """Codes, or with a key that may see all also sentences."""
    faults: list[str]
    """The code of each thing that is wrong, as metrics count them."""
    space: Space
    queues: Queues
    backup: BackupNote | None
    """The newest one, as far as this machine knows."""


class SessionItem(TypedDict):
    id: str
    subject: str
    """`oidc:SUBJECT` for a person, `key:ID` for a key that a browser remembers."""
    label: str
    created_at: str
    expires_at: str


class Sessions(TypedDict):
    items: list[SessionItem]


class ShownRow(TypedDict):
    """A row as a person sees it."""

    line: int
    caption: str
    text: str | None
    """What stands beside the caption; null where that is a picture alone."""
    language: str | None
    """Of the `text`."""


class Space(TypedDict):
    """The disk under the data root, in bytes; `reserve` is what a write must leave."""

    free: int
    total: int
    reserve: int


class SubmittedExpansion(TypedDict):
    expansion: ExpansionItem


class SubmittedMove(TypedDict):
    """What a move takes, in bytes of disk, or null when it was queued before; without `expansion` it was not
    queued.
    """

    base: str
    languages: NotRequired[list[str] | None]
    """Those that are taught again."""
    needed: NotRequired[int | None]
    free: NotRequired[int | None]
    expansion: ExpansionItem | None
    dry_run: bool


class SuggestedLanguage(TypedDict):
    """A language that a text may name."""

    language: str
    """Its tag."""
    name: str
    native_name: str
    direction: Literal["ltr", "rtl"]
    matched: str
    """The name or tag that is like the text; names are in small letters."""
    iso639_3: str | None
    """Its code of ISO 639-3; null if it has none."""
    glottocode: str | None
    """That of Glottolog; null where it has none, as for several at once."""
    served: bool


class SuggestedLanguages(TypedDict):
    items: list[SuggestedLanguage]


class TeachingSettings(TypedDict):
    """The settings of one expansion; each has a default."""

    epochs: NotRequired[int]
    """0: chosen by the size of the dataset."""
    learning_rate: NotRequired[float | None]
    """null: 0.002 to 0.004, by the size of the dataset."""
    vocabulary: NotRequired[int]
    """Maximum number of tokens added for the language."""
    seed: NotRequired[int]


class Terms(TypedDict):
    """What a community says of its language; all of it is optional.

    A project of Local Contexts' hub, as JSON with `tk_labels` and `bc_labels`, is read as its labels.
    """

    owner: NotRequired[str]
    contact: NotRequired[str]
    licence: NotRequired[str]
    """An SPDX identifier, a name or an address."""
    statement: NotRequired[str]
    labels: NotRequired[list[Label]]


class TermsInBrief(TypedDict):
    """The terms of a language that was searched; `GET /v1/languages/{tag}` has the texts of its labels, too."""

    owner: str
    contact: str
    licence: str
    statement: str
    labels: list[LabelName]


class Translation(TypedDict):
    """The name and the text of a label in another language."""

    language: str
    name: NotRequired[str]
    text: NotRequired[str]


class Usage(TypedDict):
    prompt_tokens: int
    total_tokens: int


class VerifyResult(TypedDict):
    ok: bool
    release: int
    problems: list[str]
    recall: IndexRecall | None


class VersionDetail(TypedDict):
    number: int
    parent: int | None
    language: str
    expansion: str | None
    manifest_sha256: str | None
    rows: int
    bytes: int
    report: Evaluation
    created_at: str
    pruned_at: str | None
    """When it was pruned: it cannot serve any more."""
    manifest: dict[str, Any] | None
    digests: dict[str, str]
    """sha256 by file; of version 0, the fingerprints of the base's towers."""
    report_page: str
    """The page of the report; as JSON it is at `/v1/versions/{number}/report`."""


class VersionItem(TypedDict):
    number: int
    parent: int | None
    language: str
    expansion: str | None
    manifest_sha256: str | None
    rows: int
    bytes: int
    report: Evaluation
    created_at: str
    pruned_at: str | None
    """When it was pruned: it cannot serve any more."""
    report_page: str
    """The page of the report; as JSON it is at `/v1/versions/{number}/report`."""


class VersionPage(TypedDict):
    items: list[VersionItem]
    next_cursor: str | None


class VersionReport(TypedDict):
    """The full evaluation of a version, and what became of it."""

    version: int
    parent: int | None
    language: str
    name: str
    native_name: str
    direction: Literal["ltr", "rtl"]
    created_at: str
    expansion: str | None
    state: str | None
    """Of the expansion: `failed` when the gate refused the version."""
    error: ExpansionError | None
    moved: bool | None
    """Whether the shared table moved to it; null while this is undecided."""
    terms: LanguageTerms | None
    """Those of the language when the version was made."""
    chain: list[ChainStep]
    """The versions it builds upon, oldest first, and itself."""
    match: MatchQuality | None
    """null until a worker has measured it, as it does once it serves."""
    index: IndexRecall | None
    """R@10 of the index that serves, against an exact scan, with texts; null while there is no picture."""
    report: Evaluation


class WaitingCounts(TypedDict):
    """Rows of a language that are too few to teach it; the next dataset joins them."""

    rows: int
    needed: int


class WantedPicture(TypedDict):
    """A picture without a caption in the language, and what others propose for it."""

    picture: str
    proposals: list[ProposedCaption]


class WantedPictures(TypedDict):
    captions: int
    """Accepted, or come with the pictures; counted up to `needed`."""
    needed: int
    """With so many it can be taught."""
    items: list[WantedPicture]


class Weights(TypedDict):
    """How much each part of a search counts: from 0, which is not at all, to 100."""

    text: NotRequired[float]
    picture: NotRequired[float]
    minus_text: NotRequired[float]
    minus_picture: NotRequired[float]
    meaning: NotRequired[float]
    words: NotRequired[float]


class WithdrawalRequest(TypedDict):
    reason: NotRequired[str]
    expected: NotRequired[int | None]
    """The release you have seen; 409 if another serves."""
    dry_run: NotRequired[bool]


class WithdrawnDataset(TypedDict):
    expansion: str
    sha256: str | None
    bytes: int | None


class WithdrawnVersion(TypedDict):
    number: int
    manifest_sha256: str | None
    bytes: int


class NotReady(TypedDict):
    """No searches are accepted: `index_unavailable`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[Place]
    retry_after_seconds: NotRequired[int | None]
    """With 429 and 503: as `Retry-After`."""
    languages: NotRequired[list[str] | None]
    """With `language_not_found`: the available ones."""
    release: int | None
    expansion: NotRequired[str | None]
    """With `expansion_in_progress`: the id of that expansion."""
    report: NotRequired[dict[str, Any] | None]
    """With refused datasets: counts and lines by kind of fault."""
    count: NotRequired[int | None]
    """With `picture_not_found`: how many pictures are unknown."""
    versions: NotRequired[list[int] | None]
    """With `version_pruned`: the versions whose files are gone."""
    kind: NotRequired[str | None]
    """With `dataset_invalid`: what is wrong with the file as a whole."""
    base: str
    encoding: str
    """What computes the vectors, for example `openvino in bfloat16`."""
    generations: dict[str, str]
    """Of each vector set; empty without a key that may see all."""
    degraded: list[str]
    """Codes, or with a key that may see all also sentences."""


class SimilarPictures(TypedDict):
    """Pictures for a text, like a picture of the gallery, or both; without what they should not be like.

    In a form `picture` is a file; `minus`, `weights` and `filter` are JSON; lists are repeated, as a JSON list
    or separated by commas. Without a text, `language` must be available, and only selects the language of the
    captions.
    """

    picture: File
    text: NotRequired[str | None]
    minus: NotRequired[Any]
    """JSON. What the pictures should not be like."""
    weights: NotRequired[Any]
    """JSON."""
    mode: NotRequired[Literal["meaning", "words", "both"] | None]
    """`meaning`: by what pictures show. `words`: pictures that have words of the text in captions, tags or
    metadata. `both`: first what is called so, then what has all the words, then by meaning. Default: `both` for
    a text, `meaning` with a picture.
    """
    language: NotRequired[str]
    """`auto`, `shared` or the tag of a learned language."""
    limit: NotRequired[int]
    min_score: NotRequired[float | None]
    min_match: NotRequired[float | None]
    """Least `match` of a hit."""
    cursor: NotRequired[str | None]
    """`next_cursor` of the page before. Beyond rank 10,000 there is no page: 422 `page_too_deep`."""
    captions: NotRequired[list[str] | Literal["all", "none"] | None]
    """Languages of the captions in the answer; default: the language used, and English. A search by words also
    sends, by default, the captions in other languages that have some of them.
    """
    filter: NotRequired[Any]
    """JSON. As Qdrant's: `must`, `should`, `must_not` of conditions with `key` and `match` or `range`."""
    facets: NotRequired[list[str] | None]
    """Keys whose values are counted among the pictures that the filter leaves."""


class CaptionsOfUpload(TypedDict):
    """Captions for a picture in the gallery, or with a form for an uploaded one: fields as in a search there."""

    picture: File
    languages: NotRequired[list[str] | None]
    limit: NotRequired[int]
    filter: NotRequired[Any]
    """JSON. Only captions of pictures that it leaves. As Qdrant's: `must`, `should`, `must_not` of conditions with
    `key` and `match` or `range`.
    """


class PictureEmbedding(TypedDict):
    """OpenAI's format; `model` and `user` are accepted and have no effect."""

    picture: File
    model: NotRequired[str | None]
    language: NotRequired[str]
    encoding_format: NotRequired[Literal["float", "base64"]]
    user: NotRequired[str | None]


class Operations(ABC):
    """A method for each operation. An argument that is None is not sent. `RefusedError` says why one is refused."""

    @abstractmethod
    def ask(
        self,
        operation: str,
        names: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        form: bool = False,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> Any:
        """Send an operation such as `GET /v1/pictures/{id}`; return the document, text or bytes that it answers."""

    def iterate(self, operation: str, query: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the items of a listing, page after page; `limit` of them at most, if that is not None."""
        cursor, left = None, query["limit"]
        while left is None or left > 0:
            page = self.ask(operation, query={**query, "limit": min(left or 100, 100), "cursor": cursor})
            yield from page["items"][:left]
            left = None if left is None else left - len(page["items"])
            if (cursor := page["next_cursor"]) is None:
                return

    def search_pictures(self, body: PictureSearch | SimilarPictures, *, fields: str | None = None) -> PictureHits:
        """Pictures for a text, like a picture of the gallery or, with a form, an uploaded one; only what the
        filter leaves.

        Filter and words are read from what is stored now, the vectors from the release that serves.
        """
        answer: PictureHits = self.ask("POST /v1/search/pictures", body=body, query={"fields": fields})
        return answer

    def search_captions(self, body: CaptionSearch | CaptionsOfUpload) -> CaptionHits:
        """Captions for an uploaded picture or one in the gallery, `limit` in each language; only what the filter
        leaves.

        A base that reads more than English finds captions in languages that were not taught too, with the
        warning `language_not_taught`.
        """
        answer: CaptionHits = self.ask("POST /v1/search/captions", body=body)
        return answer

    def search_batch(self, body: Searches, *, fields: str | None = None) -> SearchAnswers:
        """Up to 100 searches for pictures. They count as so many requests.

        `items` are in their order, each with `status` and either `answer` or `problem`. After ten seconds, or
        32 MiB of answers, those that are not answered yet are refused: `overloaded`.
        """
        answer: SearchAnswers = self.ask("POST /v1/search/batch", body=body, query={"fields": fields})
        return answer

    def embed(self, body: EmbeddingsRequest | PictureEmbedding) -> Embeddings:
        """Unit vectors of texts and pictures; with `language` `auto`, each text is encoded by its own language's
        version.

        A picture among the inputs is a data URL in base64; with a form, one file is sent instead.
        """
        answer: Embeddings = self.ask("POST /v1/embeddings", body=body)
        return answer

    def list_models(self) -> Models:
        """The one model of this service, as OpenAI lists models, with the languages that it reads."""
        answer: Models = self.ask("GET /v1/models")
        return answer

    def put_picture(self, id: str, body: PictureForm, *, if_match: str | None = None) -> PutItem:
        """Add or replace a picture; 201 when the id is new. The picture can be searched when the answer arrives.

        With `If-Match`, 412 `record_changed` unless there is a record with this `ETag`; `*` is any. A key that
        is bound to collections gets 404 where a picture outside of them has this id.
        """
        answer: PutItem = self.ask(
            "PUT /v1/pictures/{id}", {"id": id}, body=body, form=True, headers={"If-Match": if_match}
        )
        return answer

    def get_picture(self, id: str, *, fields: str | None = None) -> PictureItem:
        """One picture and its captions in the languages that are served; `waiting` are those in others."""
        answer: PictureItem = self.ask("GET /v1/pictures/{id}", {"id": id}, query={"fields": fields})
        return answer

    def patch_picture(self, id: str, body: RecordPatch, *, if_match: str | None = None) -> PictureItem:
        """Change captions, tags, metadata or collection: a JSON merge patch (RFC 7396). The picture stays as it
        is.

        With `If-Match`, 412 `record_changed` unless the record still has this `ETag`. When the answer arrives,
        new captions are found. Those in a language that is not served are kept, and are found when it is
        taught.
        """
        answer: PictureItem = self.ask("PATCH /v1/pictures/{id}", {"id": id}, body=body, headers={"If-Match": if_match})
        return answer

    def delete_picture(self, id: str, *, if_match: str | None = None) -> None:
        """Delete a picture; when the answer arrives, no search returns it any more. `If-Match` as with `PATCH`."""
        self.ask("DELETE /v1/pictures/{id}", {"id": id}, headers={"If-Match": if_match})

    def post_picture(self, body: PictureForm) -> PutItem:
        """Add a picture under the sha256 of its bytes; the same bytes give the same id.

        With a collection other than `default`, or a key that is bound to collections, under the sha256 of that
        hash and the collection: the same bytes in another collection are another picture. One that is there
        already stays in the collection that it is in now.
        """
        answer: PutItem = self.ask("POST /v1/pictures", body=body, form=True)
        return answer

    def list_pictures(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        filter: str | None = None,
        collection: str | None = None,
        sort: Literal["created_at", "-created_at", "shown_at", "-shown_at"] | None = None,
        facets: list[str] | None = None,
        fields: str | None = None,
    ) -> PicturePage:
        """Pictures in the order in which they were added or taken, or newest first; only those that the filter
        leaves.

        503 `registry_unavailable` after six seconds, as a search with a filter.
        """
        answer: PicturePage = self.ask(
            "GET /v1/pictures",
            query={
                "limit": limit,
                "cursor": cursor,
                "filter": filter,
                "collection": collection,
                "sort": sort,
                "facets": facets,
                "fields": fields,
            },
        )
        return answer

    def iterate_pictures(
        self,
        *,
        limit: int | None = None,
        filter: str | None = None,
        collection: str | None = None,
        sort: Literal["created_at", "-created_at", "shown_at", "-shown_at"] | None = None,
        facets: list[str] | None = None,
        fields: str | None = None,
    ) -> Iterator[PictureItem]:
        """Yield the items of `list_pictures`, page after page; `limit` of them at most, or all."""
        return self.iterate(
            "GET /v1/pictures",
            {
                "limit": limit,
                "filter": filter,
                "collection": collection,
                "sort": sort,
                "facets": facets,
                "fields": fields,
            },
        )

    def picture_content(self, id: str, *, v: str | None = None) -> bytes:
        """The stored picture: a JPEG of at most 1,024 pixels a side."""
        answer: bytes = self.ask("GET /v1/pictures/{id}/content", {"id": id}, query={"v": v})
        return answer

    def picture_thumbnail(self, id: str, *, v: str | None = None) -> bytes:
        """A small copy: as the stored picture, at most 256 pixels a side."""
        answer: bytes = self.ask("GET /v1/pictures/{id}/thumbnail", {"id": id}, query={"v": v})
        return answer

    def picture_original(self, id: str, *, v: str | None = None) -> bytes:
        """The bytes as they were sent, as a file to save.

        404 `original_not_kept` unless `PICTOGLOT_KEEP_ORIGINALS` was set when they were: a copy that was kept
        of the same bytes in another picture is not given, because it would tell of that.
        """
        answer: bytes = self.ask("GET /v1/pictures/{id}/original", {"id": id}, query={"v": v})
        return answer

    def post_batch(self, body: BatchForm, *, fields: str | None = None) -> PictureOutcomes:
        """Add or replace up to 256 pictures: all that can be taken, whatever is wrong with the others.

        One after another where several have the same id. All that are not refused can be searched when the
        answer arrives. To send the same again changes nothing. `fields` chooses what each `picture` of the
        answer has.
        """
        answer: PictureOutcomes = self.ask("POST /v1/pictures/batch", body=body, form=True, query={"fields": fields})
        return answer

    def post_changes(self, body: PictureChanges) -> ChangeOutcomes:
        """Change up to 1,000 pictures in one transaction: tag them, move them to a collection, delete them, or
        bring back.

        `deleted: true` deletes them; `deleted: false` brings back, for a day, what was deleted, with captions
        and record. `kept` are those that were so already, `missing` those that there are not: to send the same
        again changes nothing.
        """
        answer: ChangeOutcomes = self.ask("POST /v1/pictures/changes", body=body)
        return answer

    def list_collections(self) -> Collections:
        """The collections that the key may see, by name, with the number of their pictures.

        503 `registry_unavailable` after six seconds, as a search with a filter.
        """
        answer: Collections = self.ask("GET /v1/collections")
        return answer

    def count_gallery(self, *, filter: str | None = None, collection: str | None = None) -> GalleryFacets:
        """Count pictures by month, newest first, and by folder, camera and collection, most first.

        Those that the filter leaves and the key may see; at most 1,200 of each. A month is that of `shown_at`,
        in UTC. 503 `registry_unavailable` after six seconds, as a search with a filter.
        """
        answer: GalleryFacets = self.ask("GET /v1/facets", query={"filter": filter, "collection": collection})
        return answer

    def get_limits(self) -> Limits:
        """Return what a picture may have: bytes and pixels. Some formats are read up to fewer pixels:
        docs/gallery.md.
        """
        answer: Limits = self.ask("GET /v1/limits")
        return answer

    def list_duplicates(
        self,
        *,
        min_score: float | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        filter: str | None = None,
        collection: str | None = None,
    ) -> Duplicates:
        """Groups of pictures that are nearly the same, among those that the filter leaves.

        A page looks at pictures for two seconds at most, so it may have fewer groups than `limit`, or none, and
        yet a `next_cursor`. Two pictures whose score is `min_score` or more are in one group at least, unless
        one has more than 100 such others: then only the nearest of these are seen, and the group says `more`.
        """
        answer: Duplicates = self.ask(
            "GET /v1/duplicates",
            query={
                "min_score": min_score,
                "limit": limit,
                "cursor": cursor,
                "filter": filter,
                "collection": collection,
            },
        )
        return answer

    def iterate_duplicates(
        self,
        *,
        min_score: float | None = None,
        limit: int | None = None,
        filter: str | None = None,
        collection: str | None = None,
    ) -> Iterator[DuplicateGroup]:
        """Yield the items of `list_duplicates`, page after page; `limit` of them at most, or all."""
        return self.iterate(
            "GET /v1/duplicates", {"min_score": min_score, "limit": limit, "filter": filter, "collection": collection}
        )

    def teach_language(self, body: LanguageForm, *, idempotency_key: str | None = None) -> SubmittedExpansion | DryRun:
        """Teach a language from a dataset, or only assess it: 202 with the expansion.

        One that was taught before is taught from its earlier datasets again, together with this one, unless
        that is to `replace` them.

        With `dry_run`, only 200 and the dataset's report. A dataset that looks wrong is refused with
        `dataset_doubted` unless it is `confirmed`. What is wrong with pairs has codes of its own,
        `pivot_not_served` and `pivot_text_empty`; an assessment without a held-out row is refused with
        `nothing_held_out`.
        """
        answer: SubmittedExpansion | DryRun = self.ask(
            "POST /v1/languages", body=body, form=True, headers={"Idempotency-Key": idempotency_key}
        )
        return answer

    def list_languages(self) -> Languages:
        """The languages that are served, that the base reads, that captions are in, or that were assessed.

        With a key that is bound to collections, `captions` counts those of their pictures.
        """
        answer: Languages = self.ask("GET /v1/languages")
        return answer

    def list_expansions(self, *, limit: int | None = None, cursor: str | None = None) -> ExpansionPage:
        """Expansions, newest first."""
        answer: ExpansionPage = self.ask("GET /v1/expansions", query={"limit": limit, "cursor": cursor})
        return answer

    def iterate_expansions(self, *, limit: int | None = None) -> Iterator[ExpansionItem]:
        """Yield the items of `list_expansions`, page after page; `limit` of them at most, or all."""
        return self.iterate("GET /v1/expansions", {"limit": limit})

    def get_expansion(self, id: str) -> ExpansionItem:
        """The current state of one expansion."""
        answer: ExpansionItem = self.ask("GET /v1/expansions/{id}", {"id": id})
        return answer

    def cancel_expansion(self, id: str) -> ExpansionItem:
        """Stop an expansion: at once when it is queued, within seconds when it runs."""
        answer: ExpansionItem = self.ask("POST /v1/expansions/{id}/cancel", {"id": id})
        return answer

    def suggest_languages(self, *, query: str, limit: int | None = None) -> SuggestedLanguages:
        """Suggest languages that a text may name: by tag, ISO 639-3, Glottocode, or name in any language; best
        first.

        A private tag (`x-…`) suggests itself.
        """
        answer: SuggestedLanguages = self.ask("GET /v1/languages/names", query={"query": query, "limit": limit})
        return answer

    def get_language(self, tag: str) -> LanguageDetail:
        """Describe one language, also one that nobody taught yet: as in the list, with its special letters.

        Until it is taught, a key that is bound to collections sees those of captions in them.
        """
        answer: LanguageDetail = self.ask("GET /v1/languages/{tag}", {"tag": tag})
        return answer

    def set_terms(self, tag: str, body: Terms) -> LanguageTerms | None:
        """Set the terms of a language, in place of those before; empty ones take them away: null.

        Terms that stand are changed by an administrator alone.
        """
        answer: LanguageTerms | None = self.ask("PUT /v1/languages/{tag}/terms", {"tag": tag}, body=body)
        return answer

    def list_words(self, tag: str, *, count: int | None = None) -> AskedWords:
        """List English words to ask a speaker for: those that name most of the pictures which have no word yet.

        First, where they are counted, words of searches that nobody taught, at most half of the list. The
        others are chosen by the base alone, without captions. What was taught or answered is not asked again.
        With a key that is bound to collections, only their pictures count. The first time, the base reads some
        thousand words: until it has, the answer is 503 `overloaded`.
        """
        answer: AskedWords = self.ask("GET /v1/languages/{tag}/words", {"tag": tag}, query={"count": count})
        return answer

    def keep_answers(self, tag: str, body: Answers) -> AnswerCounts:
        """Keep what a speaker answers, at once. A word that is sent again is corrected; what others answered
        stays.

        Without captions, the language has no word for it, and it is not asked again. Nothing is taught by this.
        """
        answer: AnswerCounts = self.ask("POST /v1/languages/{tag}/words", {"tag": tag}, body=body)
        return answer

    def list_wanted(self, tag: str, *, count: int | None = None, name: str | None = None) -> WantedPictures:
        """List pictures without a caption in a language, which this person (key and name) has not captioned yet.

        First those for which somebody else has proposed one.
        """
        answer: WantedPictures = self.ask(
            "GET /v1/languages/{tag}/captions/wanted", {"tag": tag}, query={"count": count, "name": name}
        )
        return answer

    def propose_caption(self, tag: str, body: CaptionProposal) -> ProposalResult:
        """Propose a caption for a picture; it becomes one when another person proposes the same, or a keeper
        accepts it.

        Punctuation and capital letters do not matter. Sent again by the same person, it is corrected.
        """
        answer: ProposalResult = self.ask("POST /v1/languages/{tag}/captions", {"tag": tag}, body=body)
        return answer

    def list_proposals(
        self, tag: str, *, accepted: Literal["true", "false"] | None = None, count: int | None = None
    ) -> ProposedCaptions:
        """List the proposals that wait, or those that were accepted: who wrote them, and when.

        A key that may only search is not told who.
        """
        answer: ProposedCaptions = self.ask(
            "GET /v1/languages/{tag}/captions", {"tag": tag}, query={"accepted": accepted, "count": count}
        )
        return answer

    def review_captions(self, tag: str, body: Review) -> ReviewResult:
        """Accept proposals as captions of their pictures, and delete others; those that do not wait are passed
        over.
        """
        answer: ReviewResult = self.ask("POST /v1/languages/{tag}/captions/review", {"tag": tag}, body=body)
        return answer

    def export_language(self, tag: str, *, sign: Literal["true", "false"] | None = None) -> bytes:
        """Send a taught language as a file, for any service with this base: its own rows and tokens, its test, its
        terms.

        It holds the held-out texts by which it is measured. With `sign`, it is signed by this data root's key.
        """
        answer: bytes = self.ask("GET /v1/languages/{tag}/file", {"tag": tag}, query={"sign": sign})
        return answer

    def import_language(
        self, body: ImportForm, *, idempotency_key: str | None = None
    ) -> SubmittedExpansion | LanguageFileItem:
        """Import a language from a file: 202 with the expansion, which measures it and serves it if it passes the
        gate.

        It is refused with `language_of_other_base` if it was taught for another base, with
        `language_file_changed` if it is not as it was made, else with `language_file_invalid`. Its terms become
        those of the language.
        """
        answer: SubmittedExpansion | LanguageFileItem = self.ask(
            "POST /v1/languages/import", body=body, form=True, headers={"Idempotency-Key": idempotency_key}
        )
        return answer

    def list_versions(self, *, limit: int | None = None, cursor: str | None = None) -> VersionPage:
        """Versions, newest first."""
        answer: VersionPage = self.ask("GET /v1/versions", query={"limit": limit, "cursor": cursor})
        return answer

    def iterate_versions(self, *, limit: int | None = None) -> Iterator[VersionItem]:
        """Yield the items of `list_versions`, page after page; `limit` of them at most, or all."""
        return self.iterate("GET /v1/versions", {"limit": limit})

    def get_version(self, number: int) -> VersionDetail:
        """One version with its manifest and hashes of its files; a base has the fingerprints of its towers."""
        answer: VersionDetail = self.ask("GET /v1/versions/{number}", {"number": number})
        return answer

    def get_report(self, number: int) -> VersionReport:
        """The evaluation of a version, promoted or not; `/versions/{number}/report` shows it as a page."""
        answer: VersionReport = self.ask("GET /v1/versions/{number}/report", {"number": number})
        return answer

    def list_datasets(self, number: int) -> Datasets:
        """The datasets that a version's language was taught from, oldest first.

        Taught again in this order, they make the language again. A base has none.
        """
        answer: Datasets = self.ask("GET /v1/versions/{number}/datasets", {"number": number})
        return answer

    def get_dataset(self, number: int, expansion: str) -> bytes:
        """One of these datasets, byte for byte as it was sent. 404 when it was pruned."""
        answer: bytes = self.ask(
            "GET /v1/versions/{number}/datasets/{expansion}", {"number": number, "expansion": expansion}
        )
        return answer

    def get_version_file(self, number: int, name: str) -> bytes:
        """A file of a version: `manifest.json`, or one that it names. 404 when they were pruned, and of a base."""
        answer: bytes = self.ask("GET /v1/versions/{number}/files/{name}", {"number": number, "name": name})
        return answer

    def roll_back(self, tag: str, body: RollbackRequest, *, idempotency_key: str | None = None) -> Rollback:
        """Roll a language back to its previous version, or remove it if it has none; other languages keep their
        versions.

        To make a retry safe, send `expected`, the release you have seen: if another one serves by now, the
        answer is 409 `alias_moved`. Or send an `Idempotency-Key`: a repeated request gets the first answer
        again.
        """
        answer: Rollback = self.ask(
            "POST /v1/admin/languages/{tag}/rollback",
            {"tag": tag},
            body=body,
            headers={"Idempotency-Key": idempotency_key},
        )
        return answer

    def withdraw_language(self, tag: str, body: WithdrawalRequest) -> LanguageWithdrawal:
        """Take a language away for good, with its versions, datasets, taught captions and answers; certify it.

        Files that another language was taught upon stay, and are listed. If this is interrupted, or answers
        503, send it again: it goes on. Refused while anything is queued or running.
        """
        answer: LanguageWithdrawal = self.ask("POST /v1/admin/languages/{tag}/withdraw", {"tag": tag}, body=body)
        return answer

    def get_withdrawal(self, tag: str) -> dict[str, Any]:
        """Return the certificate of the newest withdrawal of a language."""
        answer: dict[str, Any] = self.ask("GET /v1/admin/languages/{tag}/withdrawal", {"tag": tag})
        return answer

    def delete_contributions(self, tag: str, *, actor: str) -> None:
        """Delete for good what a key or person gave to a language: answers, rows that wait, proposed captions.

        `actor` is as in the audit log. What was taught of it is in datasets, and captions that were accepted
        belong to the pictures: both stay.
        """
        self.ask("DELETE /v1/admin/languages/{tag}/contributions", {"tag": tag}, query={"actor": actor})

    def list_releases(self, *, limit: int | None = None, cursor: str | None = None) -> ReleasePage:
        """Releases, newest first: who made them, when and why, and what changed."""
        answer: ReleasePage = self.ask("GET /v1/admin/releases", query={"limit": limit, "cursor": cursor})
        return answer

    def iterate_releases(self, *, limit: int | None = None) -> Iterator[ReleaseItem]:
        """Yield the items of `list_releases`, page after page; `limit` of them at most, or all."""
        return self.iterate("GET /v1/admin/releases", {"limit": limit})

    def list_acts(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        actor: str | None = None,
        act: str | None = None,
        target: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> AuditPage:
        """List who changed what, newest first: of one key, one act (`PUT /v1/pictures/{id}`), one target, or a
        time.

        An entry is written in the transaction of the change; what was refused has none.
        """
        answer: AuditPage = self.ask(
            "GET /v1/admin/audit",
            query={
                "limit": limit,
                "cursor": cursor,
                "actor": actor,
                "act": act,
                "target": target,
                "since": since,
                "until": until,
            },
        )
        return answer

    def iterate_acts(
        self,
        *,
        limit: int | None = None,
        actor: str | None = None,
        act: str | None = None,
        target: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> Iterator[AuditItem]:
        """Yield the items of `list_acts`, page after page; `limit` of them at most, or all."""
        return self.iterate(
            "GET /v1/admin/audit",
            {"limit": limit, "actor": actor, "act": act, "target": target, "since": since, "until": until},
        )

    def restore(self, number: int, body: RestoreRequest) -> ReleaseItem:
        """Serve again what an earlier release served, if `expected` is the release that serves now."""
        answer: ReleaseItem = self.ask("POST /v1/admin/releases/{number}/restore", {"number": number}, body=body)
        return answer

    def prune(self, body: PruneRequest) -> PruneResult:
        """Remove the files and vectors of versions that no release in reach names; versions and releases stay
        listed.

        In reach are the `keep` newest releases, the version that one language would go back to from any of
        them, everything that a running expansion may use, and whatever is younger than the oldest of these
        releases. What was pruned cannot be restored. If this is interrupted, or answers 503, send it again: it
        goes on.
        """
        answer: PruneResult = self.ask("POST /v1/admin/prune", body=body)
        return answer

    def list_keys(self) -> Keys:
        """All keys without their secrets, newest first."""
        answer: Keys = self.ask("GET /v1/admin/keys")
        return answer

    def create_key(self, body: KeyRequest) -> NewKey:
        """Create a key; its text is shown only in this response."""
        answer: NewKey = self.ask("POST /v1/admin/keys", body=body)
        return answer

    def list_sessions(self) -> Sessions:
        """List the open sessions of browsers, newest first; `DELETE /v1/admin/keys/{id}` ends one."""
        answer: Sessions = self.ask("GET /v1/admin/sessions")
        return answer

    def revoke_key(self, id: str) -> None:
        """Revoke a key, or end a session: in this process at once, in other processes within five seconds."""
        self.ask("DELETE /v1/admin/keys/{id}", {"id": id})

    def verify_index(self) -> VerifyResult:
        """Hash every file of the served release again, and measure how many of the nearest pictures searches find.

        Files of pictures, datasets and versions that the registry names are looked for, not hashed.
        """
        answer: VerifyResult = self.ask("POST /v1/admin/index/verify")
        return answer

    def get_base(self) -> BaseStatus:
        """Which base serves, the newest move to another one with its comparison, and what the way back would do."""
        answer: BaseStatus = self.ask("GET /v1/admin/base")
        return answer

    def move_base(self, body: BaseMove, *, idempotency_key: str | None = None) -> SubmittedMove:
        """Make everything anew for another base or encoding, beside what serves, and then serve that by one
        release.

        202 with the expansion; with `dry_run` only what it takes. It ends with `gate_failed` when a language
        would lose more than the forgetting budget, unless it is forced. Refused while anything else is queued
        or running.
        """
        answer: SubmittedMove = self.ask("POST /v1/admin/base", body=body, headers={"Idempotency-Key": idempotency_key})
        return answer

    def undo_base(self, body: BaseUndo) -> BaseUndoResult:
        """Serve the base or encoding before this one again, as its last release did; each process opens it beside.

        Languages that were learned on this base alone are no longer served. Done twice, it leads back.
        """
        answer: BaseUndoResult = self.ask("POST /v1/admin/base/undo", body=body)
        return answer

    def alive(self) -> Live:
        """Whether the process answers."""
        answer: Live = self.ask("GET /livez")
        return answer

    def ready(self) -> Ready:
        """Whether a verified snapshot serves and searches are accepted; `degraded` lists what is wrong.

        Needs no key; with one that is not bound to collections it tells more.
        """
        answer: Ready = self.ask("GET /readyz")
        return answer

    def metrics(self) -> str:
        """Metrics for Prometheus: they name languages and routes.

        They need a key, but for `PICTOGLOT_ENVIRONMENT=local` on a loopback address.
        """
        answer: str = self.ask("GET /metrics")
        return answer

    def get_status(self) -> ServiceStatus:
        """Return what administrators look at: what is served, what is wrong, space, queues, the newest backup."""
        answer: ServiceStatus = self.ask("GET /v1/admin/status")
        return answer

    def describe_caller(self) -> CallerStatus:
        """Tell who sends this: by a key, a proxy or a session, and what that allows. Needs no key."""
        answer: CallerStatus = self.ask("GET /session")
        return answer

    def remember_key(self) -> CallerStatus:
        """Let this browser remember the key that comes with this, in a cookie that no script can read."""
        answer: CallerStatus = self.ask("POST /session")
        return answer

    def sign_out(self) -> None:
        """End the session of this browser; without one, nothing happens."""
        self.ask("DELETE /session")
