"""Languages, expansions and versions."""

from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field, computed_field

from service.schemas import Finite, Flag, IndexRecall, Report, RequestBody, Response, make_flag
from service.schemas.speakers import LanguageTerms, Terms


class Recall(Response):
    """Fractions from 0 to 1; null where nothing was measured."""

    model_config = ConfigDict(extra="allow")

    at_1: Finite | None = Field(None, alias="R@1")
    at_5: Finite | None = Field(None, alias="R@5")
    at_10: Finite | None = Field(None, alias="R@10")


class Evaluation(Response):
    """The retrieval of a version on `pairs` held-out pairs, and the other results of its evaluation."""

    model_config = ConfigDict(extra="allow")

    t2i: Recall = Field(default_factory=Recall)
    i2t: Recall = Field(default_factory=Recall)
    pairs: int = 0


class Assessment(Response):
    """How well the base reads a language untaught, as it was measured last."""

    expansion: str
    at: datetime
    reads: bool = Field(description="Whether well enough that a taught version would be served.")
    sentence: str
    t2i: Recall
    i2t: Recall
    pairs: int


class LanguageItem(Response):
    language: str
    name: str
    native_name: str
    direction: Literal["ltr", "rtl"]
    version: int | None = Field(
        description="What reads its texts: a taught version, or that of the base. null: nothing, it was only assessed."
    )
    captions: int
    learned_at: datetime | None = Field(description="null of a language that was not taught, except English.")
    report: Evaluation
    taught: bool = Field(description="An expansion learned it.")
    built_in: bool = Field(description="The base reads it: its maker says so, or it was measured.")
    waiting: int = Field(0, description="Rows of datasets that were too small to teach it; from 64 on it is taught.")
    assessed: Assessment | None = Field(
        description="How well the base reads it untaught; null when nobody measured that."
    )
    terms: LanguageTerms | None = Field(description="Whose it is, and what they allow; null where nothing was said.")


class LanguageDetail(LanguageItem):
    letters: list[str] = Field(description="Letters of its texts that a plain keyboard lacks.")


class Languages(Response):
    items: list[LanguageItem]
    shared_version: int
    release: int


class TeachingSettings(RequestBody):
    """The settings of one expansion; each has a default."""

    epochs: int = Field(0, ge=0, le=1_000, description="0: chosen by the size of the dataset.")
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="null: 0.002 to 0.004, by the size of the dataset."
    )
    vocabulary: int = Field(10_000, ge=0, le=50_000, description="Maximum number of tokens added for the language.")
    seed: int = Field(0, ge=0, lt=1 << 31)


class LanguageForm(RequestBody):
    """Fields sent with the file `dataset`; `settings` is JSON."""

    language: str
    settings: TeachingSettings = Field(
        TeachingSettings(), description="Any of `epochs`, `learning_rate`, `vocabulary`, `seed`."
    )
    kind: Literal["captions", "dictionary"] = Field(
        "captions",
        description='A dictionary has an entry in each line, `{"word": "Apfel", "glosses": ["apple"]}`, and if it is '
        "known the part of speech `pos` and other `forms`; what is taught of it is chosen.",
    )
    terms: Terms | None = Field(
        None,
        description="Whose language it is, and what they allow, as `PUT /v1/languages/{tag}/terms` takes it; left out: "
        "as it is.",
    )
    pivot: str | None = Field(None, description="The language of the glosses in a dictionary; left out: English.")
    dry_run: Flag = "false"
    assess: Flag = make_flag("Measure how well the language is read already, and teach nothing.")
    force: Flag = make_flag("Serve the language even if it is read worse than before; this is recorded.")
    without_missing: Flag = make_flag(
        "Pictures that are not in the gallery are left out, and their rows too, unless they have another "
        "text. Otherwise the dataset is refused for them."
    )
    replace: Flag = make_flag("Teach from this dataset alone, without those that the language was taught from before.")
    confirmed: Flag = make_flag(
        "Teach the dataset although there are `doubts` about it: a person said that it is right."
    )
    swap: Flag = make_flag("Take the captions for the texts beside them, and these for captions.")
    words: Flag = make_flag(
        "In place of a file: teach from the answers that `POST /v1/languages/{tag}/words` has kept. They "
        "take the place of those taught before."
    )
    captions: Flag = make_flag(
        "In place of a file: teach from the captions of pictures in the language, those that came with "
        "pictures and those that were accepted. They take the place of those taught like this before."
    )


class ShownRow(Response):
    """A row as a person sees it."""

    line: int
    caption: str
    text: str | None = Field(description="What stands beside the caption; null where that is a picture alone.")
    language: str | None = Field(description="Of the `text`.")


class Doubt(Response):
    """What may be wrong with a dataset."""

    code: Literal["columns_swapped", "other_language", "pairs_unrelated"]
    detail: str
    rows: list[ShownRow] = Field(description="The first five for which it is so.")
    expected: str | None = Field(None, description="The language that texts should be in, where they seem not to be.")
    found: str | None = Field(None, description="The one that they seem to be in; null: none that is known.")


class ExpansionError(Response):
    code: str
    detail: str


class ExpansionItem(Response):
    id: str
    kind: Literal["learn", "assess", "import", "rebuild", "base"]
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
    doubts: list[Doubt] = Field(description="About its dataset; a person has confirmed it all the same.")


class SubmittedExpansion(Response):
    expansion: ExpansionItem


class EarlierDatasets(Response):
    """What a language was taught from before: taught again beside a new dataset, or replaced by it."""

    datasets: int
    rows: int = Field(description="Total rows, counting duplicates across datasets.")


class WaitingCounts(Response):
    """Rows of a language that are too few to teach it; the next dataset joins them."""

    rows: int
    needed: int


class DryRun(Response):
    """What a dataset holds, of which nothing is taught now: it was a dry run, or there are too few rows."""

    dry_run: bool = True
    language: str
    waiting: WaitingCounts | None = Field(
        description="Set where there are too few rows to teach the language. Unless this was a dry run they are kept."
    )
    report: Report
    doubts: list[Doubt] = Field(description="With any, it is taught only if it is sent with `confirmed=true`.")
    sample: list[ShownRow] = Field(description="The first five rows of what was sent.")
    joined: EarlierDatasets | None = Field(
        description="What would be taught again; null: this dataset would be taught alone."
    )
    replaced: EarlierDatasets | None = Field(description="With `replace`: whose place the dataset would take.")


class ExpansionPage(Response):
    items: list[ExpansionItem]
    next_cursor: str | None


class VersionItem(Response):
    number: int
    parent: int | None
    language: str
    expansion: str | None
    manifest_sha256: str | None
    rows: int
    bytes: int
    report: Evaluation
    created_at: datetime
    pruned_at: datetime | None = Field(description="When it was pruned: it cannot serve any more.")

    @computed_field(description="The page of the report; as JSON it is at `/v1/versions/{number}/report`.")  # type: ignore[prop-decorator]
    @property
    def report_page(self) -> str:
        return f"/versions/{self.number}/report"


class VersionDetail(VersionItem):
    manifest: Report | None
    digests: dict[str, str] = Field(description="sha256 by file; of version 0, the fingerprints of the base's towers.")


class DatasetItem(Response):
    """A dataset that a language was taught from, by the expansion that it came with."""

    expansion: str
    created_at: datetime
    settings: Report = Field(description="Those that were sent with it, as `POST /v1/languages` takes them.")
    pivot: str | None = Field(description="Of a dictionary, the language of its glosses; null of captions.")
    sha256: str | None
    bytes: int | None
    kept: bool = Field(description="false: it was pruned.")
    imported: bool = Field(description="It is a language file, for `POST /v1/languages/import`.")
    terms: LanguageTerms | None = Field(description="Those of the language when it was sent.")


class Datasets(Response):
    items: list[DatasetItem]


class VersionPage(Response):
    items: list[VersionItem]
    next_cursor: str | None


class ChainStep(Response):
    """AA and F of the shared table after one version; null where its report does not contain them."""

    version: int
    language: str
    AA: Finite | None
    F: Finite | None


class MatchBin(Response):
    """First hits of about the same chance: its mean, and the share that was right."""

    chance: Finite
    right: Finite
    count: int


class MatchQuality(Response):
    """How right the chances of hits are (`match`), on texts that they were not fitted to.

    At `min_match` 0.5: `kept` is the share of right first hits, `found` of the texts that keep a right hit at all, and
    `absent` of the texts that keep nothing once what they mean is taken out of the gallery.
    """

    measured_at: datetime
    captions: int
    pictures: int = Field(description="In the gallery when it was measured.")
    reason: Literal["few_captions", "few_pictures"] | None = Field(None, description="Why hits have no `match`.")
    error: Finite | None = Field(None, description="Expected calibration error of first hits.")
    by_chance: Finite | None = Field(None, description="What it would be on as many texts if every chance were right.")
    error_all: Finite | None = Field(None, description="Expected calibration error of the first ten hits.")
    kept: Finite | None = None
    found: Finite | None = None
    absent: Finite | None = None
    near: str | None = Field(None, description="The language on whose curves it leans where it has few captions.")
    texts: int = Field(
        0,
        description="Held-out captions without pictures that it follows from: how far they are from what they mean "
        "says what the `captions`, English ones, would find in this language. 0: it is measured.",
    )
    bins: list[MatchBin] = Field(default_factory=list)


class VersionReport(Response):
    """The full evaluation of a version, and what became of it."""

    version: int
    parent: int | None
    language: str
    name: str
    native_name: str
    direction: Literal["ltr", "rtl"]
    created_at: datetime
    expansion: str | None
    state: str | None = Field(description="Of the expansion: `failed` when the gate refused the version.")
    error: ExpansionError | None
    moved: bool | None = Field(description="Whether the shared table moved to it; null while this is undecided.")
    terms: LanguageTerms | None = Field(description="Those of the language when the version was made.")
    chain: list[ChainStep] = Field(description="The versions it builds upon, oldest first, and itself.")
    match: MatchQuality | None = Field(description="null until a worker has measured it, as it does once it serves.")
    index: IndexRecall | None = Field(
        description="R@10 of the index that serves, against an exact scan, with texts; null while there is no picture."
    )
    report: Evaluation


class SuggestedLanguage(Response):
    """A language that a text may name."""

    language: str = Field(description="Its tag.")
    name: str
    native_name: str
    direction: Literal["ltr", "rtl"]
    matched: str = Field(description="The name or tag that is like the text; names are in small letters.")
    iso639_3: str | None = Field(description="Its code of ISO 639-3; null if it has none.")
    glottocode: str | None = Field(description="That of Glottolog; null where it has none, as for several at once.")
    served: bool


class SuggestedLanguages(Response):
    items: list[SuggestedLanguage]
