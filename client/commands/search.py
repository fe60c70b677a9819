"""`search`: pictures for a text, a picture or both, captions for a picture; `duplicates`. The service does the work."""

import json
import math
import mimetypes
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import typer

from ..client import answer, service
from ..output import REFUSED, AsJson, counted, json_object, note, program, say, show_json, stop, table, were

Words = Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="What the picture should show, in quotes.")]
Mode = Literal["meaning", "words", "both"]
_PAGE = 100  # groups of one page of duplicates
_WARNINGS = {
    "language_not_supported": "This does not look like any of the learned languages.",
    "language_not_taught": "This language was not taught: the base reads it, as well as it can.",
    "detection_tie": "Several languages are possible: name one with --language.",
    "match_unknown": "It is not known here how well a picture matches: --min-match leaves nothing out.",
    "records_unavailable": "Tags and metadata cannot be read now.",
}
_AUTO, _SHARED = "auto", "shared"  # no tags: detect the language; read with the shared table


def search(
    words: Words = None,
    language: Annotated[
        str, typer.Option("--language", "-l", help="Language of text and captions: auto, shared or a tag.")
    ] = _AUTO,
    picture: Annotated[
        str | None,
        typer.Option("--picture", "-p", help="Search with this file, or the id of a picture in the gallery."),
    ] = None,
    like: Annotated[str | None, typer.Option("--like", help="More like the picture with this id.")] = None,
    minus: Annotated[str | None, typer.Option("--minus", help="What the pictures should not show.")] = None,
    minus_picture: Annotated[str | None, typer.Option(help="Id of a picture that they should not be like.")] = None,
    mode: Annotated[
        Mode, typer.Option("--mode", "-m", help="By meaning, by words in what is written, or both.")
    ] = "meaning",
    weights: Annotated[str | None, typer.Option(help='JSON, such as {"text": 2, "minus_text": 0.25}.')] = None,
    captions: Annotated[bool, typer.Option("--captions", help="With --picture: captions instead of pictures.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100)] = 10,
    min_score: Annotated[float | None, typer.Option(help="Lowest score of a result.")] = None,
    min_match: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least chance that a result is what the text means.")
    ] = None,
    filter: Annotated[
        str | None, typer.Option("--filter", help='JSON, such as {"must": [{"key": "tags", "match": {"value": "x"}}]}.')
    ] = None,
    collection: Annotated[str | None, typer.Option(help="Only pictures in this collection.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find pictures by text, by picture or by both, or captions for a picture."""
    text = _one(words)
    file, like = _file_or_id(picture, like)
    if (text is None and file is None and like is None) or (file is not None and like is not None):
        stop("Give a text, a picture, or a text and one picture.", REFUSED)
    _refuse_what_no_json_has(min_score, text, minus)
    said = _given(
        text=text,
        minus=_given(text=minus, picture=minus_picture) or None,
        mode=None if mode == "meaning" else mode,
        weights=json_object(weights, "--weights"),
        min_score=min_score,
        min_match=min_match,
        filter=_filter(filter, collection) or None,
    )
    if captions and (said.keys() - {"filter"} or (file is None and like is None)):
        stop("--captions needs a picture; with it go --language, --limit, --filter and --collection.", REFUSED)
    with service() as client:
        if captions:
            result = answer(_captions_of(client, file, like, said, language, limit))
        elif file is not None:
            result = answer(_by_file(client, file, said, language, limit))
        else:
            body = {**said, "language": language, "limit": limit, **({"picture": like} if like else {})}
            result = answer(client.post("/v1/search/pictures", json=body))
    if as_json:
        show_json(result)
    elif captions:
        _show_captions(result)
    else:
        _show_pictures(result, language, narrowed=bool(filter or collection))


def duplicates(
    min_score: Annotated[float | None, typer.Option(min=0, max=1, help="How alike two pictures are at least.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Groups to show.")] = 20,
    filter: Annotated[str | None, typer.Option("--filter", help="JSON, as with `search`.")] = None,
    collection: Annotated[str | None, typer.Option(help="Only pictures in this collection.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find groups of pictures that are nearly the same. A large gallery takes a while."""
    given: dict[str, str] = {} if min_score is None else {"min_score": f"{min_score:.6f}"}
    given |= {} if collection is None else {"collection": collection}
    given |= {"filter": json.dumps(asked)} if (asked := json_object(filter, "--filter")) is not None else {}
    groups, examined, cursor = list[dict[str, Any]](), 0, None
    with service() as client:
        while True:
            query = {**given, "limit": str(min(limit, _PAGE)), **({"cursor": cursor} if cursor else {})}
            page = answer(client.get("/v1/duplicates", params=query))
            groups, examined, cursor = groups + page["items"], examined + page["examined"], page["next_cursor"]
            if cursor is None or len(groups) >= limit:
                break
    shown = groups[:limit]
    if as_json:
        show_json({"items": shown, "examined": examined, "complete": cursor is None and len(groups) <= limit})
        return
    rows = [
        (number if place == 0 else "", f"{each['score']:.3f}", each["id"])
        for number, group in enumerate(shown, 1)
        for place, each in enumerate(group["pictures"])
    ]
    if rows:
        table(("group", "score", "picture"), rows, right=("group", "score"))
    else:
        say("No two pictures are that alike.")
    more = "" if cursor is None else "; there are more: raise --limit"
    note(f"{counted(examined, 'picture')} {were(examined)} compared{more}.")


def _one(words: list[str] | None) -> str | None:
    """The text, which the shell hands over in several pieces where it has blanks and no quotes."""
    if words is None or len(words) < 2:
        return words[0] if words else None
    stop(f"Put a text of several words in quotes: {program()} search {shlex.quote(' '.join(words))}", REFUSED)


def _file_or_id(picture: str | None, like: str | None) -> tuple[Path | None, str | None]:
    """The file of a picture to send, or the id of one in the gallery, by the options that name one."""
    if picture is None or Path(picture).is_file():
        return None if picture is None else Path(picture), like
    if like is not None or (mimetypes.guess_type(picture)[0] or "").startswith("image/"):  # --like takes any id
        stop(f"There is no file {picture}.", REFUSED)
    return None, picture


def _refuse_what_no_json_has(number: float | None, *texts: str | None) -> None:
    if number is not None and not math.isfinite(number):
        stop("--min-score must be a finite number.", REFUSED)
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text or ""):
        stop("The text is not valid UTF-8.", REFUSED)  # bytes of another encoding


def _given(**values: object) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in values.items() if value is not None}


def _filter(given: str | None, collection: str | None) -> dict[str, Any]:
    """Both together; empty without either."""
    asked = json_object(given, "--filter") or {}
    if collection is None:
        return asked
    return {"must": [{"key": "collection", "match": {"value": collection}}, *([asked] if asked else [])]}


def _by_file(client: httpx.Client, file: Path, said: dict[str, Any], language: str, limit: int) -> httpx.Response:
    """Pictures like an uploaded one, with captions in the language and in English."""
    fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in said.items()}
    if "text" in said or language not in (_AUTO, _SHARED):
        fields["language"] = language
    return client.post("/v1/search/pictures", data={**fields, "limit": str(limit)}, files=_file(file))


def _captions_of(
    client: httpx.Client, file: Path | None, like: str | None, said: dict[str, Any], language: str, limit: int
) -> httpx.Response:
    body = {**said, "limit": limit, **({} if language in (_AUTO, _SHARED) else {"languages": [language]})}
    if file is None:
        return client.post("/v1/search/captions", json={**body, "picture": like})
    form = {name: json.dumps(value) for name, value in body.items()}
    return client.post("/v1/search/captions", data=form, files=_file(file))


def _file(file: Path) -> dict[str, Any]:
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return {"picture": (file.name, file.read_bytes(), kind)}


def _show_captions(result: dict[str, Any]) -> None:
    rows = [(hit["rank"], f"{hit['score']:.3f}", hit["language"], hit["caption"]) for hit in result["items"]]
    table(("rank", "score", "language", "caption"), rows, right=("rank", "score"))


def _show_pictures(result: dict[str, Any], language: str, *, narrowed: bool) -> None:
    """The hits, and how the text was read; `narrowed` by a filter or to a collection, none may be left."""
    reading = result["language"]
    shown = reading["used"] if reading else language
    known = any(hit.get("match") is not None for hit in result["items"])  # of all hits or, mostly, of none
    rows = [
        (
            hit["rank"],
            f"{hit['score']:.3f}",
            *([_chance(hit)] if known else []),
            hit["id"],
            _caption(hit["captions"], shown),
        )
        for hit in result["items"]
    ]
    if rows:
        columns = ("rank", "score", *(["match"] if known else []), "picture", "caption")
        table(columns, rows, right=("rank", "score", "match"))
    else:
        none = "No picture is left by the filter or collection." if narrowed else "No picture was found."
        say("Nothing matches well." if result.get("below_min_match") else none)
    if result.get("below_min_match"):
        note("What matches less is left out: ask without --min-match to see it.")
    if reading:
        note(f"{_how_read(reading)} version {result['version']}, release {result['release']}.")
    for warning in result["warnings"]:
        note(_WARNINGS.get(warning, f"Note: {warning.replace('_', ' ')}."))


def _how_read(reading: dict[str, Any]) -> str:
    """The language that a text was read in, and who chose it; up to the number of the version."""
    if reading["source"] != "shared":
        sure = "" if reading["confidence"] is None else f", {reading['confidence']:.0%} sure"
        return f"Read as {reading['used']} ({reading['source']}{sure}) by"
    if reading["requested"] == _SHARED:
        return "Read with the shared table,"
    return "Language not certain (name it with --language): read with the shared table,"


def _chance(hit: dict[str, Any]) -> str:
    """In percent; a dash where it is not known."""
    match = hit.get("match")
    return "–" if match is None else f"{match:.0%}"


def _caption(captions: dict[str, list[str]], language: str) -> str:
    texts = captions.get(language) or captions.get("en") or next(iter(captions.values()), [])
    return texts[0] if texts else ""
