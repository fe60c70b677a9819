"""`pictures`: put pictures into the gallery, list, change and delete them. The service decodes, not this process."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx
import typer

from service.cli.client import answer, at, every, sentence, service
from service.cli.output import FAILED, REFUSED, AsJson, errors, json_object, note, show, stop, tell
from service.cli.sending import in_order, patiently, progress, put

pictures = typer.Typer(help="Put pictures into the gallery, list, change and delete them.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="Id of the picture.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; may be repeated. Replaces the tags of before.")]
_SUFFIXES = {
    **{".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".avif": "image/avif"},
    **{".tif": "image/tiff", ".tiff": "image/tiff", ".heic": "image/heic", ".heif": "image/heic"},
}


@pictures.command("add")
def add_pictures(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Pictures, or folders of them.")],
    captions: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help='JSON: {"file name or id": {"en": ["a red apple"]}}.'),
    ] = None,
    collection: Annotated[str | None, typer.Option(help="The collection that they go to.")] = None,
    tag: Tags = None,
    again: Annotated[bool, typer.Option("--again", help="Send also the pictures that are there already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put pictures into the gallery; the file name becomes the id. Unreadable files are reported and skipped.

    Pictures that are there already, with the same content, captions, collection and tags, are not sent: after an
    interruption, the same command goes on with the rest.
    """
    said = {} if collection is None else {"collection": collection}
    adding = _Adding(_captions(captions), {**said, **({"tags": tag} if tag else {})}, again)
    files = list(_files(paths))
    if not files:
        stop("There is no JPEG, PNG, WebP, AVIF, TIFF or HEIC file here.", REFUSED)
    if len({_id(file) for file in files}) < len(files):
        stop("Two of these files have the same name, which becomes the id: one would replace the other.", REFUSED)
    items: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    added = there = 0
    try:
        with service(upload=True) as client, progress(errors, quiet=as_json or not errors.is_terminal) as bar:
            answer(client.get("/v1/pictures", params={"limit": 1}))  # a service that is not there is told at once
            task = bar.add_task("Pictures", total=len(files))
            for file, sent in in_order(lambda file: adding.put(client, file), files):
                if sent.reason is not None:
                    refused.append({"file": str(file), "reason": sent.reason})
                elif sent.item is None:
                    there += 1
                else:
                    added += 1
                    items += [sent.item] if as_json else []
                bar.advance(task)
    except BaseException:
        note(f"{added:,} pictures were added until then; the same command goes on with the rest.")
        raise
    for each in [] if as_json else refused:
        note(f"{each['file']}: {each['reason']}")
    before = f"; {there:,} were there before" if there else ""
    done = f"{added + there:,} of {len(files):,} pictures are in the gallery{before}."
    tell({"added": items, "there": there, "refused": refused}, as_json, done)
    if refused:
        raise typer.Exit(FAILED)


@pictures.command("list")
def list_pictures(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 20,
    filter: Annotated[str | None, typer.Option("--filter", help="JSON, as with `search`.")] = None,
    collection: Annotated[str | None, typer.Option(help="Only pictures in this collection.")] = None,
    newest: Annotated[bool, typer.Option("--newest", help="Newest first.")] = False,
    as_json: AsJson = False,
) -> None:
    """List pictures, oldest first."""
    given = {"filter": json.dumps(asked)} if (asked := json_object(filter, "--filter")) is not None else {}
    given |= {} if collection is None else {"collection": collection}
    given |= {"sort": "-created_at"} if newest else {}
    with service() as client:
        items = every(client, "/v1/pictures", limit, **given)
    rows = [
        (
            item["id"],
            f"{item['width']}×{item['height']}",
            item["collection"],
            ", ".join(item["tags"]),
            ", ".join(sorted(item["captions"])),
        )
        for item in items
    ]
    show({"items": items}, as_json, ("picture", "size", "collection", "tags", "captions in"), rows)


@pictures.command("show")
def show_picture(id: Id, as_json: AsJson = False) -> None:
    """Show what is kept of a picture."""
    with service() as client:
        item = answer(client.get(at("/v1/pictures", id)))
    _show(item, as_json)


@pictures.command("edit")
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
    etag: Annotated[str | None, typer.Option(help="Refused if the record has another one by now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change collection, tags, metadata or captions; the picture is not sent again."""
    named = {"metadata": json_object(metadata, "--metadata"), "captions": json_object(captions, "--captions")}
    patch = {"collection": collection, "tags": tag, **named}
    patch = {name: value for name, value in patch.items() if value is not None}
    if not patch:
        stop("Say what changes: --collection, --tag, --metadata or --captions.", REFUSED)
    headers = {} if etag is None else {"If-Match": f'"{etag}"'}
    with service() as client:
        item = answer(client.patch(at("/v1/pictures", id), json=patch, headers=headers))
    _show(item, as_json)


@pictures.command("delete")
def delete_picture(id: Id, as_json: AsJson = False) -> None:
    """Delete a picture."""
    with service() as client:
        client.delete(at("/v1/pictures", id)).raise_for_status()
    tell({"id": id, "deleted": True}, as_json, f"{id} is deleted.")


def _show(item: dict[str, Any], as_json: bool) -> None:
    """One item, a line for each part."""
    about = {name: item[name] for name in ("id", "collection", "tags", "width", "height", "created_at", "etag")}
    captions = {f"captions {tag}": texts for tag, texts in {**item["waiting"], **item["captions"]}.items()}
    rows = [
        (name, ", ".join(value) if isinstance(value, list) else value)
        for name, value in {**about, **item["metadata"], **captions}.items()
    ]
    show(item, as_json, ("part", "value"), rows)


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


class _Sent(NamedTuple):
    """What became of a file: the picture that was added, or why it was refused, or neither when it was there."""

    item: dict[str, Any] | None = None
    reason: str | None = None


class _Adding:
    """Sends files with their captions and what is said of all of them, each under an id that comes from its name."""

    def __init__(self, captions: dict[str, Any], said: dict[str, Any], again: bool) -> None:
        self._captions, self._said, self._again = captions, said, again
        self._fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in said.items()}

    def put(self, client: httpx.Client, file: Path) -> _Sent:
        """Send a file unless the same picture with the same captions is there. Raises what refuses all of them."""
        id = _id(file)
        captions = self._captions.get(file.name) or self._captions.get(id) or {}
        try:
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
                if not self._again and _is_there(client, id, content, captions, self._said):
                    return _Sent()
                response = put(client, id, (file.name, stream, _SUFFIXES[file.suffix.lower()]), captions, self._fields)
        except OSError as error:
            return _Sent(reason=f"It cannot be read: {error.strerror}.")
        if response.status_code in (413, 415, 422):
            return _Sent(reason=sentence(response))
        return _Sent(answer(response))


def _is_there(client: httpx.Client, id: str, content: str, captions: dict[str, Any], said: dict[str, Any]) -> bool:
    """Whether the gallery has this picture like that. Captions in other languages may be of an expansion."""
    response = patiently(lambda: client.get(at("/v1/pictures", id)))
    if response.status_code != 200:
        return False  # most are new; anything else that is wrong, the upload will tell
    item = response.json()
    (shown,) = parse_qs(urlsplit(item["url"]).query)["v"]
    texts = {**item["waiting"], **item["captions"]}
    same = all(texts.get(tag) == given for tag, given in captions.items())
    return content.startswith(shown) and same and all(item[name] == value for name, value in said.items())


def _id(file: Path) -> str:
    """The name without its suffix; where that is no valid id, the valid characters and a hash of the name."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).lstrip(".")[:100]
    if plain == file.stem:
        return plain
    return f"{plain.strip('-') or 'picture'}-{hashlib.sha256(file.stem.encode()).hexdigest()[:8]}"
