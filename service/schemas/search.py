"""Searches and embeddings."""

from typing import Annotated, Literal

from pydantic import Field

from service.schemas.common import Answer, Asked, Captions, Filled
from service.values import Cursor, Finite, Limit, PictureId, Tags, TextLimit, TextNumber


class PictureSearch(Asked):
    """Pictures for a text."""

    text: str
    language: str = Field("auto", description="`auto`, `shared` or the tag of a learned language.")
    limit: Limit = 10
    min_score: Finite | None = None
    cursor: Cursor | None = None


class SimilarPictures(Filled):
    """Pictures like an uploaded one; a `language` has to be served, and has no effect."""

    language: str = "auto"
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
