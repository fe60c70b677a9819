"""A search for pictures: parsed from what a client sent, encoded, run and answered. Keeps no index."""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from fastapi import Response

from index.fusion import Fusion, list_hits_after, rank_by_words, split_at
from index.records import Record, list_with_current_captions
from index.selection import Criteria, FacetValue
from index.snapshot import AUTO, SHARED, PictureHit, Snapshot
from index.vectors import Keys, Vector
from model import words
from model.match import GUESSED, Calibration
from model.text import clean
from service.auth import Principal
from service.bodies import JSON
from service.context import Context, make_picture_path
from service.listings import count_milliseconds, exclude_fields, name_generation, parse_body_filter
from service.middleware import RequestTiming
from service.schemas import search as schemas
from service.search_words import SearchWords
from store.errors import FieldError, InvalidInput, PictureNotFound

_ENGLISH = "en"
_NOTHING_LEFT = 1e-3  # length of a sum of unit vectors below which only rounding is left
_RECORD_FIELDS = frozenset(
    {"collection", "tags", "metadata", "etag", "width", "height"}
)  # fields of a hit that the registry is read for
_UNAVAILABLE = "records_unavailable"
_MATCH_UNKNOWN = "match_unknown"  # `min_match` cuts nothing
_UNKNOWN_WORDS = "unknown_words"
_NOT_KNOWN = "not_known_to_base"
_NOTHING_LIKELY = "nothing_likely"


@dataclass(frozen=True)
class _Candidates:
    """What the registry says, when a search runs, of the pictures that it may find.

    `allowed_keys` may have keys of deleted pictures too; None allows all. `calibration` is None where the chances of
    hits are not known.
    """

    allowed_keys: Keys | None
    calibration: Calibration | None
    facets: Mapping[str, Sequence[FacetValue]] | None


class Search:
    """One search for pictures in one snapshot: parsed when it is made, then `encode` and `respond`."""

    def __init__(
        self,
        body: schemas.PictureSearch,
        snapshot: Snapshot,
        context: Context,
        caller: Principal,
        *,
        place: str = "body",
        upload: bytes | None = None,
        timing: RequestTiming | None = None,
    ) -> None:
        """Parse the `body`, whose faults are located at `place`; `upload` is a picture that came with it.

        Raises `InvalidInput`, `InvalidFilter`, and what `Snapshot.route` raises.
        """
        self.started, self._timing = time.perf_counter(), timing or RequestTiming()
        self.body, self._snapshot, self._context, self._caller = body, snapshot, context, caller
        self._place, self._upload = place, upload
        self._upload_sha256: str | None = None  # the bytes are dropped when they are encoded
        self._criteria = Criteria(parse_body_filter(body.filter, place), caller.collections)
        minus = body.minus or schemas.Minus()
        self._text, self._minus_text = _clean_text(body.text), _clean_text(minus.text)
        self._picture, self._minus_picture = body.picture, minus.picture
        self._named_pictures = frozenset(filter(None, (body.picture, minus.picture)))  # none is a hit
        self._weights = body.weights or schemas.Weights()
        by_picture = self._picture is not None or upload is not None
        self._mode = body.mode or ("meaning" if self._text is None or by_picture else "both")
        self._refuse_contradictions()
        text = self._text or self._minus_text
        # which version encodes its texts: none where there is no text, or words alone are searched
        self._route = None if text is None or self._mode == "words" else snapshot.route(body.language, text)
        self._caption_languages = self._choose_caption_languages()
        self._vector: Vector | None = None
        self._truncated = False
        self._words = SearchWords(snapshot, context, caller, self._criteria, self._text, self._route)

    @property
    def reads_registry(self) -> bool:
        """Whether it takes a thread that filters, words and bound keys are read in."""
        filtered = self._criteria.filter is not None or self.body.facets is not None
        return filtered or self._mode != "meaning" or self._caller.collections is not None

    async def encode(self) -> None:
        """Encode all that it names as one vector, their weighted sum, and find its words meanwhile.

        Raises `PictureNotFound`, and what the queues of texts and pictures, and the search by words, raise.
        """
        self._timing.record("read")
        finding = asyncio.ensure_future(self._find_words())
        try:
            if self._mode != "words":
                await self._encode_query()
            await finding
        finally:
            finding.cancel()
        if self._mode != "meaning":
            self._timing.record("words")

    async def _find_words(self) -> None:
        if self._mode != "meaning":
            alone, optional = self._mode == "words", self.body.mode is None
            await self._words.find(self.body.language, self._minus_text, alone=alone, optional=optional)
        await self._words.check_spelling(suggest=self.body.cursor is None)

    async def _encode_query(self) -> None:
        weights, terms, uploaded = self._weights, list[tuple[float, Vector]](), None
        if self._upload is not None:
            digest = await self._context.lanes.search.run(hashlib.sha256, self._upload)
            self._upload_sha256 = digest.hexdigest()
            uploaded = await self._context.pictures.encode(self._upload)
            self._upload = None
            self._timing.record("picture")
        texts = [text for text in (self._text, self._minus_text) if text is not None]
        queries = await self._context.texts.encode(self._route.view, texts) if self._route else []
        by_text = dict(zip(texts, queries, strict=True))
        if self._text is not None:
            terms.append((weights.text, by_text[self._text].vector))
        if uploaded is not None:
            terms.append((weights.picture, uploaded))
        for picture, weight in ((self._picture, weights.picture), (self._minus_picture, -weights.minus_picture)):
            if picture is not None:
                terms.append((weight, await find_vector(picture, self._snapshot, self._context, self._caller)))
        if self._minus_text is not None:
            terms.append((-weights.minus_text, by_text[self._minus_text].vector))
        self._vector, self._truncated = _add_up(terms), any(query.truncated for query in queries)
        if self._route is not None:
            self._timing.record("wait", nested=queries[0].seconds)

    async def respond(self, unwanted: frozenset[str] = frozenset()) -> Response:
        """Run it, and answer without the `unwanted` fields of each hit; raises what refuses the search."""
        candidates = await self._find_candidates()
        # one visit to a thread for all of the rest: each costs as much as the scan
        response = await self._context.lanes.search.run(self._run, candidates, unwanted)
        if self._route is not None:
            used = self._route.used  # clients may name any tag, a metric must not have any label
            known = used in self._snapshot.views or used == SHARED
            self._context.metrics.searches.labels(used if known else "not_taught", self._route.source).inc()
        return response

    def _refuse_contradictions(self) -> None:
        by_picture, mode, weights = self._picture is not None or self._upload is not None, self._mode, self._weights
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

    def _choose_caption_languages(self) -> list[str]:
        """Choose the languages whose captions come with each hit: the requested, else the one used, and English."""
        requested, snapshot = self.body.captions, self._snapshot
        # without a text the language only selects the captions
        used = self._route.used if self._route else self.body.language
        used = used if used in (AUTO, SHARED) else snapshot.require_readable(used)
        if requested is None:
            return [tag for tag in dict.fromkeys((used, _ENGLISH)) if tag in snapshot.captions]
        if requested == "none":
            return []
        return choose_caption_languages(None if isinstance(requested, str) else requested, snapshot)

    async def _find_candidates(self) -> _Candidates:
        """Read from the registry what may be found now, by filter and collections, and the facets."""
        body, lanes, criteria = self.body, self._context.lanes, self._criteria
        filtered, selection, words_only = not criteria.is_unrestricted, self._context.selection, self._mode == "words"
        allowed = await lanes.filter.run(selection.select_keys, criteria) if filtered and not words_only else None
        calibration = self._find_calibration()
        if calibration is not None and allowed is not None:
            # keys of deleted pictures may be among them: where only these make enough, all are read again
            if calibration.is_valid_among(len(allowed.keys)) and not calibration.is_valid_among(allowed.least_count):
                allowed = await lanes.filter.run(selection.select_keys, criteria, without_deleted=True) or allowed
            calibration = calibration if calibration.is_valid_among(len(allowed.keys)) else None
        if allowed is not None:
            self._timing.record("filter")
        facets = None if body.facets is None else await lanes.filter.run(selection.count_facets, criteria, body.facets)
        return _Candidates(allowed and allowed.keys, calibration, facets)

    def _find_calibration(self) -> Calibration | None:
        """Find how the chances of its hits are told among all pictures; None where they are not known.

        They are known of a text alone: held-out captions were searched like that. A bound key is told none: they were
        measured with the pictures of all collections.
        """
        text_alone = self._text is not None and not (self._named_pictures or self._upload_sha256 or self._minus_text)
        if self._caller.collections is not None or self._route is None or not text_alone:
            return None
        calibration = self._snapshot.find_calibration(self._route)
        return replace(calibration, share=GUESSED) if calibration and self._words.guessed else calibration

    def _run(self, candidates: _Candidates, unwanted: frozenset[str]) -> Response:
        """Rank the pictures, read captions and records of one page of them, and make the answer."""
        self._timing.record("thread")
        hits, next_cursor = self._find_page(candidates)
        self._timing.record("scan")
        answer = self._describe_page(hits, next_cursor, candidates, unwanted)
        self._timing.record("captions")
        without = exclude_fields(unwanted, facets=self.body.facets is None)
        response = Response(answer.model_dump_json(exclude=without), media_type=JSON)
        self._timing.record("json")
        return response

    def _find_page(self, candidates: _Candidates) -> tuple[Sequence[PictureHit], str | None]:
        """Find one page of hits, and the cursor of the next one."""
        body, cursors = self.body, self._context.cursors
        minus, weights = [self._minus_text, self._minus_picture], self._weights.model_dump()
        query: list[object] = ["question", self._mode, self._text, self._picture, *minus, weights, self._upload_sha256]
        query += [body.language, body.min_score, body.min_match]
        if not self._criteria.is_unrestricted:
            query += [body.filter, self._caller.id]
        # what may not change from page to page; a picture that is named may get another content, and vector
        state: list[object] = [self._snapshot.release.number, self._snapshot.pictures.identity.name]
        if self._vector is not None and self._named_pictures:
            state.append(hashlib.sha256(self._vector.tobytes()).hexdigest()[:16])
        place = cursors.read_place(query, body.cursor, state)
        hits = self._rank(candidates, body.limit + 1, None if place is None else PictureHit(*place))
        return cursors.cut(hits, body.limit, query, lambda hit: (hit.picture, hit.score, hit.rank), state)

    def _rank(self, candidates: _Candidates, count: int, after: PictureHit | None) -> Sequence[PictureHit]:
        """Rank the `count` best pictures after one. Two rankings are fused as a whole, for every page again."""
        least, allowed, without = self.body.min_score, candidates.allowed_keys, self._named_pictures
        word_hits = [hit for hit in self._words.found.hits if hit.picture not in without]
        if self._vector is None:
            return list_hits_after(rank_by_words(word_hits, least), count, after)
        search, chances = self._snapshot.search_pictures, candidates.calibration
        find = partial(search, self._vector, min_score=least, allowed=allowed, without=without, calibration=chances)
        if self._mode == "meaning":
            return find(count, after)
        weights = (self._weights.meaning, self._weights.words)
        told, least_match = chances is not None, self.body.min_match if chances else None
        fusion = Fusion(find, word_hits, weights, self._words.measure_shares, told, least_match)
        return fusion.list_hits_after(count, after)

    def _describe_page(
        self, hits: Sequence[PictureHit], next_cursor: str | None, candidates: _Candidates, unwanted: frozenset[str]
    ) -> schemas.PictureHits:
        """Describe a page of hits, with captions, and with records unless all their fields are `unwanted`."""
        body, within, calibration = self.body, self._caller.collections, candidates.calibration
        warnings = list(self._route.warnings) if self._route else []
        warnings += (
            [_NOTHING_LIKELY] if calibration and body.cursor is None and not any(hit.likely for hit in hits) else []
        )
        least = body.min_match if calibration else None
        hits, below = split_at(hits, least)  # those below follow all others
        records: Mapping[str, Record] | None = {}  # None while the registry does not answer
        if within is not None or _RECORD_FIELDS - unwanted:
            records = self._context.hit_records.read([hit.picture for hit in hits], within)
        if within is not None and records is not None:
            hits = [hit for hit in hits if hit.picture in records]  # one may have been moved away since it was allowed
        captions = self._read_captions(hits, records)
        warnings += [_UNAVAILABLE] if records is None or self._words.is_away else []
        warnings += [_MATCH_UNKNOWN] if body.min_match is not None and calibration is None else []
        warnings += [_NOT_KNOWN] if self._words.guessed else []
        warnings += [_UNKNOWN_WORDS] if self._words.unknown else []
        if self._words.unknown and body.cursor is None and self._context.settings.unknown_words:
            self._count_unknown()
        found = records or {}
        return schemas.PictureHits(
            items=[self._describe_hit(hit, captions.get(hit.picture, {}), found.get(hit.picture)) for hit in hits],
            facets=candidates.facets,
            language=self._describe_language(),
            version=self._route.view.version if self._route else None,
            release=self._snapshot.release.number,
            generation=name_generation(self._snapshot.pictures, self._caller),
            truncated=self._truncated,
            warnings=warnings,
            unknown_words=self._words.unknown,
            did_you_mean=self._words.meant,
            guessed_words=self._words.guessed,
            below_min_match=None if least is None else len(below),
            next_cursor=None if below else next_cursor,
            timing_ms=count_milliseconds(self.started),
        )

    def _describe_language(self) -> schemas.LanguageUsed | None:
        if self._route is None:
            return None
        used = schemas.LanguageUsed.model_validate(self._route)
        used.terms = self._context.terms.get(used.used)
        return used

    def _count_unknown(self) -> None:
        if self._route is not None and self._text is not None and self._route.used in self._snapshot.views:
            self._context.unknown_words.count(self._route.used, self._route.view.read(self._text).unknown)

    def _read_captions(
        self, hits: Sequence[PictureHit], records: Mapping[str, Record] | None
    ) -> dict[str, dict[str, list[str]]]:
        """Read the captions of the hits, and those by whose words they were found in languages that nobody chose."""
        snapshot, visible = self._snapshot, [hit.picture for hit in hits]
        if self._caller.collections is not None:
            visible = list_with_current_captions(records or {}, snapshot.change)
        captions = snapshot.list_captions(visible, self._caption_languages)
        if self._mode == "meaning" or self._text is None or self.body.captions is not None:
            return captions
        terms = words.extract_query_terms(self._text, snapshot.views)
        found_by_words = {hit.picture for hit in hits if hit.words is not None}.intersection(visible)
        others = [tag for tag in sorted(snapshot.captions) if tag not in self._caption_languages]
        for picture, by_tag in snapshot.list_captions(list(found_by_words), others).items() if terms else ():
            matching = ((tag, words.filter_by_terms(texts, terms)) for tag, texts in by_tag.items())
            captions[picture].update((tag, texts) for tag, texts in matching if texts)
        return captions

    def _describe_hit(
        self, hit: PictureHit, captions: dict[str, list[str]], record: Record | None
    ) -> schemas.PictureHit:
        return schemas.PictureHit(
            id=hit.picture,
            score=hit.score,
            meaning=hit.score if self._mode == "meaning" else hit.meaning,
            words=hit.words,
            rank=hit.rank,
            url=f"{make_picture_path(hit.picture)}/content",
            captions=captions,
            match=hit.match,
            likely=hit.likely,
            collection=record and record.collection,
            tags=record and list(record.tags),
            metadata=record and dict(record.metadata),
            etag=record and record.etag,
            width=record and record.width,
            height=record and record.height,
        )


async def find_vector(picture: str, snapshot: Snapshot, context: Context, caller: Principal) -> Vector:
    """Find the stored vector of a picture; for a bound key that of its content now: an older one may be from elsewhere.

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
    """Choose the requested languages in canonical form, without duplicates; by default all with captions."""
    return (
        sorted(snapshot.captions)
        if requested is None
        else list(dict.fromkeys(map(snapshot.require_readable, requested)))
    )


def _add_up(terms: list[tuple[float, Vector]]) -> Vector:
    """Return the weighted sum of the vectors, of unit length; a single vector comes back unchanged."""
    used = [(weight, vector) for weight, vector in terms if weight]
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
