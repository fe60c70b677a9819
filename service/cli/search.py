"""`search`: pictures for a text or a picture, captions for a picture. Encodes nothing itself."""

import math
import mimetypes
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.client import answer, dumps, sendable, service
from service.cli.output import REFUSED, AsJson, note, say, show_json, stop, table


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command("search")(search)


def search(
    text: Annotated[str | None, typer.Argument(help="What the picture shall show.")] = None,
    language: Annotated[str, typer.Option("--language", "-l", help="auto, shared or the tag of a language.")] = "auto",
    picture: Annotated[
        Path | None, typer.Option("--picture", "-p", exists=True, dir_okay=False, help="Search with this picture.")
    ] = None,
    captions: Annotated[bool, typer.Option("--captions", help="With --picture: captions instead of pictures.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100)] = 10,
    min_score: Annotated[float | None, typer.Option(help="Least score of a picture.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find pictures by text or by picture, or captions for a picture."""
    if (text is None) == (picture is None) or (captions and picture is None):
        stop("Give either a text or --picture FILE; --captions goes with a picture.", REFUSED)
    if min_score is not None and not math.isfinite(min_score):
        stop("--min-score is no number.", REFUSED)
    if text is not None and not sendable(text):
        stop("The text is not UTF-8.", REFUSED)
    with service() as client:
        if picture is not None:
            wanted: dict[str, Any] = {"limit": str(limit)}
            if captions and language not in ("auto", "shared"):
                wanted["languages"] = dumps([language])
            if not captions and min_score is not None:
                wanted["min_score"] = str(min_score)
            kind = mimetypes.guess_type(picture.name)[0] or "application/octet-stream"
            files = {"picture": (picture.name, picture.read_bytes(), kind)}
            path = "/v1/search/captions" if captions else "/v1/search/pictures"
            found = answer(client.post(path, data=wanted, files=files))
        else:
            body: dict[str, Any] = {"text": text, "language": language, "limit": limit}
            body |= {} if min_score is None else {"min_score": min_score}
            found = answer(client.post("/v1/search/pictures", json=body))
    if as_json:
        show_json(found)
    elif captions:
        rows = [(hit["rank"], f"{hit['score']:.3f}", hit["language"], hit["caption"]) for hit in found["items"]]
        table(("rank", "score", "language", "caption"), rows, right=("rank", "score"))
    else:
        _pictures(found)


def _pictures(found: dict[str, Any]) -> None:
    used = (found["language"] or {}).get("used", "en")
    rows = [
        (hit["rank"], f"{hit['score']:.3f}", hit["picture"], _caption(hit["captions"], used)) for hit in found["items"]
    ]
    if rows:
        table(("rank", "score", "picture", "caption"), rows, right=("rank", "score"))
    else:
        say("No picture.")
    if found["language"]:
        how = found["language"]
        sure = "" if how["confidence"] is None else f", {how['confidence']:.0%} sure"
        note(f"Read as {used} ({how['source']}{sure}) by version {found['version']}, release {found['release']}.")
    for warning in found["warnings"]:
        note(f"Note: {warning.replace('_', ' ')}.")


def _caption(captions: dict[str, list[str]], used: str) -> str:
    texts = captions.get(used) or captions.get("en") or next(iter(captions.values()), [])
    return texts[0] if texts else ""
