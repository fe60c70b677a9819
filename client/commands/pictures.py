"""`search`, `duplicates`: pictures, or captions for one. `pictures`: list, show, change and delete them."""

import json
import math
import mimetypes
import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..contract import PictureItem
from ..terminal import (
    REFUSED,
    Collection,
    Filter,
    JsonCommand,
    Yes,
    answer,
    format_count,
    may_ask,
    name_program,
    note,
    open_service,
    parse_object,
    print_table,
    say,
    stop,
)
from .versions import summarize_terms

Words = Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="What the picture should show, in quotes.")]
Mode = Literal["meaning", "words", "both"]
_PAGE = 100  # groups of one page of duplicates
_WARNINGS = {
    "language_not_supported": "The text does not look like any of the learned languages.",
    "language_not_taught": "This language was not taught; the base reads it as well as it can.",
    "detection_tie": "Several languages are possible: name one with --language.",
    "match_unknown": "How well a picture matches is not known for this language: --min-match has no effect.",
    "records_unavailable": "Tags and metadata cannot be read now.",
    "words_unavailable": "Looking up the words takes too long now; these were found by meaning alone.",
    "not_known_to_base": "The base does not know people, places and events; this is a guess for: {guessed}.",
    "nothing_likely": "No picture is likely to show this; these come nearest.",
    "unknown_words": "No caption has these words, and nobody taught them: {unknown}.",
}
_BY = "By meaning, by words in captions and metadata, or both: the default, but with a picture by meaning."
_LIKELY = {True: "yes", False: "less", None: None}
_AUTO, _SHARED = "auto", "shared"  # no tags: detect the language; read with the shared table
pictures = typer.Typer(help="List, change and delete pictures.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="Id of the picture.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; may be repeated. Replaces the earlier tags.")]


def search(
    words: Words = None,
    language: Annotated[
        str, typer.Option("--language", "-l", help="Language of text and captions: auto, shared or a tag.")
    ] = _AUTO,
    picture: Annotated[
        str | None, typer.Option("--picture", "-p", help="Search with this file, or with a picture of the gallery.")
    ] = None,
    like: Annotated[str | None, typer.Option("--like", help="More like the picture with this id.")] = None,
    minus: Annotated[str | None, typer.Option("--minus", help="What the pictures should not show.")] = None,
    minus_picture: Annotated[str | None, typer.Option(help="Id of a picture that they should not be like.")] = None,
    mode: Annotated[Mode | None, typer.Option("--mode", "-m", help=_BY)] = None,
    weights: Annotated[str | None, typer.Option(help='JSON, such as {"text": 2, "minus_text": 0.25}.')] = None,
    captions: Annotated[bool, typer.Option("--captions", help="With --picture: captions instead of pictures.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100)] = 10,
    min_score: Annotated[float | None, typer.Option(help="Lowest score of a result.")] = None,
    min_match: Annotated[
        float | None, typer.Option(min=0, max=1, help="Lowest chance that a result is what the text means.")
    ] = None,
    filter: Filter = None,
    collection: Collection = None,
) -> None:
    """Find pictures by text, by picture or by both, or captions for a picture."""
    text, (file, like) = _join_words(words), _choose_picture(picture, like)
    if (text is None and file is None and like is None) or (file is not None and like is not None):
        stop("Give a text, a picture, or a text and one picture.", REFUSED)
    if min_score is not None and not math.isfinite(min_score):
        stop("--min-score must be a finite number.", REFUSED)
    if re.search("[\ud800-\udfff]", (text or "") + (minus or "")):  # bytes of another encoding
        stop("The text is not valid UTF-8.", REFUSED)
    is_tag = language not in (_AUTO, _SHARED)
    body: Any = _drop_none(
        text=text,
        minus=_drop_none(text=minus, picture=minus_picture) or None,
        mode=mode,
        weights=parse_object(weights, "--weights"),
        min_score=min_score,
        min_match=min_match,
        filter=_combine_filters(filter, collection),
    )
    if captions and (body.keys() - {"filter"} or (file is None and like is None)):
        stop("--captions needs a picture; with it go --language, --limit, --filter and --collection.", REFUSED)
    kind = mimetypes.guess_type(file.name)[0] if file else None
    sent = (file.name, file.read_bytes(), kind or "application/octet-stream") if file else like
    body |= _drop_none(picture=sent, limit=limit)
    with open_service() as client:
        if captions:
            languages = {"languages": [language]} if is_tag else {}
            result: Any = client.search_captions(body | languages)
        else:
            named = {"language": language} if is_tag or text is not None else {}
            result = client.search_pictures(body | named)
    answer(result)
    if captions:
        _show_captions(result)
    else:
        _show_pictures(result, language, narrowed=bool(filter or collection))


def list_duplicates(
    min_score: Annotated[float | None, typer.Option(min=0, max=1, help="How alike two pictures are at least.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Groups to show.")] = 20,
    filter: Filter = None,
    collection: Collection = None,
) -> None:
    """Find groups of pictures that are nearly the same; in a large gallery this takes a while."""
    request = _drop_none(
        min_score=None if min_score is None else f"{min_score:.6f}",
        collection=collection,
        filter=None if filter is None else json.dumps(parse_object(filter, "--filter")),
    )
    groups, examined, cursor = list[dict[str, Any]](), 0, None
    with open_service() as client:
        while True:
            page: Any = client.list_duplicates(**request, limit=min(limit, _PAGE), cursor=cursor)
            groups, examined, cursor = groups + page["items"], examined + page["examined"], page["next_cursor"]
            if cursor is None or len(groups) >= limit:
                break
    shown = groups[:limit]
    answer({"items": shown, "examined": examined, "complete": cursor is None and len(groups) <= limit})
    rows = [
        (number if place == 0 else "", f"{each['score']:.3f}", each["id"])
        for number, group in enumerate(shown, 1)
        for place, each in enumerate(group["pictures"])
    ]
    if rows:
        print_table(("group", "score", "picture"), rows, right=("group", "score"))
    else:
        say("No two pictures are that alike.")
    more = "" if cursor is None else "; there are more: raise --limit"
    note(f"{format_count(examined, 'picture was', 'pictures were')} compared{more}.")


def _join_words(words: list[str] | None) -> str | None:
    """Return the text; exits where the shell hands it over in several pieces, for want of quotes."""
    if words is None or len(words) < 2:
        return words[0] if words else None
    stop(f"Put a text of several words in quotes: {name_program()} search {shlex.quote(' '.join(words))}", REFUSED)


def _choose_picture(picture: str | None, like: str | None) -> tuple[Path | None, str | None]:
    """Return the file of a picture to send, or the id of one in the gallery, by the options that name one."""
    if picture is None or Path(picture).is_file():
        return None if picture is None else Path(picture), like
    if like is not None or (mimetypes.guess_type(picture)[0] or "").startswith("image/"):  # --like takes any id
        stop(f"There is no file {picture}.", REFUSED)
    return None, picture


def _drop_none(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _combine_filters(given: str | None, collection: str | None) -> dict[str, Any] | None:
    filter = parse_object(given, "--filter") or None
    if collection is None:
        return filter
    return {"must": [{"key": "collection", "match": {"value": collection}}, *([filter] if filter else [])]}


def _show_captions(result: dict[str, Any]) -> None:
    rows = [(hit["rank"], f"{hit['score']:.3f}", hit["language"], hit["caption"]) for hit in result["items"]]
    print_table(("rank", "score", "language", "caption"), rows, right=("rank", "score"))
    for tag, terms in result["terms"].items():
        note(f"{tag}: {summarize_terms(terms)}")


def _show_pictures(result: dict[str, Any], language: str, *, narrowed: bool) -> None:
    """Print the hits, and how the text was read; `narrowed` by a filter or to a collection, none may be left."""
    reading, hits = result["language"], result["items"]
    shown = reading["used"] if reading else language
    is_divided = any(hit.get("likely") is not None for hit in hits)
    has_match = any(hit.get("match") is not None for hit in hits)  # of all hits or, mostly, of none
    rows = [
        (
            hit["rank"],
            f"{hit['score']:.3f}",
            *([None if hit.get("match") is None else f"{hit['match']:.0%}"] if has_match else []),
            *([_LIKELY[hit["likely"]]] if is_divided else []),
            hit["id"],
            _choose_caption(hit["captions"], shown),
        )
        for hit in hits
    ]
    if rows:
        likely = ["likely"] if is_divided else []
        columns = ("rank", "score", *(["match"] if has_match else []), *likely, "picture", "caption")
        first = sum(bool(hit.get("likely")) for hit in hits)
        print_table(columns, rows, right=("rank", "score", "match"), split=first)
    elif result.get("below_min_match"):
        say("Nothing matches well.")
    else:
        say("The filter or collection leaves no picture." if narrowed else "No picture was found.")
    if result.get("below_min_match"):
        note("Weaker matches are left out: search without --min-match to see them.")
    if reading:
        note(f"{_describe_reading(reading)} version {result['version']}, release {result['release']}.")
        if reading.get("terms"):
            note(f"{reading['used']}: {summarize_terms(reading['terms'])}")
    for warning in result["warnings"]:
        text = _WARNINGS.get(warning, f"Note: {warning.replace('_', ' ')}.")
        words = {name: ", ".join(result.get(f"{name}_words", [])) for name in ("unknown", "guessed")}
        note(text.format(**words))
    for word, near in result.get("did_you_mean", {}).items():
        note(f"Did you mean {near} instead of {word}?")


def _describe_reading(reading: dict[str, Any]) -> str:
    """Return the language that a text was read in, and who chose it; up to the number of the version."""
    if reading["source"] != "shared":
        sure = "" if reading["confidence"] is None else f", {reading['confidence']:.0%} sure"
        return f"Read as {reading['used']} ({reading['source']}{sure}) by"
    if reading["requested"] == _SHARED:
        return "Read with the shared table,"
    return "Language not certain (name it with --language): read with the shared table,"


def _choose_caption(captions: dict[str, list[str]], language: str) -> str:
    texts = captions.get(language) or captions.get("en") or next(iter(captions.values()), [])
    return texts[0] if texts else ""


@pictures.command("list", cls=JsonCommand)
def list_pictures(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 20,
    filter: Filter = None,
    collection: Collection = None,
    newest: Annotated[
        bool, typer.Option("--newest", help="By when they were taken, else added; newest first.")
    ] = False,
) -> None:
    """List pictures in the order in which they were added."""
    wanted = filter and json.dumps(parse_object(filter, "--filter"))
    sort: Literal["-shown_at"] | None = "-shown_at" if newest else None
    with open_service() as client:
        items = [*client.iterate_pictures(limit=limit, filter=wanted, collection=collection, sort=sort)]
    rows = []
    for item in items:
        languages = ", ".join(sorted({*item["captions"], *item["waiting"]}))
        size = f"{item['width']}×{item['height']}"
        rows.append((item["id"], size, item["collection"], ", ".join(item["tags"]), languages))
    answer({"items": items})
    print_table(("picture", "size", "collection", "tags", "captions in"), rows)


@pictures.command("show", cls=JsonCommand)
def show_picture(id: Id) -> None:
    """Show the record of a picture."""
    with open_service() as client:
        item = client.get_picture(id)
    answer(item)
    _show(item)


@pictures.command("edit", cls=JsonCommand)
def edit_picture(
    id: Id,
    collection: Annotated[str | None, typer.Option(help="Move it to this collection.")] = None,
    tag: Tags = None,
    metadata: Annotated[
        str | None, typer.Option(help='JSON; null removes a key: {"place": "Chur", "year": null}.')
    ] = None,
    captions: Annotated[
        str | None, typer.Option(help='JSON by language; a list replaces its captions: {"en": ["a bridge"]}.')
    ] = None,
    etag: Annotated[
        str | None, typer.Option(help="The etag that was seen; refused if the record has changed since.")
    ] = None,
) -> None:
    """Change collection, tags, metadata or captions, without sending the picture again."""
    patch: Any = {"collection": collection, "tags": tag}
    patch |= {"metadata": parse_object(metadata, "--metadata"), "captions": parse_object(captions, "--captions")}
    patch = {name: value for name, value in patch.items() if value is not None}
    if not patch:
        stop("Say what changes: --collection, --tag, --metadata or --captions.", REFUSED)
    with open_service() as client:
        item = client.patch_picture(id, patch, if_match=None if etag is None else f'"{etag}"')
    answer(item)
    _show(item)


@pictures.command("restore", cls=JsonCommand)
def restore_pictures(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of pictures that were deleted.")],
) -> None:
    """Bring back pictures that were deleted within a day, as they were."""
    with open_service() as client:
        done = client.post_changes({"ids": ids, "deleted": False})["items"]
    missing = [item["id"] for item in done if item["outcome"] == "missing"]
    there = format_count(len(done) - len(missing), "picture is", "pictures are")
    answer({"items": done}, f"{there} in the gallery.")
    if missing:
        stop(f"Not to be brought back any more: {', '.join(missing)}.", REFUSED)


@pictures.command("delete", cls=JsonCommand)
def delete_picture(
    id: Id,
    yes: Yes = False,
) -> None:
    """Delete a picture with its captions, tags and metadata.

    For a day, `pictures restore` brings it back. Its last traces go within PICTOGLOT_PURGE_DAYS, if a worker runs.

    Datasets and backups keep what they have: see "Deleting for good" in docs/operate.md.
    """
    seen = None
    with open_service() as client:
        if may_ask(yes):
            item = client.get_picture(id)
            _show(item)
            if not typer.confirm("Delete it?"):
                return
            seen = f'"{item["etag"]}"'  # what was shown is what goes
        client.delete_picture(id, if_match=seen)
    answer({"id": id, "deleted": True}, f"{id} is deleted.")


def _show(item: PictureItem) -> None:
    """Print one picture, a line for each part."""
    about = {name: item[name] for name in ("id", "name", "collection", "tags", "width", "height", "shown_at", "etag")}
    captions = {f"captions {tag}": texts for tag, texts in {**item["waiting"], **item["captions"]}.items()}
    parts = [*about.items(), *item["metadata"].items(), *captions.items()]  # metadata may have the name of another part
    rows = [(name, ", ".join(value) if isinstance(value, list) else value) for name, value in parts]
    print_table(("part", "value"), rows)
