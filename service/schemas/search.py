"""Searches and embeddings."""

from operator import not_
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, SkipValidation

from index.ranking import DEEPEST_RANK
from service.schemas import (
    CaptionLanguages,
    Captions,
    Cursor,
    FacetKeys,
    Facets,
    Finite,
    ItemWithFields,
    Limit,
    OneOrMore,
    PictureId,
    Problem,
    RequestBody,
    Response,
    Tags,
)
from service.schemas.speakers import TermsInBrief
from store.errors import PageTooDeep

_FILTER = "As Qdrant's: `must`, `should`, `must_not` of conditions with `key` and `match` or `range`."
_CAPTION_FILTER = f"Only captions of pictures that it leaves. {_FILTER}"
_FACETS = "Keys whose values are counted among the pictures that the filter leaves."
_CURSOR = f"`next_cursor` of the page before. Beyond rank {DEEPEST_RANK:,} there is no page: 422 `{PageTooDeep.code}`."
_MOST_SEARCHES = 100  # in one request

Weight = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Mode = Literal["meaning", "words", "both"]


class Minus(RequestBody):
    """What the pictures should not be like: a text, a picture of the gallery, or both."""

    text: str | None = None
    picture: PictureId | None = None


class Weights(RequestBody):
    """How much each part of a search counts: from 0, which is not at all, to 100."""

    text: Weight = 1.0
    picture: Weight = 1.0
    minus_text: Weight = 0.5
    minus_picture: Weight = 0.5
    meaning: Weight = 1.0
    words: Weight = 1.0


_MODE = (
    "`meaning`: by what pictures show. `words`: pictures that have words of the text in captions, tags or metadata. "
    "`both`: first what is called so, then what has all the words, then by meaning. Default: `both` for a text, "
    "`meaning` with a picture."
)
_MINUS = "What the pictures should not be like."


class PictureSearch(RequestBody):
    """Pictures for a text, like a picture of the gallery, or both; without what they should not be like.

    In a form `picture` is a file; `minus`, `weights` and `filter` are JSON; lists are repeated, as a JSON list or
    separated by commas. Without a text, `language` must be available, and only selects the language of the captions.
    """

    text: str | None = None
    picture: PictureId | None = Field(None, description="Pictures like this one, which is not among the hits.")
    minus: Minus | None = Field(None, description=_MINUS)
    weights: Weights | None = None
    mode: Mode | None = Field(None, description=_MODE)
    language: str = Field("auto", description="`auto`, `shared` or the tag of a learned language.")
    limit: Limit = 10
    min_score: Finite | None = None
    min_match: Finite | None = Field(None, ge=0, le=1, description="Least `match` of a hit.")
    cursor: Cursor | None = Field(None, description=_CURSOR)
    captions: CaptionLanguages | None = Field(
        None,
        description="Languages of the captions in the answer; default: the language used, and English. A search by "
        "words also sends, by default, the captions in other languages that have some of them.",
    )
    filter: Any = Field(None, description=_FILTER, json_schema_extra={"type": "object"})
    facets: FacetKeys | None = Field(None, description=_FACETS)


class CaptionSearch(RequestBody):
    """Captions for a picture in the gallery, or with a form for an uploaded one: fields as in a search there."""

    model_config = ConfigDict(json_schema_extra={"required": ["picture"]})  # of JSON, and as a file of a form

    picture: PictureId = Field(default_factory=str)
    languages: Tags | None = None
    limit: Limit = 10
    filter: Any = Field(None, description=_CAPTION_FILTER, json_schema_extra={"type": "object"})


class QueryLanguage(Response):
    requested: str
    used: str
    source: Literal["requested", "detected", "shared"]
    confidence: Finite | None
    terms: TermsInBrief | None = Field(
        None, exclude_if=not_, description="Of the language that read the text; left out where nothing was said."
    )


class PictureHit(ItemWithFields):
    """`collection`, `tags`, `metadata`, `etag`, `width` and `height` are null while the registry does not answer."""

    id: str
    score: Finite = Field(description="By what the hits are ordered: of the meaning, the words, or 0 to 1 for `both`.")
    meaning: Finite | None = Field(description="Cosine to what is meant; null where only words found it.")
    words: Finite | None = Field(description="Share of the words that it has, by their weight; null without any.")
    rank: int
    url: str
    captions: Captions
    match: Finite | None = Field(description="Chance that this is what the text means; null where it is not known.")
    likely: bool | None = Field(
        description="Whether it rather is what the text means than not: it has all its words, or a `match` of 0.5 or "
        "more. Such hits come first. null where that is not known."
    )
    collection: str | None
    tags: list[str] | None
    metadata: dict[str, Any] | None
    etag: str | None
    width: int | None = Field(description="Of the photograph in pixels, upright.")
    height: int | None


class PictureHits(Response):
    items: list[PictureHit]
    facets: Facets | None = Field(None, description="As asked for with `facets`.")
    language: QueryLanguage | None = Field(description="null in a search by picture.")
    version: int | None
    release: int
    generation: str
    truncated: bool
    warnings: list[str]
    unknown_words: list[str] = Field(
        description="Words of the text that no caption has and nobody taught; they are not read, unless all are such."
    )
    guessed_words: list[str] = Field(
        description="Words for people, places and events that the base does not know: what they find is a guess."
    )
    did_you_mean: dict[str, str] = Field(description="For unknown words, the nearest that is known.")
    below_min_match: int | None = Field(
        None, description="How many hits `min_match` left out of this page; without items: nothing matches well."
    )
    next_cursor: str | None
    timing_ms: Finite


class Searches(RequestBody):
    """Searches, each as `POST /v1/search/pictures` takes it as JSON; each is answered or refused on its own."""

    # not read here: one that is wrong must not refuse the others
    searches: list[SkipValidation[PictureSearch]] = Field(min_length=1, max_length=_MOST_SEARCHES)


class SearchAnswer(Response):
    """What `POST /v1/search/pictures` would answer: one of `answer` and `problem` is null."""

    status: int
    answer: PictureHits | None
    problem: Problem | None


class SearchAnswers(Response):
    """In the order of the searches, all of one release and one state of the vectors."""

    items: list[SearchAnswer]
    release: int
    timing_ms: Finite


class CaptionHit(Response):
    caption: str
    language: str
    score: Finite
    rank: int
    picture: str


class CaptionHits(Response):
    items: list[CaptionHit]
    release: int
    generations: dict[str, str]
    warnings: list[str]
    terms: dict[str, TermsInBrief] = Field(description="Of the languages of the hits that have any.")
    timing_ms: Finite


class EmbeddingsRequest(RequestBody):
    """OpenAI's format; `model` and `user` are accepted and have no effect."""

    model_config = ConfigDict(json_schema_extra={"required": ["input"]})  # of JSON; a form has a picture instead

    input: OneOrMore = Field(
        default_factory=list,
        description="Texts; one that begins with `data:image/` is a picture as a data URL in base64.",
    )
    model: str | None = None
    language: str = "auto"
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None


class Model(Response):
    """The base, as OpenAI describes a model, and what it reads."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When this data root was made with it, in seconds since 1970.")
    owned_by: Literal["pictoglot"] = "pictoglot"
    languages: list[str] = Field(description="Tags of what the base reads untaught; `mul`: many more, without a list.")
    taught: list[str] = Field(description="Tags of the languages that it was taught and that are served.")
    dimension: int
    inputs: tuple[Literal["text"], Literal["picture"]] = ("text", "picture")


class Models(Response):
    object: Literal["list"] = "list"
    data: list[Model]


class Embedding(Response):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[Finite] | str


class Usage(Response):
    prompt_tokens: int
    total_tokens: int


class Embeddings(Response):
    object: Literal["list"] = "list"
    data: list[Embedding]
    languages: list[str | None] = Field(
        description="By which each input was read: a tag, or `shared`; null: a picture."
    )
    model: str
    usage: Usage
