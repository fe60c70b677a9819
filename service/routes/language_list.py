"""The routes that say what is known of languages: the list, one of them, its tag by its name, its terms."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

from fastapi import APIRouter

from index.records import Collections
from index.snapshot import Snapshot
from model.languages import MANY, can_read, canonicalize, find_names, find_special_letters, suggest
from service import values
from service.auth import GuardedRoute, require_scope
from service.context import AppContext, Caller, Context
from service.schemas import languages as schemas
from service.schemas.terms import LanguageTerms, Terms
from store.versions import Version

router = APIRouter(prefix="/v1/languages", tags=["languages"], route_class=GuardedRoute)
_SAMPLE = 5_000  # captions whose letters are looked at


@router.get("")
@require_scope("search", allows_bound_keys=True)
def list_languages(context: AppContext, caller: Caller) -> schemas.Languages:
    """The languages that are served, that the base reads, that captions are in, or that were assessed.

    With a key that is bound to collections, `captions` counts those of their pictures.
    """
    snapshot = context.live.current
    describe = _LanguageDescriber(context, snapshot, caller.collections)
    items = [describe(tag) for tag in describe.list_known()]
    return schemas.Languages(items=items, shared_version=snapshot.release.shared, release=snapshot.release.number)


@router.get("/names")
@require_scope("search", allows_bound_keys=True)
def suggest_languages(
    context: AppContext, query: values.QueryName, limit: values.QueryLimit = 10
) -> schemas.SuggestedLanguages:
    """Suggest languages that a text may name: by tag, code of ISO 639-3, or name in any language; best first.

    A private tag (`x-…`) suggests itself.
    """
    served = context.live.current.release.languages
    items = []
    for each in suggest(query, limit):
        names = find_names(each.tag)
        items.append(
            schemas.SuggestedLanguage(
                language=each.tag,
                name=names.name,
                native_name=names.native_name,
                direction=names.direction,
                matched=each.matched,
                iso639_3=each.alpha3,
                served=each.tag in served,
            )
        )
    return schemas.SuggestedLanguages(items=items)


@router.get("/{tag}")
@require_scope("search", allows_bound_keys=True)
def get_language(tag: str, context: AppContext, caller: Caller) -> schemas.LanguageDetail:
    """Describe one language, also one that nobody taught yet: as in the list, with its special letters.

    Until it is taught, a key that is bound to collections sees those of captions in them.
    """
    tag = canonicalize(tag)
    item = _LanguageDescriber(context, context.live.current, caller.collections)(tag)
    letters = item.report.model_dump().get("letters") if item.taught else None
    if letters is None:
        found = context.registry.answers.list(tag) if caller.collections is None else []
        answers = (text for each in found for text in each.captions)
        captions = (text for _, text in context.registry.proposals.list_captions(tag, _SAMPLE, caller.collections))
        letters = find_special_letters(chain(answers, captions))
    return schemas.LanguageDetail(**item.model_dump(by_alias=True), letters=letters)


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
        self._snapshot, self._terms = snapshot, context.registry.terms.list_current()
        numbers = sorted(set(snapshot.release.languages.values()))
        self._versions = {number: context.registry.versions.get(number) for number in numbers}
        self._counts, self._assessed = _count_captions(context, snapshot, within), _list_assessed(context)
        self._listed, self._waiting = set(snapshot.built_in) - {MANY}, context.registry.waiting.count()

    def list_known(self) -> list[str]:
        """List the tags of those that are served, built in, assessed, or have captions."""
        captioned = {tag for tag, count in self._counts.items() if count}
        captioned |= self._waiting.keys()
        return sorted({*self._snapshot.release.languages, *captioned, *self._listed, *self._assessed})

    def __call__(self, tag: str) -> schemas.LanguageItem:
        """Describe one language, known or not."""
        snapshot, versions = self._snapshot, self._versions
        language, version = find_names(tag), versions.get(snapshot.release.languages.get(tag, -1))
        report = {} if version is None else _find_english(versions) if version.parent is None else version.report
        assessment = self._assessed.get(tag)
        return schemas.LanguageItem(
            language=tag,
            name=language.name,
            native_name=language.native_name,
            direction=language.direction,
            version=version.number if version else snapshot.release.base if snapshot.multilingual else None,
            captions=self._counts.get(tag, 0),
            learned_at=version.created_at if version else None,
            report=schemas.Measured.model_validate(report),
            taught=version is not None and version.parent is not None,
            built_in=can_read(self._listed, tag)
            or (snapshot.multilingual and assessment is not None and assessment.reads),
            assessed=assessment,
            terms=LanguageTerms.describe(self._terms.get(tag)),
            waiting=0 if version is not None and version.parent is not None else self._waiting.get(tag, 0),
        )


def _count_captions(context: Context, snapshot: Snapshot, within: Collections) -> dict[str, int]:
    """Count the captions of each language that is searched, in all or in these collections."""
    if within is None:
        return {tag: captions.count for tag, captions in snapshot.captions.items()}
    visible, reader = context.registry.releases.find_visible, snapshot.release.find_version
    expansions = {tag: visible(tag, reader(tag)) for tag in snapshot.captions}
    return {tag: context.selection.count_captions(tag, visible, within) for tag, visible in expansions.items()}


def _list_assessed(context: Context) -> dict[str, schemas.Assessed]:
    """List the newest assessment of each language with this base."""
    return {
        tag: schemas.Assessed.model_validate(
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
