"""The routes of what is known of languages and of what speakers give: names, terms, words, captions for pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain, islice
from typing import Any

import regex
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from index.live import LiveIndex
from index.records import Collections, Patch, Precondition
from index.snapshot import Snapshot
from model.languages import ENGLISH, MANY, can_read, canonicalize, find_names, find_special_letters, suggest
from model.text import clean
from service import schemas as values
from service.auth import AppContext, Caller, GuardedRoute, require_scope
from service.context import Context
from service.people import Principal
from service.problems import refuse
from service.requests import locate_error
from service.schemas import languages as language_schemas
from service.schemas import speakers as schemas
from service.schemas.speakers import LanguageTerms, Terms
from service.wanted_words import clean_answers, count_captions, count_needed
from store.errors import RecordChanged
from store.speakers import ProposalRow, Proposer
from store.versions import Version, keep_figures

router = APIRouter(prefix="/v1/languages", tags=["languages"], route_class=GuardedRoute)
_SAMPLE = 5_000  # captions whose letters are looked at
_SMALL = regex.compile(r"[\p{P}\p{Z}]+")  # what does not matter for two to agree
_ATTEMPTS = 5  # to add a caption while others change the picture


@router.get("")
@require_scope("search", allows_bound_keys=True)
def list_languages(context: AppContext, caller: Caller) -> language_schemas.Languages:
    """The languages that are served, that the base reads, that captions are in, or that were assessed.

    With a key that is bound to collections, `captions` counts those of their pictures.
    """
    snapshot = context.live.current
    describe = _LanguageDescriber(context, snapshot, caller.collections)
    items = [describe(tag) for tag in describe.list_known()]
    return language_schemas.Languages(
        items=items, shared_version=snapshot.release.shared, release=snapshot.release.number
    )


@router.get("/names")
@require_scope("search", allows_bound_keys=True)
def suggest_languages(
    context: AppContext, query: values.QueryName, limit: values.QueryLimit = 10
) -> language_schemas.SuggestedLanguages:
    """Suggest languages that a text may name: by tag, ISO 639-3, Glottocode, or name in any language; best first.

    A private tag (`x-…`) suggests itself.
    """
    served = context.live.current.release.languages
    items = [
        language_schemas.SuggestedLanguage(
            language=each.tag,
            **asdict(find_names(each.tag)),
            matched=each.matched,
            iso639_3=each.alpha3,
            glottocode=each.glottocode,
            served=each.tag in served,
        )
        for each in suggest(query, limit)
    ]
    return language_schemas.SuggestedLanguages(items=items)


@router.get("/{tag}")
@require_scope("search", allows_bound_keys=True)
def get_language(tag: str, context: AppContext, caller: Caller) -> language_schemas.LanguageDetail:
    """Describe one language, also one that nobody taught yet: as in the list, with its special letters.

    Until it is taught, a key that is bound to collections sees those of captions in them.
    """
    tag = canonicalize(tag)
    item = _LanguageDescriber(context, context.live.current, caller.collections)(tag)
    letters = item.report.model_dump().get("letters") if item.taught else None
    if letters is None:
        found = context.registry.answers.list(tag) if caller.collections is None else []
        answers = (text for each in found for text in each.captions)
        captions = context.registry.proposals.iterate_captions(tag, caller.collections)
        letters = find_special_letters(chain(answers, (text for _, text in islice(captions, _SAMPLE))))
    return language_schemas.LanguageDetail(**item.model_dump(by_alias=True), letters=letters)


@router.put("/{tag}/terms")
@require_scope("write")
def set_terms(tag: str, body: Terms, context: AppContext, caller: Caller) -> LanguageTerms | None:
    """Set the terms of a language, in place of those before; empty ones take them away: null.

    Terms that stand are changed by an administrator alone.
    """
    tag = canonicalize(tag)
    stored = context.registry.terms.set(tag, body.pack(), caller.id, may_change=caller.scope == "admin")
    context.terms.refresh()
    return LanguageTerms.describe(stored)


class _LanguageDescriber:
    """Describes languages as one snapshot serves them; captions are counted in these collections."""

    def __init__(self, context: Context, snapshot: Snapshot, within: Collections) -> None:
        self._snapshot, self._terms, self._within = snapshot, context.registry.terms.list_current(), within
        numbers = sorted(set(snapshot.release.languages.values()))
        self._versions = {number: context.registry.versions.get(number) for number in numbers}
        self._counts, self._assessed = _count_captions(context, snapshot, within), _list_assessed(context)
        self._listed, self._waiting = set(snapshot.built_in) - {MANY}, context.registry.waiting.count()

    def list_known(self) -> list[str]:
        """List the tags of those that are served, built in, assessed, or have captions."""
        captioned = {tag for tag, count in self._counts.items() if count}
        captioned |= self._waiting.keys()
        return sorted({*self._snapshot.release.languages, *captioned, *self._listed, *self._assessed})

    def __call__(self, tag: str) -> language_schemas.LanguageItem:
        """Describe one language, known or not."""
        snapshot, versions = self._snapshot, self._versions
        version = versions.get(snapshot.release.languages.get(tag, -1))
        report = {} if version is None else _find_english(versions) if version.parent is None else version.report
        if self._within is not None:  # it may quote captions of other collections
            report = keep_figures(report) | {name: report[name] for name in {"letters"} & report.keys()}
        assessment = self._assessed.get(tag)
        return language_schemas.LanguageItem(
            language=tag,
            **asdict(find_names(tag)),
            version=version.number if version else snapshot.release.base if snapshot.multilingual else None,
            captions=self._counts.get(tag, 0),
            learned_at=version.created_at if version else None,
            report=language_schemas.Evaluation.model_validate(report),
            taught=version is not None and version.parent is not None,
            built_in=can_read(self._listed, tag)
            or (snapshot.multilingual and assessment is not None and assessment.reads),
            assessed=assessment,
            terms=LanguageTerms.describe(self._terms.get(tag)),
            waiting=self._waiting.get(tag, 0),
        )


def _count_captions(context: Context, snapshot: Snapshot, within: Collections) -> dict[str, int]:
    """Count the captions of each language that is searched, in all or in these collections."""
    if within is None:
        return {tag: captions.count for tag, captions in snapshot.captions.items()}
    visible, reader = context.registry.releases.find_visible, snapshot.release.find_version
    expansions = {tag: visible(tag, reader(tag)) for tag in snapshot.captions}
    return {tag: context.selection.count_captions(tag, visible, within) for tag, visible in expansions.items()}


def _list_assessed(context: Context) -> dict[str, language_schemas.Assessment]:
    """List the newest assessment of each language with this base."""
    return {
        tag: language_schemas.Assessment.model_validate(
            {**(expansion.report or {}), "expansion": expansion.id, "at": expansion.finished_at}
        )
        for tag, expansion in context.registry.expansions.find_assessments(context.encoder.base_fingerprint).items()
    }


def _find_english(versions: Mapping[int, Version]) -> dict[str, Any]:
    """Find the base's evaluation in English, on the held-out pictures of the newest language that has any."""
    for number in sorted(versions, reverse=True):
        english: dict[str, Any] = versions[number].report.get("english") or {}
        if english.get("against") == "pictures" and english.get("pairs"):
            return english
    return {}


@router.get("/{tag}/words")
@require_scope("search", allows_bound_keys=True)
async def list_words(
    tag: str, context: AppContext, caller: Caller, count: values.QueryCount = 200
) -> schemas.AskedWords:
    """List English words to ask a speaker for: those that name most of the pictures which have no word yet.

    First, where they are counted, words of searches that nobody taught, at most half of the list. The others are
    chosen by the base alone, without captions. What was taught or answered is not asked again. With a key that is bound
    to collections, only their pictures count. The first time, the base reads some thousand words: until it has, the
    answer is 503 `overloaded`.
    """
    tag = _require_tag(tag)
    unknown = await run_in_threadpool(_list_unknown, context, tag) if caller.collections is None else []
    words, covered = await context.lanes.asking.run(context.asker.choose, tag, count, caller.collections)
    answers = await run_in_threadpool(context.registry.answers.list, tag)
    items = [schemas.AskedWord(english="", word=word, pictures=[], asked_for=n) for word, n in unknown[: count // 2]]
    items += [schemas.AskedWord(english=each.english, pictures=[*each.pictures]) for each in words]
    needed = await run_in_threadpool(count_needed, context.registry, tag, "words")
    return schemas.AskedWords(items=items[:count], covered=covered, answered=count_captions(answers), needed=needed)


@router.post("/{tag}/words")
@require_scope("write")
async def keep_answers(tag: str, body: schemas.Answers, context: AppContext, caller: Caller) -> schemas.AnswerCounts:
    """Keep what a speaker answers, at once. A word that is sent again is corrected; what others answered stays.

    Without captions, the language has no word for it, and it is not asked again. Nothing is taught by this.
    """
    tag, (answers, more) = _require_tag(tag), clean_answers(body.words)
    await run_in_threadpool(context.registry.answers.keep, tag, answers, caller.id, more=more)
    kept = await run_in_threadpool(context.registry.answers.list, tag)
    needed = await run_in_threadpool(count_needed, context.registry, tag, "words")
    return schemas.AnswerCounts(answered=count_captions(kept), needed=needed)


def _list_unknown(context: Context, tag: str) -> list[tuple[str, int]]:
    """List words of searches in the language that are not understood, if they are counted."""
    view = context.live.current.views.get(tag)
    if not context.settings.unknown_words or view is None:
        return []
    context.unknown_words.store()
    return context.unknown_words.list(tag, view)


def _require_tag(text: str) -> str:
    """Return the canonical tag of a language that can be taught; raises `LanguageTagInvalid`, `InvalidInput`."""
    if (tag := canonicalize(text)) == ENGLISH:
        refuse("path.tag", "base_language", "English is built in: its words need not be asked for")
    return tag


@router.get("/{tag}/captions/wanted")
@require_scope("search")
async def list_wanted(
    tag: str, context: AppContext, caller: Caller, count: values.QueryCount = 20, name: values.QueryPerson = ""
) -> schemas.WantedPictures:
    """List pictures without a caption in a language, which this person (key and name) has not captioned yet.

    First those for which somebody else has proposed one.
    """
    tag, proposals, person = canonicalize(tag), context.registry.proposals, _make_proposer(caller, name)
    pictures = await context.lanes.filter.run(proposals.find_wanted, tag, person, count)
    waiting = await run_in_threadpool(proposals.list, tag, accepted=False, pictures=pictures) if pictures else []
    by_picture: dict[str, list[ProposalRow]] = {picture: [] for picture in pictures}
    for each in waiting:
        by_picture[each.picture].append(each)
    items = [
        schemas.WantedPicture(picture=picture, proposals=_describe(by_picture[picture], caller)) for picture in pictures
    ]
    return schemas.WantedPictures(items=items, **await _count(context, tag))


@router.post("/{tag}/captions")
@require_scope("write")
async def propose_caption(
    tag: str, body: schemas.CaptionProposal, context: AppContext, caller: Caller
) -> schemas.ProposalResult:
    """Propose a caption for a picture; it becomes one when another person proposes the same, or a keeper accepts it.

    Punctuation and capital letters do not matter. Sent again by the same person, it is corrected.
    """
    tag = canonicalize(tag)
    with locate_error("text"):
        text = clean(body.text)
    canonical, person = _SMALL.sub(" ", text).casefold().strip(), _make_proposer(caller, body.name)
    alike = await run_in_threadpool(context.registry.proposals.propose, tag, body.picture, text, canonical, person)
    agreed = len(alike) > 1
    if agreed:
        await _accept(alike, caller, context)
    return schemas.ProposalResult(accepted=agreed, **await _count(context, tag))


@router.get("/{tag}/captions")
@require_scope("search")
def list_proposals(
    tag: str, context: AppContext, caller: Caller, accepted: values.QueryFlag = "false", count: values.QueryCount = 200
) -> schemas.ProposedCaptions:
    """List the proposals that wait, or those that were accepted: who wrote them, and when.

    A key that may only search is not told who.
    """
    found = context.registry.proposals.list(canonicalize(tag), accepted=accepted == "true", limit=count)
    return schemas.ProposedCaptions(items=_describe(found, caller))


@router.post("/{tag}/captions/review")
@require_scope("admin")
async def review_captions(tag: str, body: schemas.Review, context: AppContext, caller: Caller) -> schemas.ReviewResult:
    """Accept proposals as captions of their pictures, and delete others; those that do not wait are passed over."""
    tag = canonicalize(tag)
    waiting = await run_in_threadpool(context.registry.proposals.get, tag, body.accept)
    for each in waiting:
        await _accept([each], caller, context)
    await run_in_threadpool(context.registry.proposals.reject, tag, body.reject)
    return schemas.ReviewResult(accepted=len(waiting), **await _count(context, tag))


async def _accept(alike: Sequence[ProposalRow], caller: Principal, context: Context) -> None:
    """Make the first of some proposals that say the same a caption; killed in between, it can be done again."""
    await context.write_queue.run(_add_caption, context.live, context, alike[0])
    await run_in_threadpool(context.registry.proposals.accept, alike, caller.id)
    await context.refresh_successor()


def _add_caption(live: LiveIndex, context: Context, proposal: ProposalRow) -> None:
    """Add a caption to the picture's own; others may change the picture meanwhile."""
    for rest in reversed(range(_ATTEMPTS)):
        etag = context.gallery.get(proposal.picture).record.etag
        own = context.gallery.find_own_captions([proposal.picture])[proposal.picture].get(proposal.language, [])
        if proposal.text in own:
            return
        document = {"captions": {proposal.language: [*own, proposal.text]}}
        try:
            live.patch_picture(Patch(proposal.picture, document, Precondition(frozenset({etag}))))
            return
        except RecordChanged:
            if not rest:
                raise


def _make_proposer(caller: Principal, name: str) -> Proposer:
    return Proposer(caller.id, caller.label, " ".join(name.split()))


def _describe(proposals: Sequence[ProposalRow], caller: Principal) -> list[schemas.ProposedCaption]:
    hidden = {"name": "", "label": "", "accepted_by": None} if caller.scope == "search" else {}
    return [schemas.ProposedCaption.model_validate(each).model_copy(update=hidden) for each in proposals]


async def _count(context: Context, tag: str) -> dict[str, int]:
    needed = await run_in_threadpool(count_needed, context.registry, tag, "captions")
    captions = await run_in_threadpool(context.registry.proposals.count_captions, tag, needed)
    return {"captions": captions, "needed": needed}
