"""`search`: pictures for a text or a picture, captions for a picture. The service encodes, not this process."""

import json
import math
import mimetypes
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from service.cli.client import answer, service
from service.cli.output import REFUSED, AsJson, json_object, note, say, show_json, stop, table

_AUTO, _SHARED = "auto", "shared"  # no tags: detect the language; read with the shared table


def search(
    text: Annotated[str | None, typer.Argument(help="What the picture should show.")] = None,
    language: Annotated[
        str, typer.Option("--language", "-l", help="Language of text and captions: auto, shared or a tag.")
    ] = _AUTO,
    picture: Annotated[
        Path | None, typer.Option("--picture", "-p", exists=True, dir_okay=False, help="Search with this picture.")
    ] = None,
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
    """Find pictures by text or by picture, or captions for a picture."""
    if (text is None) == (picture is None) or (captions and picture is None):
        stop("Give either a text or --picture FILE; --captions needs --picture.", REFUSED)
    if min_score is not None and not math.isfinite(min_score):
        stop("--min-score must be a finite number.", REFUSED)
    if min_match is not None and text is None:
        stop("--min-match is for a text: pictures like another one have no chance of a match.", REFUSED)
    if any("\ud800" <= character <= "\udfff" for character in text or ""):  # bytes of another encoding
        stop("The text is not valid UTF-8.", REFUSED)
    asked = _filter(filter, collection)
    if asked and captions:
        stop("--captions takes no --filter and no --collection.", REFUSED)
    with service() as client:
        if picture is not None:
            response = _by_picture(client, picture, language, captions, limit, min_score, asked)
        else:
            body: dict[str, Any] = {"text": text, "language": language, "limit": limit}
            body |= {} if min_score is None else {"min_score": min_score}
            body |= {} if min_match is None else {"min_match": min_match}
            body |= {"filter": asked} if asked else {}
            response = client.post("/v1/search/pictures", json=body)
        result = answer(response)
    if as_json:
        show_json(result)
    elif captions:
        rows = [(hit["rank"], f"{hit['score']:.3f}", hit["language"], hit["caption"]) for hit in result["items"]]
        table(("rank", "score", "language", "caption"), rows, right=("rank", "score"))
    else:
        _show_pictures(result, language)


def _filter(given: str | None, collection: str | None) -> dict[str, Any]:
    """Both together; empty without either."""
    asked = json_object(given, "--filter") or {}
    if collection is None:
        return asked
    return {"must": [{"key": "collection", "match": {"value": collection}}, *([asked] if asked else [])]}


def _by_picture(
    client: httpx.Client,
    picture: Path,
    language: str,
    captions: bool,
    limit: int,
    min_score: float | None,
    asked: dict[str, Any],
) -> httpx.Response:
    """Pictures like an uploaded one, with captions in the language and in English; or captions for it."""
    form: dict[str, Any] = {"limit": str(limit)}
    named = language not in (_AUTO, _SHARED)
    if captions:
        form |= {"languages": json.dumps([language])} if named else {}
    else:
        form |= {"language": language} if named else {}
        form |= {} if min_score is None else {"min_score": str(min_score)}
        form |= {"filter": json.dumps(asked)} if asked else {}
    kind = mimetypes.guess_type(picture.name)[0] or "application/octet-stream"
    files = {"picture": (picture.name, picture.read_bytes(), kind)}
    return client.post(f"/v1/search/{'captions' if captions else 'pictures'}", data=form, files=files)


def _show_pictures(result: dict[str, Any], language: str) -> None:
    reading = result["language"]
    shown = reading["used"] if reading else language
    rows = [
        (hit["rank"], f"{hit['score']:.3f}", _chance(hit), hit["picture"], _caption(hit["captions"], shown))
        for hit in result["items"]
    ]
    if rows:
        table(("rank", "score", "match", "picture", "caption"), rows, right=("rank", "score", "match"))
    else:
        say("Nothing matches well." if result.get("below_min_match") else "No picture was found.")
    if result.get("below_min_match"):
        note("What matches less is left out: ask without --min-match to see it.")
    if reading:
        sure = "" if reading["confidence"] is None else f", {reading['confidence']:.0%} sure"
        how = f"{reading['source']}{sure}"
        note(f"Read as {shown} ({how}) by version {result['version']}, release {result['release']}.")
    for warning in result["warnings"]:
        note(f"Note: {warning.replace('_', ' ')}.")


def _chance(hit: dict[str, Any]) -> str:
    """In percent; a dash where it is not known."""
    match = hit.get("match")
    return "–" if match is None else f"{match:.0%}"


def _caption(captions: dict[str, list[str]], language: str) -> str:
    texts = captions.get(language) or captions.get("en") or next(iter(captions.values()), [])
    return texts[0] if texts else ""
