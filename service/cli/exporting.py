"""`export`: pictures with their records, datasets and versions as files, which `import` and `learn` read back."""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any, NamedTuple
from urllib.parse import quote

import httpx
import typer

from service.cli.client import answer, at, service
from service.cli.importing.manifest import NAME
from service.cli.output import REFUSED, AsJson, errors, note, stop, tell
from service.cli.sending import in_order, patiently, progress

LANGUAGES = "languages.jsonl"  # in the order in which they were taught
_PART = f"{NAME}.part"  # what is written so far: rows with the `etag` of their records
_PAGE = "100"
_FIELDS = "id,url,collection,tags,metadata,own,etag"
_KEPT = ("id", "collection", "tags", "metadata")
_AT_ONCE = 4
_LONGEST_NAME = 180  # bytes of a file's name
_SUFFIXES = {
    "image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/avif": ".avif", "image/tiff": ".tif",
    "image/heic": ".heic", "image/heif": ".heif",
}  # fmt: skip


class _Written(NamedTuple):
    """A picture that is in the folder, and its record as a row."""

    etag: str
    row: dict[str, Any]


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="A new folder, or one begun before.")],
    collection: Annotated[str | None, typer.Option(help="Only the pictures in this collection.")] = None,
    pictures_only: Annotated[
        bool, typer.Option("--pictures-only", help="Neither datasets nor versions, which need an admin key.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write everything to files: pictures, records, captions, the datasets of taught languages, their versions.

    `import DIR` brings the pictures back, `learn` each dataset. After an interruption, the same command goes on.
    """
    if folder.exists() and any(folder.iterdir()) and not ((folder / NAME).exists() or (folder / _PART).exists()):
        stop(f"{folder} has other files: name a new folder.", REFUSED)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    with service(upload=True) as client:
        count = _pictures(client, folder, {} if collection is None else {"collection": collection}, quiet=as_json)
        languages = [] if pictures_only else _languages(client, folder)
    document = {"folder": str(folder), "pictures": count, "languages": languages}
    taught = f" and {len(languages):,} taught languages" if languages else ""
    tell(document, as_json, f"{count:,} pictures{taught} are in {folder}.")
    if languages and not as_json:
        note(f"To read it back: `pictoglot import {folder}`, then `pictoglot learn` each dataset, in this order:")
        for each in languages:
            note(f"  pictoglot learn {each['language']} {folder / each['dataset']} --settings '{each['settings']}'")


def _pictures(client: httpx.Client, folder: Path, wanted: dict[str, str], *, quiet: bool) -> int:
    """Write the pictures and their manifest; returns how many there are."""
    part = folder / _PART
    done = dict(_read(part))
    with progress(errors, quiet=quiet or not errors.is_terminal) as bar:
        total = sum(item["count"] for item in answer(client.get("/v1/collections"))["items"])
        task = bar.add_task("Pictures", total=None if wanted else total)
        ids = dict[str, None]()
        with part.open("a", encoding="utf-8") as stream:
            fetch = partial(_fetched, client, folder, done)
            for item, written in in_order(fetch, _items(client, wanted), _AT_ONCE):
                if written is not None:
                    ids[item["id"]] = None
                    stream.write(json.dumps(written._asdict(), ensure_ascii=False) + "\n")
                    stream.flush()
                bar.advance(task)
    rows = {id: written.row for id, written in _read(part) if id in ids}
    _write(folder / NAME, (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows.values()))
    part.unlink()
    return len(rows)


def _items(client: httpx.Client, wanted: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Every picture, page after page."""
    query = {"limit": _PAGE, "fields": _FIELDS, **wanted}
    while True:
        page = answer(patiently(partial(client.get, "/v1/pictures", params=query)))
        yield from page["items"]
        if not page["next_cursor"]:
            return
        query["cursor"] = page["next_cursor"]


def _fetched(client: httpx.Client, folder: Path, done: dict[str, _Written], item: dict[str, Any]) -> _Written | None:
    """The row of a picture whose file is written; None when it was deleted meanwhile."""
    before = done.get(item["id"])
    if before is not None and before.etag == item["etag"] and (folder / before.row["file"]).exists():
        return before
    response = patiently(partial(client.get, f"{at('/v1/pictures', item['id'])}/original"))
    if response.status_code == 404:
        response = patiently(partial(client.get, f"{at('/v1/pictures', item['id'])}/content"))
    if response.status_code == 404:
        return None
    response.raise_for_status()
    suffix = _SUFFIXES.get(response.headers.get("content-type", "").partition(";")[0], "")
    file = f"pictures/{_name(item['id'])}{suffix}"
    _write(folder / file, iter([response.content]))
    row = {"file": file, **{name: item[name] for name in _KEPT}, "captions": item["own"]}
    return _Written(item["etag"], {name: value for name, value in row.items() if value})


def _name(id: str) -> str:
    """The name of a picture's file: its id, with `/` and the like percent-coded, and shortened where it is long."""
    name = quote(id, safe=" ,()&+@=~!'")
    if len(name) <= _LONGEST_NAME and not name.startswith("."):
        return name
    from hashlib import sha256

    return sha256(id.encode()).hexdigest()


def _languages(client: httpx.Client, folder: Path) -> list[dict[str, Any]]:
    """Write the dataset and the version of each taught language."""
    listed = answer(client.get("/v1/languages"))["items"]
    taught = sorted((item["version"], item["language"]) for item in listed if item["taught"])
    rows = []
    for number, language in taught:
        version = answer(client.get(f"/v1/versions/{number}"))
        into = folder / "versions" / str(number)
        into.mkdir(parents=True, exist_ok=True)
        for name in ("manifest.json", *version["digests"]):
            _stream(client, f"/v1/versions/{number}/files/{quote(name, safe='')}", into / name)
        dataset = f"datasets/{language}"
        (folder / dataset).parent.mkdir(exist_ok=True)
        _stream(client, f"/v1/versions/{number}/dataset", folder / dataset)
        settings = json.dumps((version["manifest"] or {}).get("settings", {}))
        rows.append({"language": language, "dataset": dataset, "settings": settings, "version": number})
    _write(folder / LANGUAGES, (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
    return rows


def _stream(client: httpx.Client, path: str, file: Path) -> None:
    with client.stream("GET", path) as response:
        if response.is_error:
            answer(response)
        _write(file, response.iter_bytes())


def _write(file: Path, pieces: Iterator[bytes]) -> None:
    """A file that is whole or not there: its pieces go to another name first."""
    new = file.with_name(f".{file.name}.new")
    try:
        with new.open("wb") as stream:
            for piece in pieces:
                stream.write(piece)
        os.replace(new, file)
    except OSError as error:
        stop(f"{file} cannot be written: {error.strerror}. The same command goes on.")


def _read(file: Path) -> Iterator[tuple[str, _Written]]:
    """What was written before: by id. The last line of one that was killed may be torn."""
    try:
        stream: IO[str] = file.open(encoding="utf-8")
    except FileNotFoundError:
        return
    with stream:
        for line in stream:
            try:
                written = _Written(**json.loads(line))
            except (ValueError, TypeError):
                continue
            yield written.row["id"], written
