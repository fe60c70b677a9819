"""`pictures`: put pictures into the gallery, list and delete them. The service decodes, not this process."""

import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.progress import track

from service.cli.client import answer, at, every, sentence, service
from service.cli.output import FAILED, REFUSED, AsJson, errors, note, show, stop, tell

pictures = typer.Typer(help="Put pictures into the gallery, list and delete them.", no_args_is_help=True)
_AT_ONCE = 16  # files sent at a time: fewer than the service lets wait, enough for a batch
_SUFFIXES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}


@pictures.command("add")
def add_pictures(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Pictures, or folders of them.")],
    captions: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help='JSON: {"file name or id": {"en": ["a red apple"]}}.'),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put pictures into the gallery; the file name becomes the id. Unreadable files are reported and skipped."""
    given_captions = _captions(captions)
    files = list(_files(paths))
    if not files:
        stop("There is no JPEG, PNG or WebP file here.", REFUSED)
    if len({_id(file) for file in files}) < len(files):
        stop("Two of these files have the same name, which becomes the id: one would replace the other.", REFUSED)
    added: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    with service(upload=True) as client:
        responses = _in_order(lambda file: _put(client, file, given_captions), files)
        quiet = as_json or not errors.is_terminal
        for file, response in track(responses, "Pictures", len(files), console=errors, disable=quiet):
            if response.status_code in (413, 415, 422):
                refused.append({"file": str(file), "reason": sentence(response)})
            else:
                added.append(answer(response))
    for each in [] if as_json else refused:
        note(f"{each['file']}: {each['reason']}")
    done = f"{len(added)} of {len(files)} pictures are in the gallery."
    tell({"added": added, "refused": refused}, as_json, done)
    if refused:
        raise typer.Exit(FAILED)


@pictures.command("list")
def list_pictures(limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 20, as_json: AsJson = False) -> None:
    """List pictures, oldest first."""
    with service() as client:
        items = every(client, "/v1/pictures", limit)
    rows = [(item["id"], f"{item['width']}×{item['height']}", ", ".join(sorted(item["captions"]))) for item in items]
    show({"items": items}, as_json, ("picture", "size", "captions in"), rows)


@pictures.command("delete")
def delete_picture(id: Annotated[str, typer.Argument(help="Id of the picture.")], as_json: AsJson = False) -> None:
    """Delete a picture."""
    with service() as client:
        client.delete(at("/v1/pictures", id)).raise_for_status()
    tell({"id": id, "deleted": True}, as_json, f"{id} is deleted.")


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in inside if file.suffix.lower() in _SUFFIXES and file.is_file())


def _captions(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        captions = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError):
        captions = None
    if not isinstance(captions, dict):
        stop("The file of captions is not a JSON object.", REFUSED)
    return dict(captions)


def _put(client: httpx.Client, file: Path, captions: dict[str, Any]) -> httpx.Response:
    """PUT one file; its id comes from its name."""
    id = _id(file)
    own = captions.get(file.name) or captions.get(id)
    form = {"captions": json.dumps(own, ensure_ascii=False)} if own else {}
    with file.open("rb") as stream:
        return client.put(
            f"/v1/pictures/{id}", data=form, files={"picture": (file.name, stream, _SUFFIXES[file.suffix.lower()])}
        )


def _in_order(put: Callable[[Path], httpx.Response], files: list[Path]) -> Iterator[tuple[Path, httpx.Response]]:
    """Each file with its response, in order; some are sent at a time, so that the service can encode them together."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting: deque[tuple[Path, Future[httpx.Response]]] = deque()
        try:
            for file in files:
                waiting.append((file, pool.submit(put, file)))
                if len(waiting) >= _AT_ONCE:
                    first, response = waiting.popleft()
                    yield first, response.result()
            while waiting:
                first, response = waiting.popleft()
                yield first, response.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _id(file: Path) -> str:
    """The name without its suffix; where that is no valid id, the valid characters and a hash of the name."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).lstrip(".")[:100]
    if plain == file.stem:
        return plain
    return f"{plain.strip('-') or 'picture'}-{hashlib.sha256(file.stem.encode()).hexdigest()[:8]}"
