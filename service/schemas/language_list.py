"""One language: its tag by its name."""

from typing import Literal

from pydantic import Field

from service.schemas.common import Response


class SuggestedLanguage(Response):
    """A language that a text may name."""

    language: str = Field(description="Its tag.")
    name: str
    native_name: str
    direction: Literal["ltr", "rtl"]
    matched: str = Field(description="The name or tag that is like the text; names are in small letters.")
    iso639_3: str | None = Field(description="Its code of ISO 639-3; null if it has none.")
    served: bool


class SuggestedLanguages(Response):
    items: list[SuggestedLanguage]
