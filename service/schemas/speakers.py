"""What speakers give: words that they are asked for, and captions that they propose for pictures."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from service.schemas.common import RequestBody, Response
from service.schemas.terms import Line
from service.values import Finite, PictureId

_Ids = Annotated[list[Annotated[int, Field(ge=1, lt=1 << 31)]], Field(max_length=500)]


class AskedWord(Response):
    """A word to ask a speaker for; or a `word` of searches that nobody taught, to ask what it is in English."""

    english: str = Field(description="Empty where a `word` is asked about.")
    word: str | None = Field(None, description="A word of searches in the language that was not understood.")
    pictures: list[str] = Field(description="Ids of at most three pictures that show it, the nearest first.")
    asked_for: int = Field(0, description="In how many searches the `word` was.")


class Kept(Response):
    """How much is kept of a language."""

    answered: int = Field(description="Captions in all answers.")
    needed: int = Field(description="With so many it can be taught.")


class AskedWords(Kept):
    items: list[AskedWord]
    covered: Finite | None = Field(
        description="Share of the pictures that have a word already; null where there are none."
    )


class Answer(RequestBody):
    """What a word is called in the language, in one or several ways; without `captions`, it has no word for it."""

    english: Annotated[str, Field(min_length=1, max_length=200)]
    captions: Annotated[list[str], Field(max_length=16)]


class Answers(RequestBody):
    words: Annotated[list[Answer], Field(min_length=1, max_length=500)]


class ProposedCaption(Response):
    """A caption that waits, or was accepted: who wrote it, and when."""

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


class Proposed(CaptionCounts):
    accepted: bool = Field(description="Two have agreed: it is a caption of the picture now.")


class Review(RequestBody):
    """What a keeper accepts, and what not, by id."""

    accept: _Ids = Field(default=[])
    reject: _Ids = Field(default=[])


class Reviewed(CaptionCounts):
    accepted: int
