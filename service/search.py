"""A search for pictures, from what a client sent to what it gets: parsed, encoded, run, answered. Keeps no index."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import Query, Response
from pydantic import AfterValidator, BaseModel
from pydantic_core import PydanticCustomError

from index.filters import Filter, parse_filter
from index.records import Record, list_with_current_captions
from index.selection import Criteria, KeySelection
from index.snapshot import AUTO, SHARED, PictureHit, Snapshot
from index.vectors import Vector, VectorSet
from index.word_search import MOST, WordHit, fuse_rankings, list_hits_after, rank_by_words
from model import words
from model.match import Calibration
from model.text import clean
from service.auth import Principal
from service.bodies import JSON, parse_json
from service.context import Context, make_path
from service.middleware import Parts
from service.schemas import search as schemas
from service.schemas.gallery import PictureItem
from store.errors import FieldError, InvalidInput, PictureNotFound

_ENGLISH = "en"
_ITEM_FIELDS = dict.fromkeys([*PictureItem.model_fields, *schemas.PictureHit.model_fields])
_NOTHING_LEFT = 1e-3  # length of a sum of unit vectors below which only rounding is left
_OF_RECORDS = frozenset({"collection", "tags", "metadata", "etag"})  # fields of a hit that are read from the registry
_UNAVAILABLE = "records_unavailable"
_MATCH_UNKNOWN = "match_unknown"  # `min_match` cuts nothing
Place = tuple[str, float, int]  # a hit in a cursor: picture, score, rank


class Search:
    """One search for pictures in one snapshot: parsed when it is made, then `encode` and `respond`.

    `picture` is one that came with it. `parts` of its time are counted.
    """

    def __init__(
        self,
        body: schemas.PictureSearch,
        snapshot: Snapshot,
        context: Context,
        caller: Principal,
        *,
        place: str = "body",
        picture: bytes | None = None,
        parts: Parts | None = None,
    ) -> None:
        """Parse the `body` at a `place`; raises `InvalidInput`, `InvalidFilter`, and as `Snapshot.route`."""
        self.started, self._parts = time.perf_counter(), parts or Parts()
        self.body, self._snapshot, self._context, self._caller = body, snapshot, context, caller
        self._upload, self._place = picture, place
        self._content: str | None = None  # sha256 of the upload, whose bytes are dropped when they are encoded
        self._wanted = Criteria(parse_body_filter(body.filter, place), caller.collections)
        self._filtered = not self._wanted.is_unrestricted
        minus = body.minus or schemas.Minus()
        self._text, self._minus_text = _clean_text(body.text), _clean_text(minus.text)
        self._picture, self._minus_picture = body.picture, minus.picture
        self._pictures = frozenset(filter(None, (body.picture, minus.picture)))  # of the gallery: none is a hit
        self._weights = body.weights or schemas.Weights()
        self._refuse_contradictions()
        read = self._text or self._minus_text
        # what reads its texts: nothing where there is none, or words alone are searched
        self._route = None if read is None or body.mode == "words" else snapshot.route(body.language, read)
        self._captions = self._caption_languages()
        self._vector: Vector | None = None
        self._truncated = False

    @property
    def reads_registry(self) -> bool:
        """Whether it takes a thread that filters, words and bound keys are read in."""
        filtered = self._wanted.filter is not None or self.body.facets is not None
        return filtered or self.body.mode != "meaning" or self._caller.collections is not None

    async def encode(self) -> None:
        """Turn what it names into one vector, its weighted sum; raises `PictureNotFound`, and as the queues do."""
        self._parts.end("read")
        if self.body.mode == "words":
            return
        weights, parts = self._weights, list[tuple[float, Vector]]()
        uploaded = None
        if self._upload is not None:
            self._content = (await self._context.lanes.search.run(hashlib.sha256, self._upload)).hexdigest()
            uploaded = await self._context.pictures.encode(self._upload)
            self._upload = None
            self._parts.end("picture")
        texts = [text for text in (self._text, self._minus_text) if text is not None]
        queries = await self._context.texts.encode(self._route.view, texts) if self._route else []
        by_text = dict(zip(texts, queries, strict=True))
        if self._text is not None:
            parts.append((weights.text, by_text[self._text].vector))
        if uploaded is not None:
            parts.append((weights.picture, uploaded))
        for picture, weight in ((self._picture, weights.picture), (self._minus_picture, -weights.minus_picture)):
            if picture is not None:
                vector = await find_vector(picture, self._snapshot, self._context, self._caller)
                parts.append((weight, vector))
        if self._minus_text is not None:
            parts.append((-weights.minus_text, by_text[self._minus_text].vector))
        self._vector, self._truncated = _sum(parts), any(query.truncated for query in queries)
        if self._route is not None:
            self._parts.end("wait", queries[0].seconds)

    async def _run(self) -> None:
        """Read what is stored now: what the filter leaves, which pictures have the words, the facets."""
        body, lanes, selection, wanted = self.body, self._context.lanes, self._context.selection, self._wanted
        left = None
        if self._filtered and body.mode != "words":
            left = await lanes.filter.run(selection.select_keys, wanted)
        self._worded = list[WordHit]()
        if body.mode != "meaning" and self._text is not None:
            lane, find = lanes.filter if self._filtered else lanes.words, self._context.words.find
            worded = await lane.run(find, self._text, self._snapshot.release, wanted, self._minus_text)
            self._worded = [each for each in worded if each.picture not in self._pictures]
        self._calibration = self._calibrate()
        if self._calibration is not None and left is not None:
            left = await self._count_surely(self._calibration, left)
            if not self._calibration.holds_among(len(left.keys)):
                self._calibration = None
        self._allowed = None if left is None else left.keys
        if left is not None or body.mode != "meaning":
            self._parts.end("filter")
        self._facets = None
        if body.facets is not None:
            self._facets = await lanes.filter.run(selection.count_facets, wanted, body.facets)

    async def respond(self, unwanted: frozenset[str] = frozenset()) -> Response:
        """Run it, and answer without the `unwanted` fields of each hit; raises what refuses the search."""
        await self._run()
        # one visit to a thread for all of the rest: each costs as much as the scan
        response = await self._context.lanes.search.run(self._answer, unwanted)
        if self._route is not None:
            used = self._route.used  # clients may name any tag, a metric must not have any label
            known = used in self._snapshot.views or used == SHARED
            self._context.metrics.searches.labels(used if known else "not_taught", self._route.source).inc()
        return response

    def _refuse_contradictions(self) -> None:
        by_picture, mode, weights = self._picture is not None or self._upload is not None, self.body.mode, self._weights
        if self._text is None and not by_picture:
            raise _make_refusal("say what to search for: `text`, `picture` or both", f"{self._place}.text", "missing")
        if mode != "meaning" and self._text is None:
            raise _make_refusal("words are searched for a text", f"{self._place}.text", "missing")
        if mode == "words" and (by_picture or self._minus_picture is not None):
            place = f"{self._place}.mode"
            raise _make_refusal("a picture has no words: use the mode `both`", place, "words_of_a_picture")
        if not (weights.text if self._text is not None else 0) + (weights.picture if by_picture else 0) > 0:
            place = f"{self._place}.weights"
            raise _make_refusal("not all of what is searched for can weigh nothing", place, "all_zero")
        if mode == "both" and not weights.meaning + weights.words > 0:
            raise _make_refusal("meaning and words cannot both weigh nothing", f"{self._place}.weights", "all_zero")

    def _caption_languages(self) -> list[str]:
        """The languages whose captions come with each picture: the requested, by default the one used, and English."""
        requested, snapshot = self.body.captions, self._snapshot
        # without a text the language only selects the captions
        used = self._route.used if self._route else self.body.language
        used = used if used in (AUTO, SHARED) else snapshot.require_readable(used)
        if requested is None:
            return [tag for tag in dict.fromkeys((used, _ENGLISH)) if tag in snapshot.captions]
        if requested == "none":
            return []
        return choose_caption_languages(None if isinstance(requested, str) else requested, snapshot)

    def _calibrate(self) -> Calibration | None:
        """How the chances of its hits are told among all pictures; None where they are not known.

        They are known of a text alone that is searched by its meaning: held-out captions were asked like that. A bound
        key is told none: they were measured with the pictures of all collections.
        """
        text_alone = self._text is not None and not (self._pictures or self._content or self._minus_text)
        if self._caller.collections is not None or self._route is None or self.body.mode != "meaning" or not text_alone:
            return None
        return self._snapshot.find_calibration(self._route)

    async def _count_surely(self, calibration: Calibration, left: KeySelection) -> KeySelection:
        """What is left, read anew if it depends on keys of pictures that may be gone whether chances hold among it."""
        if calibration.holds_among(len(left.keys)) and not calibration.holds_among(left.least_count):
            select_keys = self._context.selection.select_keys
            return await self._context.lanes.filter.run(select_keys, self._wanted, without_deleted=True) or left
        return left

    def _answer(self, unwanted: frozenset[str]) -> Response:
        self._parts.end("thread")
        found, without = self._hits(unwanted), exclude_fields(unwanted, facets=self.body.facets is None)
        self._parts.end("captions")
        answer = Response(found.model_dump_json(exclude=without), media_type=JSON)
        self._parts.end("json")
        return answer

    def _hits(self, unwanted: frozenset[str]) -> schemas.PictureHits:
        body, within, calibration = self.body, self._caller.collections, self._calibration
        hits, next_cursor = self._page()
        self._parts.end("scan")
        hits, below = _cut_below(hits, body.min_match if calibration else None)
        kept: Mapping[str, Record] | None = {}
        if within is not None or _OF_RECORDS - unwanted:
            kept = self._context.hit_records.read([hit.picture for hit in hits], within)
        if within is not None and kept is not None:
            hits = [hit for hit in hits if hit.picture in kept]  # one may have been moved away since it was allowed
        captions = self._captions_of(hits, kept)
        warnings = list(self._route.warnings) if self._route else []
        warnings += [_UNAVAILABLE] if kept is None else []
        warnings += [_MATCH_UNKNOWN] if body.min_match is not None and calibration is None else []
        records = kept or {}
        return schemas.PictureHits(
            items=[self._hit(hit, captions.get(hit.picture, {}), records.get(hit.picture)) for hit in hits],
            facets=self._facets,
            language=schemas.LanguageUsed.model_validate(self._route) if self._route else None,
            version=self._route.view.version if self._route else None,
            release=self._snapshot.release.number,
            generation=name_generation(self._snapshot.pictures, self._caller),
            truncated=self._truncated,
            warnings=warnings,
            below_min_match=below,
            next_cursor=None if below else next_cursor,
            timing_ms=count_milliseconds(self.started),
        )

    def _page(self) -> tuple[Sequence[PictureHit], str | None]:
        """One page of hits, and the cursor of the next one."""
        body, minus, state = self.body, [self._minus_text, self._minus_picture], self._state()
        named = [body.mode, self._text, self._picture, *minus, self._weights.model_dump()]
        asked = ["question", *named, self._content, body.language, body.min_score, body.min_match]
        if self._filtered:
            asked += [body.filter, self._caller.id]

        def place_of(hit: PictureHit) -> Place:
            return hit.picture, hit.score, hit.rank

        return self._context.cursors.cut(asked, body.limit, body.cursor, self._fetch, place_of, state=state)

    def _state(self) -> list[object]:
        """What may not change from page to page; a picture that is named may get another content, and vector."""
        state: list[object] = [self._snapshot.release.number, self._snapshot.pictures.identity.name]
        if self._vector is not None and self._pictures:
            state.append(hashlib.sha256(self._vector.tobytes()).hexdigest()[:16])
        return state

    def _fetch(self, count: int, place: Place | None) -> Sequence[PictureHit]:
        """The hits after a place. Two rankings are put together as a whole, for every page again."""
        after = None if place is None else PictureHit(*place)
        least, search = self.body.min_score, self._snapshot.search_pictures
        if self._vector is None:
            return list_hits_after(rank_by_words(self._worded, least), count, after)
        if self.body.mode == "meaning":
            return search(self._vector, count, after, least, self._allowed, self._pictures, self._calibration)
        near = search(self._vector, MOST, None, least, self._allowed, self._pictures)
        weights = (self._weights.meaning, self._weights.words)
        return list_hits_after(fuse_rankings(near, self._worded, weights), count, after)

    def _captions_of(
        self, hits: Sequence[PictureHit], kept: Mapping[str, Record] | None
    ) -> dict[str, dict[str, list[str]]]:
        """The captions of the hits, and those by whose words they were found in languages that nobody chose."""
        snapshot, shown = self._snapshot, [hit.picture for hit in hits]
        if self._caller.collections is not None:
            shown = list_with_current_captions(kept or {}, snapshot.change)
        captions = snapshot.list_captions(shown, self._captions)
        if self.body.mode == "meaning" or self._text is None or self.body.captions is not None:
            return captions
        terms = words.asked(self._text)
        worded = {hit.picture for hit in hits if hit.words is not None}.intersection(shown)
        others = [tag for tag in sorted(snapshot.captions) if tag not in self._captions]
        for picture, by_tag in snapshot.list_captions(list(worded), others).items() if terms else ():
            matching = ((tag, words.having(texts, terms)) for tag, texts in by_tag.items())
            captions[picture].update((tag, texts) for tag, texts in matching if texts)
        return captions

    def _hit(self, hit: PictureHit, captions: dict[str, list[str]], record: Record | None) -> schemas.PictureHit:
        return schemas.PictureHit(
            id=hit.picture,
            score=hit.score,
            meaning=hit.score if self.body.mode == "meaning" else hit.meaning,
            words=hit.words,
            rank=hit.rank,
            url=f"{make_path(hit.picture)}/content",
            captions=captions,
            match=hit.match,
            collection=record and record.collection,
            tags=record and list(record.tags),
            metadata=record and dict(record.metadata),
            etag=record and record.etag,
        )


def parse_body_filter(given: Any, place: str = "body") -> Filter | None:
    """The filter of a body; raises `InvalidFilter`."""
    return None if given is None else parse_filter(given, f"{place}.filter")


def parse_query_filter(given: str | None) -> Filter | None:
    """The filter in the query of a listing; raises `InvalidFilter`."""
    if given is None:
        return None
    return parse_filter(parse_json(given.encode(), "query.filter"), "query.filter")


def _check_fields(fields: str | None) -> str | None:
    if fields is not None and not {*_split_fields(fields)} <= {*_ITEM_FIELDS}:
        raise PydanticCustomError("unknown_field", "the fields are: {known}", {"known": ", ".join(_ITEM_FIELDS)})
    return fields


QueryFields = Annotated[
    str | None,
    Query(max_length=500, description="The fields of each item that are wanted, separated by commas."),
    AfterValidator(_check_fields),
]


def find_unwanted_fields(fields: str | None, model: type[BaseModel]) -> frozenset[str]:
    """What `QueryFields` leave out of each item.

    One list of `fields` does for all: of what only other items have, as a picture of the listing has no `score`,
    nothing is shown.
    """
    return frozenset() if fields is None else frozenset(model.model_fields).difference(_split_fields(fields))


def _split_fields(fields: str) -> list[str]:
    return [name.strip() for name in fields.split(",")]


def exclude_fields(fields: frozenset[str], *, facets: bool) -> Mapping[str, Any]:
    """What pydantic leaves out of an answer with items: these fields of each, and the `facets`."""
    items = {"items": {"__all__": {*fields}}} if fields else {}
    return {**items, **({"facets": True} if facets else {})}


async def find_vector(picture: str, snapshot: Snapshot, context: Context, caller: Principal) -> Vector:
    """The stored vector of a picture; for a bound key that of its content now: an older one may be from elsewhere.

    Raises `PictureNotFound`, also for one in a collection that the key is not bound to.
    """
    if caller.collections is None:
        return await context.lanes.search.run(snapshot.find_picture_vector, picture)
    return await context.lanes.read.run(_read_vector, picture, context, caller.collections)


def _read_vector(picture: str, context: Context, within: frozenset[str]) -> Vector:
    content = context.gallery.get(picture, within).content_sha256
    vector = context.gallery.find_vector(content, context.encoder.image_fingerprint)
    if vector is None:
        raise PictureNotFound("there is no picture with this id")
    return vector


def choose_caption_languages(requested: list[str] | None, snapshot: Snapshot) -> list[str]:
    """The requested languages in canonical form, without duplicates; by default all whose captions are searched."""
    if requested is None:
        return sorted(snapshot.captions)
    return list(dict.fromkeys(map(snapshot.require_readable, requested)))


def name_generation(vector_set: VectorSet, caller: Principal) -> str:
    """For a bound key without the last change: it would tell what happens in other collections."""
    return vector_set.generation if caller.collections is None else vector_set.identity.name


def count_milliseconds(started: float) -> float:
    """Milliseconds since a reading of `time.perf_counter`."""
    return round((time.perf_counter() - started) * 1_000, 3)


def _cut_below(hits: Sequence[PictureHit], least: float | None) -> tuple[Sequence[PictureHit], int | None]:
    """The hits with at least this chance, and how many have less: all that follow, since chances fall with scores."""
    if least is None:
        return hits, None
    kept = [hit for hit in hits if hit.match is not None and hit.match >= least]
    return kept, len(hits) - len(kept)


def _sum(parts: list[tuple[float, Vector]]) -> Vector:
    """Of unit length; a single part is left as it is, to the bit."""
    used = [(weight, vector) for weight, vector in parts if weight]
    if len(used) == 1:
        return used[0][1]
    total = np.sum([weight * vector.astype(np.float64) for weight, vector in used], axis=0)
    length = float(np.linalg.norm(total))
    if length < _NOTHING_LEFT * max(abs(weight) for weight, _ in used):
        raise _make_refusal("what is searched for and `minus` are the same", "body.minus", "nothing_left")
    unit: Vector = (total / length).astype(np.float32)
    return unit


def _clean_text(text: str | None) -> str | None:
    return None if text is None else clean(text)


def _make_refusal(detail: str, place: str, code: str) -> InvalidInput:
    return InvalidInput(detail, errors=(FieldError(place, code),))
