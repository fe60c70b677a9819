"""Languages as files."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.schemas.common import Flag, RequestBody, Response, make_flag
from service.schemas.terms import Line, Terms

_Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=0, le=1_000_000)]


class ImportForm(RequestBody):
    """Fields sent with the `file` of a language."""

    dry_run: Flag = make_flag("Only say what is in the file.")
    force: Flag = make_flag("Serve the language even if it is read worse than before; this is recorded.")


class _Written(BaseModel):
    """A part of a manifest, which any program may have written; what else it has is left alone."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class _Shares(_Written):
    at_1: _Share = Field(alias="R@1")
    at_5: _Share = Field(alias="R@5")
    at_10: _Share = Field(alias="R@10")


class Figures(_Written):
    """What a file says of held-out captions."""

    against: Literal["pictures", "english", "pivots", "words"]
    pairs: _Count
    candidates: Annotated[_Count, Field(ge=1)]
    truncated: _Share
    t2i: _Shares
    i2t: _Shares


class MeasuredThere(Figures):
    """What a file says of held-out captions, and of taught words."""

    in_sample: Figures | None = None


class Manifest(_Written):
    """What a file says of its language."""

    language: Annotated[str, StringConstraints(max_length=100)]
    base: Line
    learned_at: datetime
    rows: _Count
    terms: Terms = Terms()
    report: dict[str, Any]


class Letters(_Written):
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
