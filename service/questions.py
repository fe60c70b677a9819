"""What a search for pictures asks: read from JSON or a form, checked, and turned into one vector. Searches nothing."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from anyio import to_thread
from fastapi import Request

from index.filters import Filter, parsed
from index.selection import Left, Wanted
from index.snapshot import AUTO, SHARED, Route, Snapshot
from index.vectors import Vector
from model import words
from model.calibration import Calibration
from model.text import clean
from service import bodies, records
from service.auth import Principal
from service.bodies import unless_client_leaves
from service.context import Context
from service.forms import picture_of
from service.schemas import search as schemas
from store.errors import FieldError, InvalidInput, PictureNotFound

_ENGLISH = "en"
_NOTHING_LEFT = 1e-3  # length of a sum of unit vectors below which only rounding is left


@dataclass(frozen=True)
class Question:
    """A search as it was asked: texts are cleaned, its parts fit together.

    `route` reads its texts, or is None when it has none or searches words alone. `uploaded` is the vector of a picture
    that came with it, `content` the hash of that.
    """

    body: schemas.PictureSearch | schemas.SimilarPictures
    mode: Literal["meaning", "words", "both"]
    text: str | None
    picture: str | None
    minus_text: str | None
    minus_picture: str | None
    weights: schemas.Weights
    route: Route | None
    captions: list[str]  # the languages whose captions come with each picture
    filter: Filter | None
    uploaded: Vector | None = None
    content: str | None = None

    @property
    def pictures(self) -> frozenset[str]:
        """The pictures of the gallery that it names: they are not among its hits."""
        return frozenset(filter(None, (self.picture, self.minus_picture)))

    @property
    def terms(self) -> list[str]:
        """The words for which captions come in whatever language they are; none where the languages were chosen."""
        if self.mode == "meaning" or self.text is None or self.body.captions is not None:
            return []
        return words.asked(self.text)

    @property
    def identity(self) -> list[object]:
        """What a cursor is valid for, beside the filter."""
        said = [self.mode, self.text, self.picture, self.minus_text, self.minus_picture, self.weights.model_dump()]
        return ["question", *said, self.content, self.body.language, self.body.min_score, self.min_match]

    @property
    def min_match(self) -> float | None:
        """The least chance of a hit that was asked for; a form has none."""
        return self.body.min_match if isinstance(self.body, schemas.PictureSearch) else None

    def calibration(self, snapshot: Snapshot, caller: Principal) -> Calibration | None:
        """How the chances of its hits are told among all pictures; None where they are not known.

        They are known of a text alone that is searched by its meaning: held-out captions were asked like that. A bound
        key is told none: they were measured with the pictures of all collections.
        """
        if caller.collections is not None:
            return None
        text_alone = self.text is not None and not (self.pictures or self.content or self.minus_text)
        if self.route is None or self.mode != "meaning" or not text_alone:
            return None
        return snapshot.calibration(self.route)


@dataclass(frozen=True)
class Meant:
    """A question as a unit vector (None when words alone are searched), and whether a text was truncated for it."""

    vector: Vector | None = None
    truncated: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)  # of the encoding, by part of the work

    @property
    def digest(self) -> str | None:
        """Names the vector: a picture that is named may get another content."""
        return None if self.vector is None else hashlib.sha256(self.vector.tobytes()).hexdigest()[:16]


def asked(body: schemas.PictureSearch, snapshot: Snapshot, place: str = "body") -> Question:
    """The question in JSON at a place of a body; raises `InvalidInput`, `InvalidFilter`, and as `Snapshot.route`."""
    filter = filter_of(body.filter, place)
    return _question(body, body.picture, body.minus, body.weights, filter, snapshot, place)


def filter_of(given: Any, place: str = "body") -> Filter | None:
    """The filter of a JSON body; raises `InvalidFilter`."""
    return None if given is None else parsed(given, f"{place}.filter")


async def read(request: Request, context: Context, snapshot: Snapshot) -> Question:
    """The question in a request, with an uploaded picture encoded."""
    if bodies.media_type(request) != bodies.MULTIPART:
        question = asked(await bodies.read_json(request, schemas.PictureSearch), snapshot)
        request.state.parts.end("read")
        return question
    with context.pictures.searches.place():
        data, form = await picture_of(request, context)
        body = form.parse(schemas.SimilarPictures, lists=("captions", "facets"))
        minus = _part(schemas.Minus, body.minus, "minus")
        weights = _part(schemas.Weights, body.weights, "weights")
        filter = records.filter_in_form(body.filter)
        question = _question(body, None, minus, weights, filter, snapshot, uploaded=True)
        request.state.parts.end("read")
        vector = await unless_client_leaves(request, context.pictures.encode(data))
    request.state.parts.end("picture")
    return replace(question, uploaded=vector, content=hashlib.sha256(data).hexdigest())


def _question(
    body: schemas.PictureSearch | schemas.SimilarPictures,
    picture: str | None,
    minus: schemas.Minus | None,
    weights: schemas.Weights | None,
    filter: Filter | None,
    snapshot: Snapshot,
    place: str = "body",
    *,
    uploaded: bool = False,
) -> Question:
    text, minus, weights = _cleaned(body.text), minus or schemas.Minus(), weights or schemas.Weights()
    minus_text = _cleaned(minus.text)
    by_picture = picture is not None or uploaded
    if text is None and not by_picture:
        raise _refusal("say what to search for: `text`, `picture` or both", f"{place}.text", "missing")
    if body.mode != "meaning" and text is None:
        raise _refusal("words are searched for a text", f"{place}.text", "missing")
    if body.mode == "words" and (by_picture or minus.picture is not None):
        raise _refusal("a picture has no words: use the mode `both`", f"{place}.mode", "words_of_a_picture")
    if not (weights.text if text is not None else 0) + (weights.picture if by_picture else 0) > 0:
        raise _refusal("not all of what is searched for can weigh nothing", f"{place}.weights", "all_zero")
    if body.mode == "both" and not weights.meaning + weights.words > 0:
        raise _refusal("meaning and words cannot both weigh nothing", f"{place}.weights", "all_zero")
    read = text or minus_text
    route = None if read is None or body.mode == "words" else snapshot.route(body.language, read)
    # without a text the language only selects the captions
    shown = route.used if route else body.language
    shown = shown if shown in (AUTO, SHARED) else snapshot.readable(shown)
    captions = _captions(body.captions, shown, snapshot)
    named = (text, picture, minus_text, minus.picture)
    return Question(body, body.mode, *named, weights, route, captions, filter)


async def meant(question: Question, snapshot: Snapshot, context: Context, caller: Principal) -> Meant:
    """The vector of a question: the weighted sum of what it names. Raises `PictureNotFound` and as the queues do."""
    if question.mode == "words":
        return Meant()
    weights, parts = question.weights, list[tuple[float, Vector]]()
    texts = [text for text in (question.text, question.minus_text) if text is not None]
    queries = await context.texts.encode(question.route.view, texts) if question.route else []
    by_text = dict(zip(texts, queries, strict=True))
    if question.text is not None:
        parts.append((weights.text, by_text[question.text].vector))
    if question.uploaded is not None:
        parts.append((weights.picture, question.uploaded))
    for picture, weight in ((question.picture, weights.picture), (question.minus_picture, -weights.minus_picture)):
        if picture is not None:
            parts.append((weight, await vector_of(picture, snapshot, context, caller)))
    if question.minus_text is not None:
        parts.append((-weights.minus_text, by_text[question.minus_text].vector))
    seconds = queries[0].seconds if queries else {}
    return Meant(_sum(parts), any(query.truncated for query in queries), seconds)


async def among(
    calibration: Calibration | None, left: Left | None, wanted: Wanted, context: Context
) -> tuple[Calibration | None, Left | None]:
    """How chances are told among what is left, None where too little is, and what is left; raises as `Filtering.left`.

    That is read anew if it depends on keys that may be of pictures which are gone.
    """
    if calibration is None or left is None:
        return calibration, left
    if calibration.holds_among(len(left.keys)) and not calibration.holds_among(left.surely):
        left = await context.filtering.left(wanted, anew=True) or left
    return calibration if calibration.holds_among(len(left.keys)) else None, left


def _sum(parts: list[tuple[float, Vector]]) -> Vector:
    """Of unit length; a single part is left as it is, to the bit."""
    used = [(weight, vector) for weight, vector in parts if weight]
    if len(used) == 1:
        return used[0][1]
    total = np.sum([weight * vector.astype(np.float64) for weight, vector in used], axis=0)
    length = float(np.linalg.norm(total))
    if length < _NOTHING_LEFT * max(abs(weight) for weight, _ in used):
        raise _refusal("what is searched for and `minus` are the same", "body.minus", "nothing_left")
    unit: Vector = (total / length).astype(np.float32)
    return unit


async def vector_of(picture: str, snapshot: Snapshot, context: Context, caller: Principal) -> Vector:
    """The stored vector of a picture; for a bound key that of its content now: an older one may be from elsewhere.

    Raises `PictureNotFound`, also for one in a collection that the key is not bound to.
    """
    if caller.collections is None:
        return await to_thread.run_sync(snapshot.picture_vector, picture, limiter=context.searching)
    return await context.filtering.read_plainly(_vector_within, picture, context, caller.collections)


def _vector_within(picture: str, context: Context, within: frozenset[str]) -> Vector:
    content = context.gallery.get(picture, within).content_sha256
    vector = context.gallery.picture_vector(content, context.encoder.image_fingerprint)
    if vector is None:
        raise PictureNotFound("there is no picture with this id")
    return vector


def _part(model: type[bodies.M], given: str | None, name: str) -> bodies.M | None:
    """The JSON in a field of a form."""
    return None if given is None else bodies.validated(model, bodies.parse_field(given, name), f"body.{name}")


def _cleaned(text: str | None) -> str | None:
    return None if text is None else clean(text)


def _captions(requested: list[str] | str | None, used: str, snapshot: Snapshot) -> list[str]:
    """The languages of the captions to send: the requested ones, by default the language used, and English."""
    if requested is None:
        return [tag for tag in dict.fromkeys((used, _ENGLISH)) if tag in snapshot.captions]
    if requested == "none":
        return []
    return tags(None if isinstance(requested, str) else requested, snapshot)


def tags(requested: list[str] | None, snapshot: Snapshot) -> list[str]:
    """The requested languages in canonical form, without duplicates; by default all whose captions are searched."""
    return sorted(snapshot.captions) if requested is None else list(dict.fromkeys(map(snapshot.readable, requested)))


def _refusal(detail: str, place: str, code: str) -> InvalidInput:
    return InvalidInput(detail, errors=(FieldError(place, code),))
