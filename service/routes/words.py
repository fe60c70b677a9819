"""The routes of words: which ones a gallery asks a speaker for, and what the speaker answers."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from model.languages import ENGLISH, canonicalize
from service import values
from service.auth import GuardedRoute, require_scope
from service.context import AppContext, Caller, Context
from service.schemas import words as schemas
from service.words import NEEDED, clean_answers, count_captions
from store.errors import FieldError, InvalidInput

router = APIRouter(prefix="/v1/languages", tags=["languages"], route_class=GuardedRoute)


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
    asked = await context.lanes.asking.run(context.asker.choose, tag, count, caller.collections)
    answers = await run_in_threadpool(context.registry.answers.list, tag)
    items = [schemas.AskedWord(english="", word=word, pictures=[], asked_for=n) for word, n in unknown[: count // 2]]
    items += [schemas.AskedWord(english=each.english, pictures=[*each.pictures]) for each in asked.words]
    return schemas.AskedWords(
        items=items[:count], covered=asked.covered, answered=count_captions(answers), needed=NEEDED
    )


@router.post("/{tag}/words")
@require_scope("write")
async def keep_answers(tag: str, body: schemas.Answers, context: AppContext, caller: Caller) -> schemas.Kept:
    """Keep what a speaker answers, at once; a word that is sent again is corrected. Nothing is taught by this.

    Without captions, the language has no word for it, and it is not asked again.
    """
    tag, answers = _require_tag(tag), clean_answers(body.words)
    await run_in_threadpool(context.registry.answers.keep, tag, answers, caller.id)
    kept = await run_in_threadpool(context.registry.answers.list, tag)
    return schemas.Kept(answered=count_captions(kept), needed=NEEDED)


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
        place = FieldError("path.tag", "base_language")
        raise InvalidInput("English is built in: its words need not be asked for", errors=(place,))
    return tag
