"""What belongs to the speakers of a language: its terms, words and captions that they give, the language as a file."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from service.schemas import Finite, Flag, Note, PictureId, RequestBody, Response, make_flag
from store.speakers import TermsRow

_KINDS: dict[str, Literal["tk", "bc"]] = {"tk_labels": "tk", "bc_labels": "bc"}  # of a project of Local Contexts
_OWN = ("owner", "contact", "licence", "statement")
_ADDRESS = r"^https?://[^\s<>\"]+$"

Line = Annotated[str, StringConstraints(max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Tag = Annotated[str, StringConstraints(max_length=35, pattern=r"^[A-Za-z0-9-]*$")]
Text = Annotated[Note, StringConstraints(max_length=5_000)]
Address = Annotated[str, StringConstraints(max_length=500, pattern=_ADDRESS)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=0, le=1_000_000)]
_Ids = Annotated[list[Annotated[int, Field(ge=1, lt=1 << 31)]], Field(max_length=500)]


class Translation(RequestBody):
    """The name and the text of a label in another language."""

    language: Tag
    name: Line = ""
    text: Text = ""


class Label(RequestBody):
    """A Traditional Knowledge (`tk`) or Biocultural (`bc`) label, with the text that its community gave it."""

    kind: Literal["tk", "bc"]
    name: Annotated[Line, Field(min_length=1)]
    text: Text = ""
    language: Tag = Field("", description="Of name and text.")
    community: Line = ""
    url: Address | None = None
    translations: list[Translation] = Field(default=[], max_length=32)


class Terms(RequestBody):
    """What a community says of its language; all of it is optional.

    A project of Local Contexts' hub, as JSON with `tk_labels` and `bc_labels`, is read as its labels.
    """

    owner: Line = ""
    contact: Line = ""
    licence: Line = Field("", description="An SPDX identifier, a name or an address.")
    statement: Text = ""
    labels: list[Label] = Field(default=[], max_length=64)

    @model_validator(mode="before")
    @classmethod
    def read_project(cls, value: Any) -> Any:
        """Return a project of Local Contexts as terms, with what else stands in the place of terms; others as given."""
        if not isinstance(value, dict) or not _KINDS.keys() & value.keys():
            return value
        lists = ((kind, value.get(name) or []) for name, kind in _KINDS.items())
        labels = [_read_label(kind, each) for kind, entries in lists if isinstance(entries, list) for each in entries]
        return {**{name: value[name] for name in _OWN if name in value}, "labels": labels}

    def pack(self) -> dict[str, object]:
        """Return terms as they are stored: without what is empty."""
        return self.model_dump(exclude_defaults=True)


class LanguageTerms(Response):
    """The terms that a language has, or that it had when a dataset was sent or a version was made."""

    owner: str
    contact: str
    licence: str
    statement: str
    labels: list[Label]
    set_at: datetime

    @classmethod
    def describe(cls, stored: TermsRow | None) -> "LanguageTerms | None":
        """Describe stored terms; None without any."""
        if stored is None or not stored.terms:
            return None
        return cls(**Terms.model_validate(stored.terms).model_dump(), set_at=stored.set_at)


class LabelName(Response):
    kind: Literal["tk", "bc"]
    name: str


class TermsInBrief(Response):
    """The terms of a language that was searched; `GET /v1/languages/{tag}` has the texts of its labels, too."""

    owner: str
    contact: str
    licence: str
    statement: str
    labels: list[LabelName]


def _read_label(kind: Literal["tk", "bc"], label: Any) -> Any:
    """Return a label of Local Contexts as one of ours; what is no label is left to the model to refuse."""
    if not isinstance(label, dict):
        return label
    community, translations = label.get("community"), label.get("translations")
    pairs = {
        "name": label.get("name"),
        "text": label.get("label_text") or label.get("default_text"),
        "language": label.get("language_tag"),
        "community": community.get("name") if isinstance(community, dict) else community,
        "url": label.get("label_page"),
    }
    return {
        "kind": kind,
        **{name: value for name, value in pairs.items() if value},
        "translations": [
            {"language": each.get("language_tag"), "name": each.get("translated_name") or "",
             "text": each.get("translated_text") or ""}
            for each in (translations if isinstance(translations, list) else [])
            if isinstance(each, dict) and each.get("language_tag")
        ],
    }  # fmt: skip


class ImportForm(RequestBody):
    """Fields sent with the `file` of a language."""

    dry_run: Flag = make_flag("Only say what is in the file.")
    force: Flag = make_flag("Serve the language even if it is read worse than before; this is recorded.")


class _ManifestPart(BaseModel):
    """A part of a manifest, which any program may have written; what else it has is left alone."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class _Shares(_ManifestPart):
    at_1: _Share = Field(alias="R@1")
    at_5: _Share = Field(alias="R@5")
    at_10: _Share = Field(alias="R@10")


class Figures(_ManifestPart):
    """What a file says of held-out captions."""

    against: Literal["pictures", "english", "pivots", "words"]
    pairs: _Count
    candidates: Annotated[_Count, Field(ge=1)]
    truncated: _Share
    t2i: _Shares
    i2t: _Shares


class StatedEvaluation(Figures):
    """What a file says of held-out captions, and of taught words."""

    in_sample: Figures | None = None


class LanguageManifest(_ManifestPart):
    """What a file says of its language."""

    language: Annotated[str, StringConstraints(max_length=100)]
    base: Line
    learned_at: datetime
    rows: _Count
    terms: Terms = Terms()
    report: dict[str, Any]


class Letters(_ManifestPart):
    letters: list[Annotated[str, StringConstraints(max_length=8)]] = Field(default=[], max_length=300)


class LanguageFileItem(Response):
    """What is in a file; nothing was imported."""

    dry_run: bool = True
    language: str
    name: str
    base: str
    learned_at: datetime
    rows: int
    bytes: int
    terms: Terms | None = Field(description="Those of its language, which come with it; null where nothing was said.")
    signer: str | None = Field(description="The public key of who signed it, in base64; null where nobody did.")
    pairs: int = Field(description="Held-out pairs by which it was measured where it was taught.")
    recall: float | None = Field(description="R@10 of texts there; null where nothing was measured.")


class AskedWord(Response):
    """A word to ask a speaker for; or a `word` of searches that nobody taught, to ask what it is in English."""

    english: str = Field(description="Empty where a `word` is asked about.")
    word: str | None = Field(None, description="A word of searches in the language that was not understood.")
    pictures: list[str] = Field(description="Ids of at most three pictures that show it, the nearest first.")
    asked_for: int = Field(0, description="In how many searches the `word` was.")


class AnswerCounts(Response):
    """How much is kept of a language."""

    answered: int = Field(description="Captions in all answers.")
    needed: int = Field(description="With so many it can be taught.")


class AskedWords(AnswerCounts):
    items: list[AskedWord]
    covered: Finite | None = Field(
        description="Share of the pictures that have a word already; null where there are none."
    )


class Answer(RequestBody):
    """What a word is called in the language, in one or several ways; without `captions`, it has no word for it."""

    english: Annotated[str, Field(min_length=1, max_length=200)]
    captions: Annotated[list[str], Field(max_length=16)]
    more: bool = Field(
        default=False, description="Keep the captions beside what the same key answered before, not in its place."
    )


class Answers(RequestBody):
    words: Annotated[list[Answer], Field(min_length=1, max_length=500)]


class ProposedCaption(Response):
    """A caption that waits, or was accepted: when, and who wrote it, unless the caller may only search."""

    id: int
    picture: str
    text: str
    name: str = Field(description="As it was given; empty if none was.")
    label: str = Field(description="Of the key.")
    proposed_at: datetime
    accepted_at: datetime | None
    accepted_by: str | None = Field(description="The id of the key of the keeper, or of the second who agreed.")


class ProposedCaptions(Response):
    """The newest first."""

    items: list[ProposedCaption]


class WantedPicture(Response):
    """A picture without a caption in the language, and what others propose for it."""

    picture: str
    proposals: list[ProposedCaption]


class CaptionCounts(Response):
    """How much there is of a language."""

    captions: int = Field(description="Accepted, or come with the pictures; counted up to `needed`.")
    needed: int = Field(description="With so many it can be taught.")


class WantedPictures(CaptionCounts):
    items: list[WantedPicture]


class CaptionProposal(RequestBody):
    """What a person calls a picture; the same text as another person's is agreement."""

    picture: PictureId
    text: Annotated[str, Field(min_length=1, max_length=4_000)]
    name: Line = ""


class ProposalResult(CaptionCounts):
    accepted: bool = Field(description="Two have agreed: it is a caption of the picture now.")


class Review(RequestBody):
    """What a keeper accepts, and what not, by id."""

    accept: _Ids = Field(default=[])
    reject: _Ids = Field(default=[])


class ReviewResult(CaptionCounts):
    accepted: int
