"""Words that a gallery asks for, and what speakers answer."""

from typing import Annotated

from pydantic import Field

from service.schemas.common import RequestBody, Response
from service.values import Finite


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
