"""A search for pictures: parsed from what a client sent, encoded, run and answered. Keeps no index."""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from fastapi import Response

from index.filters import Filter, parse_filter
from index.ranking import Fusion, PictureHit, list_hits_after, rank_by_words
from index.records import Record, list_with_current_captions
from index.selection import Criteria, FacetValue, KeySelection
from index.snapshot import AUTO, SHARED, Snapshot
from index.vectors import Vector
from index.word_search import LEAST_SHARE, MOST, MOST_WORDED, FoundWords
from model.encoder import View
from model.languages import ENGLISH
from model.match import GUESSED, Calibration
from model.text import clean, extract_query_terms, filter_by_terms, has_stemmer
from service.context import Context, count_milliseconds, exclude_fields, make_picture_path
from service.people import Principal
from service.problems import refuse
from service.requests import JSON, RequestTiming
from service.schemas import search as schemas
from store.errors import RegistryUnavailable

_NOTHING_LEFT = 1e-3  # length of a sum of unit vectors below which only rounding is left
_NO_MINUS, _WEIGHTS = schemas.Minus(), schemas.Weights()  # of a search that says nothing of them
_MOST_SUGGESTED = 5  # unknown words, the first ones, that known ones are looked up for
# Fields of a hit that the registry is read for
_RECORD_FIELDS = frozenset({"collection", "tags", "metadata", "etag", "width", "height"})


class Search:
    """One search for pictures in one snapshot: parsed when it is made, then `answer`."""

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
        parsed = None if body.filter is None else parse_filter(body.filter, f"{place}.filter")
        is_restricted = caller.collections is not None or parsed not in (None, Filter())
        self._criteria = Criteria(parsed, caller.collections) if is_restricted else None
        minus = body.minus or _NO_MINUS
        self._text, self._minus_text = (None if text is None else clean(text) for text in (body.text, minus.text))
        self._picture, self._minus_picture = body.picture, minus.picture
        self._named_pictures = frozenset(filter(None, (body.picture, minus.picture)))  # none is a hit
        self._weights = body.weights or _WEIGHTS
        by_picture = self._picture is not None or upload is not None
        self._mode = body.mode or ("meaning" if self._text is None or by_picture else "both")
        self._refuse_contradictions()
        text = self._text or self._minus_text
        # which version encodes its texts: none where there is no text, or words alone are searched
        self._route = None if text is None or self._mode == "words" else snapshot.route(body.language, text)
        self._caption_languages = self._choose_caption_languages()
        self._vector: Vector | None = None
        self._truncated = False
        # what the registry says when it runs; None where all are allowed, or nothing is known
        self._allowed: KeySelection | None = None
        self._calibration: Calibration | None = None
        self._facets: Mapping[str, Sequence[FacetValue]] | None = None
        self._found: FoundWords | None = None
        self._words_unavailable = False
        self._known_share = 1.0  # of its words, by their weight, those that somebody knows
        self._unknown, self._guessed, self._suggestions = list[str](), list[str](), dict[str, str]()

    @property
    def reads_registry(self) -> bool:
        """Whether it takes a thread that filters, words and bound keys are read in."""
        return self._criteria is not None or self.body.facets is not None or self._mode != "meaning"

    async def answer(self, unwanted: frozenset[str] = frozenset()) -> Response:
        """Encode it and find its words meanwhile, run it, and answer without the `unwanted` fields of each hit.

        Raises `PictureNotFound`, `RegistryUnavailable`, and what the queues of texts and pictures raise.
        """
        self._timing.record("read")
        if self.reads_registry:
            finding = asyncio.ensure_future(self._resolve_filter_words_and_chances())
            try:
                if self._mode != "words":
                    await self._encode()
                await finding
            finally:
                finding.cancel()
                finding.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else asks for it
            self._timing.record("filter" if self._mode == "meaning" else "words")
        else:  # nothing to wait for: a task would cost more than it saves
            await self._encode()
            await self._resolve_filter_words_and_chances()
        # one visit to a thread for all of the rest: each costs as much as the scan
        response = await self._context.lanes.search.run(self._run, unwanted)
        if self._route is not None:
            used = self._route.used  # clients may name any tag, a metric must not have any label
            known = used in self._snapshot.views or used == SHARED
            self._context.metrics.searches.labels(used if known else "not_taught", self._route.source).inc()
        return response

    def _refuse_contradictions(self) -> None:
        by_picture, mode, weights = self._picture is not None or self._upload is not None, self._mode, self._weights
        no_text = self._text is None
        weight = (0 if no_text else weights.text) + (weights.picture if by_picture else 0)
        faults = (
            (no_text and not by_picture, "text", "missing", "say what to search for: `text`, `picture` or both"),
            (no_text and mode != "meaning", "text", "missing", "words are searched for a text"),
            (
                mode == "words" and (by_picture or self._minus_picture is not None),
                *("mode", "words_of_a_picture", "a picture has no words: use the mode `both`"),
            ),
            (not weight > 0, "weights", "all_zero", "not all of what is searched for can weigh nothing"),
            (
                mode == "both" and not weights.meaning + weights.words > 0,
                *("weights", "all_zero", "meaning and words cannot both weigh nothing"),
            ),
        )
        for is_wrong, field, code, detail in faults:
            if is_wrong:
                refuse(f"{self._place}.{field}", code, detail)

    def _choose_caption_languages(self) -> list[str]:
        """Choose the languages whose captions come with each hit: the requested, else the one used, and English."""
        requested, snapshot = self.body.captions, self._snapshot
        # without a text the language only selects the captions
        used = self._route.used if self._route else self.body.language
        used = used if self._route or used in (AUTO, SHARED) else snapshot.require_readable(used)
        if requested is None:
            return [tag for tag in dict.fromkeys((used, ENGLISH)) if tag in snapshot.captions]
        if requested == "none":
            return []
        return choose_caption_languages(None if isinstance(requested, str) else requested, snapshot)

    # --- encoded, and read from the registry --------------------------------------------------------------------------

    async def _encode(self) -> None:
        """Encode all that it names as one vector, their weighted sum."""
        weights, terms, uploaded = self._weights, list[tuple[float, Vector]](), None
        if self._upload is not None:
            digest = await self._context.lanes.search.run(hashlib.sha256, self._upload)
            self._upload_sha256 = digest.hexdigest()
            uploaded = await self._context.picture_queue.encode(self._upload)
            self._upload = None
            self._timing.record("picture")
        texts = [text for text in (self._text, self._minus_text) if text is not None]
        queries = await self._context.text_queue.encode(self._route.view, texts) if self._route else []
        by_text = dict(zip(texts, queries, strict=True))
        if self._text is not None:
            terms.append((weights.text, by_text[self._text].vector))
        if uploaded is not None:
            terms.append((weights.picture, uploaded))
        for picture, weight in ((self._picture, weights.picture), (self._minus_picture, -weights.minus_picture)):
            if picture is not None:
                terms.append((weight, await self._context.find_vector(picture, self._snapshot, self._caller)))
        if self._minus_text is not None:
            terms.append((-weights.minus_text, by_text[self._minus_text].vector))
        self._vector, self._truncated = _add_up(terms), any(query.truncated for query in queries)
        if self._route is not None:
            self._timing.record("wait", nested=queries[0].seconds)

    async def _resolve_filter_words_and_chances(self) -> None:
        """Read which pictures it may find now and which have its words, check these, and find chances and facets."""
        lane, selection, criteria = self._context.lanes.filter, self._context.selection, self._criteria
        if criteria is not None:
            self._allowed = await lane.run(selection.select_vector_keys, criteria)
        if self._mode != "meaning" and self._text is not None:
            await self._find_words(self._text)
        if self._route is not None and self._text is not None:
            await self._check_spelling(self._text, self._route.view)
        chances, allowed = self._find_calibration(), self._allowed
        if chances is not None and criteria is not None and allowed is not None:
            # keys of deleted pictures may be among them: where only these make enough, all are read again
            if chances.is_valid_among(len(allowed.keys)) and not chances.is_valid_among(allowed.least_count):
                allowed = self._allowed = await lane.run(selection.select_vector_keys, criteria, without_deleted=True)
            chances = chances if allowed and chances.is_valid_among(len(allowed.keys)) else None
        self._calibration = chances
        if self.body.facets is not None:
            self._facets = await lane.run(selection.count_facets, criteria or Criteria(), self.body.facets)

    async def _find_words(self, text: str) -> None:
        """Find pictures by words; where nobody asked for that by name, not if the registry is away or takes too long.

        Raises `RegistryUnavailable` otherwise.
        """
        lanes, snapshot, allowed = self._context.lanes, self._snapshot, self._allowed and self._allowed.keys
        used = (self._route or snapshot.route(self.body.language, text)).used
        tags = [*filter(has_stemmer, snapshot.views)] if used == SHARED else [*dict.fromkeys((used, ENGLISH))]
        deep = (MOST, 0.0) if self._mode == "words" else (MOST_WORDED, LEAST_SHARE)
        find = partial(self._context.words.find, text, snapshot.release, allowed, self._minus_text, tags, *deep)
        if self._criteria is not None:
            self._found = await lanes.filter.run(find, is_bound=self._caller.collections is not None)
        elif self.body.mode is not None:
            self._found = await lanes.words.run(find)
        else:
            self._found = await lanes.optional_words.try_to_run(find)
            self._words_unavailable = self._found is None

    async def _check_spelling(self, text: str, view: View) -> None:
        """Find the words that nobody knows and, for a first page, what may be meant by them.

        A bound key is suggested no word of captions, nor one that a language was taught: they may be of a collection
        that it does not see.
        """
        snapshot, spelling, lanes, found = self._snapshot, self._context.spelling, self._context.lanes, self._found
        missing, many = None if found is None else found.missing, snapshot.multilingual
        self._unknown, self._guessed = spelling.check(text, view, snapshot.views, missing, is_multilingual=many)
        if not self._unknown:
            return
        rest, self._known_share = (found or FoundWords()).leave_out(text, self._unknown)
        self._found = found and rest
        asked, is_bound = self._unknown[:_MOST_SUGGESTED], self._caller.collections is not None
        if self.body.cursor is not None:
            return
        if found is not None and not is_bound:
            with suppress(RegistryUnavailable):
                words = [word.lower() for word in asked]
                near = await lanes.optional_words.run(self._context.words.suggest, words, snapshot.release)
                self._suggestions = {word: near[word.lower()] for word in asked if word.lower() in near}
        for word in asked if not (is_bound and view.lexicon.words) else ():
            if word not in self._suggestions and (known := await lanes.search.run(spelling.suggest, word, view)):
                self._suggestions[word] = known

    def _find_calibration(self) -> Calibration | None:
        """Find the curves of the chances of its hits among all pictures; None where they are not known.

        They are known of a text alone: held-out captions were searched like that. A bound key gets none: they were
        measured with the pictures of all collections.
        """
        by_picture = self._named_pictures or self._upload is not None or self._upload_sha256
        if self._text is None or by_picture or self._minus_text or self._caller.collections is not None:
            return None
        calibration = None if self._route is None else self._snapshot.find_calibration(self._route)
        share = self._known_share * (GUESSED if self._guessed else 1.0)
        return calibration and replace(calibration, share=share)

    # --- run and described, in one thread -----------------------------------------------------------------------------

    def _run(self, unwanted: frozenset[str]) -> Response:
        """Rank the pictures, read captions and records of one page of them, and make the answer."""
        self._timing.record("thread")
        hits, next_cursor = self._find_page()
        self._timing.record("scan")
        answer = self._describe_page(hits, next_cursor, unwanted)
        self._timing.record("captions")
        without = exclude_fields(unwanted, facets=self.body.facets is None)
        response = Response(answer.model_dump_json(exclude=without), media_type=JSON)
        self._timing.record("json")
        return response

    def _find_page(self) -> tuple[Sequence[PictureHit], str | None]:
        """Find one page of hits, and the cursor of the next one."""
        body, cursors = self.body, self._context.cursors
        minus, weights = [self._minus_text, self._minus_picture], self._weights.model_dump()
        query: list[object] = ["question", self._mode, self._text, self._picture, *minus, weights, self._upload_sha256]
        query += [body.language, body.min_score, body.min_match]
        if self._criteria is not None:
            query += [body.filter, self._caller.id]
        # what may not change from page to page; a picture that is named may get another content, and vector
        state: list[object] = [self._snapshot.release.number, self._snapshot.picture_set.identity.name]
        if self._vector is not None and self._named_pictures:
            state.append(hashlib.sha256(self._vector.tobytes()).hexdigest()[:16])
        return cursors.paginate(
            query, body.limit, body.cursor, self._rank, lambda hit: (hit.picture, hit.score, hit.rank), state
        )

    def _rank(self, count: int, place: Sequence[Any] | None) -> Sequence[PictureHit]:
        """Rank the `count` best pictures after a place. Two rankings are fused as a whole, for every page again."""
        after = None if place is None else PictureHit(*place)
        found, least, excluded = self._found or FoundWords(), self.body.min_score, self._named_pictures
        word_hits = [hit for hit in found.hits if hit.picture not in excluded]
        if self._vector is None:
            return list_hits_after(rank_by_words(word_hits, least), count, after)
        allowed, chances, snapshot = self._allowed and self._allowed.keys, self._calibration, self._snapshot
        search, vector = snapshot.search_pictures, self._vector
        find = partial(search, vector, min_score=least, allowed=allowed, excluded_ids=excluded, calibration=chances)
        if self._mode == "meaning":
            return find(count, after)
        weights, least_match = (self._weights.meaning, self._weights.words), self.body.min_match if chances else None
        shares = partial(snapshot.measure_shares, found)
        return Fusion(find, word_hits, weights, shares, chances is not None, least_match).list_hits_after(count, after)

    def _describe_page(
        self, hits: Sequence[PictureHit], next_cursor: str | None, unwanted: frozenset[str]
    ) -> schemas.PictureHits:
        """Describe a page of hits, with captions, and with records unless all their fields are `unwanted`."""
        body, within, has_chances = self.body, self._caller.collections, self._calibration is not None
        nothing_likely = has_chances and body.cursor is None and not any(hit.likely for hit in hits)
        least = body.min_match if has_chances else None
        reached = [hit for hit in hits if hit.has_chance(least)]  # those below follow all others
        below, hits = len(hits) - len(reached), reached
        records: Mapping[str, Record] | None = {}  # None while the registry does not answer
        if within is not None or _RECORD_FIELDS - unwanted:
            records = self._context.hit_records.read([hit.picture for hit in hits], within)
        if within is not None and records is not None:
            hits = [hit for hit in hits if hit.picture in records]  # one may have been moved away since it was allowed
        captions, picture_set = self._read_captions(hits, records), self._snapshot.picture_set
        warnings = {
            "nothing_likely": nothing_likely,
            "records_unavailable": records is None,
            "words_unavailable": records is not None and self._words_unavailable,
            "match_unknown": body.min_match is not None and not has_chances,  # it cuts nothing
            "not_known_to_base": bool(self._guessed),
            "unknown_words": bool(self._unknown),
        }
        route, found, language = self._route, records or {}, None
        if route is not None:
            language = schemas.QueryLanguage.model_validate(route)
            language.terms = self._context.terms.current.get(route.used)
            is_counted = self._context.settings.unknown_words and route.used in self._snapshot.views
            if is_counted and self._unknown and self._text is not None and body.cursor is None:
                self._context.unknown_words.count(route.used, route.view.read(self._text).unknown)
        return schemas.PictureHits(
            items=[self._describe_hit(hit, captions.get(hit.picture, {}), found.get(hit.picture)) for hit in hits],
            facets=self._facets,
            language=language,
            version=route.view.version if route else None,
            release=self._snapshot.release.number,
            generation=picture_set.generation if within is None else picture_set.identity.name,
            truncated=self._truncated,
            warnings=[*(route.warnings if route else ()), *(each for each, so in warnings.items() if so)],
            unknown_words=self._unknown,
            did_you_mean=self._suggestions,
            guessed_words=self._guessed,
            below_min_match=None if least is None else below,
            next_cursor=None if below else next_cursor,
            timing_ms=count_milliseconds(self.started),
        )

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
        by_words = {hit.picture for hit in hits if hit.words is not None}.intersection(visible)
        others = [tag for tag in sorted(snapshot.captions) if tag not in self._caption_languages]
        terms = extract_query_terms(self._text, snapshot.views) if others and by_words else []
        for picture, by_tag in snapshot.list_captions(list(by_words), others).items() if terms else ():
            matching = ((tag, filter_by_terms(texts, terms)) for tag, texts in by_tag.items())
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
            **{name: record and getattr(record, name) for name in _RECORD_FIELDS},
        )


def choose_caption_languages(requested: list[str] | None, snapshot: Snapshot) -> list[str]:
    """Choose the requested languages in canonical form, without duplicates; by default all with captions."""
    tags = sorted(snapshot.captions) if requested is None else map(snapshot.require_readable, requested)
    return list(dict.fromkeys(tags))


def _add_up(terms: list[tuple[float, Vector]]) -> Vector:
    """Return the weighted sum of the vectors, of unit length; a single vector comes back unchanged."""
    used = [(weight, vector) for weight, vector in terms if weight]
    if len(used) == 1:
        return used[0][1]
    total = np.sum([weight * vector.astype(np.float64) for weight, vector in used], axis=0)
    length = float(np.linalg.norm(total))
    if length < _NOTHING_LEFT * max(abs(weight) for weight, _ in used):
        refuse("body.minus", "nothing_left", "what is searched for and `minus` are the same")
    unit: Vector = (total / length).astype(np.float32)
    return unit
