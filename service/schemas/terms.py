"""Terms of a language: whose it is, what is allowed, and the labels of its community."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from service.schemas.common import RequestBody, Response
from service.values import Note
from store.terms import TermsRow

_KINDS: dict[str, Literal["tk", "bc"]] = {"tk_labels": "tk", "bc_labels": "bc"}  # of a project of Local Contexts
_OWN = ("owner", "contact", "licence", "statement")
_ADDRESS = r"^https?://[^\s<>\"]+$"

Line = Annotated[str, StringConstraints(max_length=300, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Tag = Annotated[str, StringConstraints(max_length=35, pattern=r"^[A-Za-z0-9-]*$")]
Text = Annotated[Note, StringConstraints(max_length=5_000)]
Address = Annotated[str, StringConstraints(max_length=500, pattern=_ADDRESS)]


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
