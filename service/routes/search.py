"""Search: pictures for a text, a picture or both, many such at once, captions for a picture. Encodes in queues."""

import time
from collections.abc import Callable, Mapping, Sequence

from fastapi import APIRouter, Request, Response

from index import fusion
from index.records import Record, settled
from index.selection import Wanted
from index.snapshot import SHARED, PictureHit, Snapshot
from index.vectors import Keys, VectorSet
from index.word_search import MOST, Worded
from model.calibration import Calibration
from model.words import having
from service import bodies, questions, records, values
from service.access_log import Parts
from service.auth import Body, GuardedRoute, Principal, needs
from service.bodies import unless_client_leaves
from service.context import AppContext, Caller, Context
from service.forms import picture_of
from service.openapi import taking
from service.questions import Meant, Question
from service.schemas import search as schemas

router = APIRouter(prefix="/v1/search", tags=["search"], route_class=GuardedRoute)
_OF_RECORDS = frozenset({"collection", "tags", "metadata", "etag"})  # fields of a hit that are read from the registry
_UNAVAILABLE = "records_unavailable"
_MATCH_UNKNOWN = "match_unknown"  # `min_match` cuts nothing
Place = tuple[str, float, int]  # a hit in a cursor: picture, score, rank


@router.post(
    "/pictures",
    response_model=schemas.PictureHits,
    openapi_extra=taking(json=schemas.PictureSearch, form=schemas.SimilarPictures, file="picture"),
)
@needs("search", Body.PICTURE, parted=True)
async def search_pictures(
    request: Request, context: AppContext, caller: Caller, fields: values.QueryFields = None
) -> Response:
    """Pictures for a text, like a picture of the gallery or, with a form, an uploaded one; only what the filter leaves.

    Filter and words are read from what is stored now, the vectors from the release that serves.
    """
    started, parts = time.perf_counter(), request.state.parts
    unwanted = records.LeftOut.of_one(fields, schemas.PictureHit)
    snapshot = context.live.current
    question = await questions.read(request, context, snapshot)
    meant = await unless_client_leaves(request, questions.meant(question, snapshot, context, caller))
    if question.route is not None:
        parts.end("wait", meant.seconds)
    return await answer_to(question, meant, snapshot, context, caller, unwanted, started, parts)


async def answer_to(
    question: Question,
    meant: Meant,
    snapshot: Snapshot,
    context: Context,
    caller: Principal,
    unwanted: frozenset[str],
    started: float,
    parts: Parts,
) -> Response:
    """The answer to one search for pictures, without the `unwanted` fields of each hit; raises what refuses it."""
    body, wanted = question.body, Wanted(question.filter, caller.collections)
    without = records.LeftOut(unwanted, body.facets is None)
    left = None if question.mode == "words" else await context.filtering.left(wanted)
    worded = await _worded(question, snapshot, context, wanted)
    calibration, left = await questions.among(question.calibration(snapshot, caller), left, wanted, context)
    allowed = None if left is None else left.keys
    if allowed is not None or question.mode != "meaning":
        parts.end("filter")
    facets = await context.filtering.facets(wanted, body.facets)
    named = meant.digest if question.pictures else None

    def answer() -> schemas.PictureHits:  # one visit to a thread for all of it: each costs as much as the scan
        hits, next_cursor = context.cursors.cut(
            question.identity if wanted.everything else [*question.identity, body.filter, caller.id],
            body.limit,
            body.cursor,
            _fetch(snapshot, question, meant, allowed, worded, calibration),
            lambda hit: [hit.picture, hit.score, hit.rank],
            state=[snapshot.release.number, snapshot.pictures.identity.name, *([named] if named else [])],
        )
        parts.end("scan")
        hits, below = _matching(hits, question.min_match if calibration else None)
        kept: Mapping[str, Record] | None = {}
        if caller.collections is not None or _OF_RECORDS - without.fields:
            kept = context.hit_records.read([hit.picture for hit in hits], caller)
        if caller.collections is not None and kept is not None:
            hits = [hit for hit in hits if hit.picture in kept]  # one may have been moved away since it was allowed
        found = _answer(snapshot, question, meant, hits, kept, caller)
        if question.min_match is not None and calibration is None:
            found.warnings.append(_MATCH_UNKNOWN)
        parts.end("captions")
        found.facets, found.below_min_match = facets, below
        found.next_cursor, found.timing_ms = None if below else next_cursor, _since(started)
        return found

    response = await context.answer(answer, parts, without.exclude)
    if question.route is not None:
        used = question.route.used
        known = used in snapshot.views or used == SHARED  # clients may name any tag, a metric must not have any label
        context.metrics.searches.labels(used if known else "not_taught", question.route.source).inc()
    return response


@router.post(
    "/captions",
    response_model=schemas.CaptionHits,
    openapi_extra=taking(json=schemas.CaptionSearch, form=schemas.CaptionsOfUpload, file="picture"),
)
@needs("search", Body.PICTURE, parted=True)
async def search_captions(request: Request, context: AppContext, caller: Caller) -> Response:
    """Captions for an uploaded picture or one in the gallery, `limit` in each language; only what the filter leaves.

    A base that reads more than English finds captions in languages that were not taught too, with the warning
    `language_not_taught`.
    """
    started, parts = time.perf_counter(), request.state.parts
    snapshot = context.live.current
    body: schemas.CaptionSearch | schemas.CaptionsOfUpload
    if bodies.media_type(request) == bodies.MULTIPART:
        with context.pictures.searches.place():
            data, form = await picture_of(request, context)
            body = form.parse(schemas.CaptionsOfUpload, lists=("languages",))
            tags, filter = questions.tags(body.languages, snapshot), records.filter_in_form(body.filter)
            parts.end("read")
            vector = await unless_client_leaves(request, context.pictures.encode(data))
            parts.end("picture")
    else:
        body = await bodies.read_json(request, schemas.CaptionSearch)
        tags, filter = questions.tags(body.languages, snapshot), questions.filter_of(body.filter)
        vector = await questions.vector_of(body.picture, snapshot, context, caller)
        parts.end("read")
    wanted, reader = Wanted(filter, caller.collections), snapshot.release.reader
    allowed = {tag: await context.filtering.allowed(wanted, tag, reader(tag)) for tag in tags}

    def answer() -> schemas.CaptionHits:
        captions = snapshot.search_captions(vector, tags, body.limit, allowed)
        parts.end("scan")
        found = {caption.language for caption in captions}
        if caller.collections is None:
            named = [tag for tag in tags if tag in snapshot.captions]
        else:  # it is not told which other languages the captions of other collections are in
            named = [tag for tag in tags if tag in snapshot.views or tag in found]
        return schemas.CaptionHits(
            items=[schemas.CaptionHit.model_validate(caption) for caption in captions],
            release=snapshot.release.number,
            generations={tag: generation_of(snapshot.captions[tag], caller) for tag in named},
            warnings=list(snapshot.untaught(found.union(tags if body.languages is not None else ()))),
            timing_ms=_since(started),
        )

    return await context.answer(answer, parts)


async def _worded(question: Question, snapshot: Snapshot, context: Context, wanted: Wanted) -> list[Worded]:
    """The pictures that have words of the text, where the mode asks for them."""
    if question.mode == "meaning" or question.text is None:
        return []
    release, without = snapshot.release, question.minus_text
    found = await context.filtering.words(wanted, context.words.find, question.text, release, wanted, without)
    return [each for each in found if each.picture not in question.pictures]


def _fetch(
    snapshot: Snapshot,
    question: Question,
    meant: Meant,
    allowed: Keys | None,
    worded: Sequence[Worded],
    calibration: Calibration | None,
) -> Callable[[int, Place | None], Sequence[PictureHit]]:
    """How the hits after a place are found. Two rankings are put together as a whole, for every page again."""
    least, without = question.body.min_score, question.pictures

    def fetch(count: int, place: Place | None) -> Sequence[PictureHit]:
        after = None if place is None else PictureHit(*place)
        if meant.vector is None:
            return fusion.following(fusion.by_words(worded, least), count, after)
        if question.mode == "meaning":
            return snapshot.search_pictures(meant.vector, count, after, least, allowed, without, calibration)
        weights = (question.weights.meaning, question.weights.words)
        near = snapshot.search_pictures(meant.vector, MOST, None, least, allowed, without)
        return fusion.following(fusion.fused(near, worded, weights), count, after)

    return fetch


def _matching(hits: Sequence[PictureHit], least: float | None) -> tuple[Sequence[PictureHit], int | None]:
    """The hits with at least this chance, and how many have less: all that follow, since chances fall with scores."""
    if least is None:
        return hits, None
    kept = [hit for hit in hits if hit.match is not None and hit.match >= least]
    return kept, len(hits) - len(kept)


def _answer(
    snapshot: Snapshot,
    question: Question,
    meant: Meant,
    hits: Sequence[PictureHit],
    kept: Mapping[str, Record] | None,
    caller: Principal,
) -> schemas.PictureHits:
    """The answer so far; `kept` are the records of the hits, None when these cannot be read."""
    route = question.route
    shown = [hit.picture for hit in hits]
    if caller.collections is not None:
        shown = settled(kept or {}, snapshot.change)
    captions = _captions(snapshot, question, hits, shown)
    items = [_hit(hit, question, captions.get(hit.picture, {}), (kept or {}).get(hit.picture)) for hit in hits]
    warnings = list(route.warnings) if route else []
    return schemas.PictureHits(
        items=items,
        language=schemas.LanguageUsed.model_validate(route) if route else None,
        version=route.view.version if route else None,
        release=snapshot.release.number,
        generation=generation_of(snapshot.pictures, caller),
        truncated=meant.truncated,
        warnings=warnings if kept is not None else [*warnings, _UNAVAILABLE],
        next_cursor=None,
        timing_ms=0.0,
    )


def _captions(
    snapshot: Snapshot, question: Question, hits: Sequence[PictureHit], shown: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """The captions of the pictures that are `shown`, and those by whose words they were found in other languages."""
    captions = snapshot.captions_of_each(shown, question.captions)
    if terms := question.terms:
        found = {hit.picture for hit in hits if hit.words is not None}.intersection(shown)
        others = [tag for tag in sorted(snapshot.captions) if tag not in question.captions]
        for picture, by_tag in snapshot.captions_of_each(list(found), others).items():
            matching = ((tag, having(texts, terms)) for tag, texts in by_tag.items())
            captions[picture].update((tag, texts) for tag, texts in matching if texts)
    return captions


def _hit(
    hit: PictureHit, question: Question, captions: dict[str, list[str]], record: Record | None
) -> schemas.PictureHit:
    return schemas.PictureHit(
        id=hit.picture,
        score=hit.score,
        meaning=hit.score if question.mode == "meaning" else hit.meaning,
        words=hit.words,
        rank=hit.rank,
        url=f"{records.path_of(hit.picture)}/content",
        captions=captions,
        match=hit.match,
        collection=record and record.collection,
        tags=record and list(record.tags),
        metadata=record and dict(record.metadata),
        etag=record and record.etag,
    )


def generation_of(vector_set: VectorSet, caller: Principal) -> str:
    """For a bound key without the last change: it would tell what happens in other collections."""
    return vector_set.generation if caller.collections is None else vector_set.identity.name


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1_000, 3)
