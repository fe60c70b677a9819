"""`export`: pictures with their records, datasets and versions as files, which `import` and `learn` read back."""

import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer

from ..api import PATIENCE, Client, RefusedError, retry
from ..contract import DatasetItem
from ..importing import ListedPicture
from ..importing.files import NAME
from ..terminal import (
    REFUSED,
    answer,
    build_path,
    errors,
    format_count,
    make_progress,
    map_in_order,
    name_program,
    note,
    open_service,
    read_answer,
    stop,
)

LANGUAGES = "languages.jsonl"  # in the order in which they were taught
_MARK = "pictoglot-export.json"  # an export wrote this folder, and may write over it
_PART = f"{NAME}.part"  # what is written so far: rows with the `etag` of their records
_KEPT = ("id", "collection", "tags", "metadata")
_AT_ONCE = 4
_LONGEST_NAME = 180  # bytes of a file's name
_SUFFIXES = {
    "image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/avif": ".avif", "image/tiff": ".tif",
    "image/heic": ".heic", "image/heif": ".heif",
}  # fmt: skip
Row = dict[str, Any]
Written = tuple[str, Row]  # the etag of a picture that is in the folder, and its row


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="A new folder, or one begun before.")],
    collection: Annotated[str | None, typer.Option(help="Only the pictures in this collection; no datasets.")] = None,
    pictures_only: Annotated[
        bool, typer.Option("--pictures-only", help="Neither datasets nor versions, which need an admin key.")
    ] = False,
) -> None:
    """Write pictures, records, captions, datasets and versions to files.

    `import DIR` brings the pictures back, `learn` each dataset.

    After an interruption, run the same command again.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).is_file():
        stop(f"{folder} has files that no export wrote: name a new folder.", REFUSED)
    _write(folder / _MARK, iter([b'{"format": 1}\n']))
    with open_service(upload=True, patience=PATIENCE) as client:
        count, reduced, damaged = _export_pictures(client, folder, collection)
        datasets, gone = ([], []) if pictures_only or collection is not None else _export_languages(client, folder)
    document = {"folder": str(folder), "pictures": count, "reduced": reduced, "languages": datasets}
    document |= {"datasets_gone": gone, "damaged": damaged}
    languages = len({each["language"] for each in datasets})
    pictures, taught = format_count(count, "picture"), format_count(len(datasets), "dataset")
    also = f" and {taught} of {format_count(languages, 'taught language')}" if datasets else ""
    answer(document, f"{pictures}{also} {'is' if count + len(datasets) == 1 else 'are'} in {folder}.")
    _note_gaps_and_commands(folder, reduced, datasets, gone)
    if damaged:
        stop(
            f"Of {format_count(len(damaged), 'picture')} a stored file is damaged: {', '.join(damaged)}. It is as an "
            "earlier export had it, or a reduced copy, or left out. Put it again, and run the same command again."
        )


def _note_gaps_and_commands(folder: Path, reduced: int, datasets: list[dict[str, Any]], gone: list[str]) -> None:
    """Note what is missing in the folder, and the commands that read it back."""
    if reduced:
        are, these = ("is a reduced copy", "this one") if reduced == 1 else ("are reduced copies", "these")
        note(
            f"{reduced:,} of them {are} (JPEG, at most 1,024 pixels a side): the service has not kept the originals of "
            f"{these}. Keep your files; PICTOGLOT_KEEP_ORIGINALS=1 keeps what comes from then on."
        )
    if gone:
        note(f"Datasets that were pruned are not in it: {', '.join(gone)}.")
    if datasets:
        note("To read it back, in this order:")
        note(f"  {name_program()} {shlex.join(['import', str(folder)])}")
        for each in datasets:  # what was served is served again, whatever it gains there; pictures may be gone
            file = str(folder / each["dataset"])
            options = ["--settings", each["settings"], "--without-missing", "--force", "--watch"]
            options += ["--terms", str(folder / each["terms"])] if each["terms"] else []
            source = [file] if each["pivot"] is None else ["--dictionary", file, "--pivot", each["pivot"]]
            command = ["learn", each["language"], *source, *options]
            if each["imported"]:
                command = ["language", "import", file, "--force", "--watch"]
            note(f"  {name_program()} {shlex.join(command)}")


def _export_pictures(client: Client, folder: Path, collection: str | None) -> tuple[int, int, list[str]]:
    """Write the pictures and their manifest, and remove those that an earlier export wrote beside them.

    Returns how many there are, how many of them are reduced copies, and the ids of those that are damaged.
    """
    part = folder / _PART
    done = {**dict(_read(folder / NAME)), **dict(_read(part))}
    ids, damaged = dict[str, bool](), list[str]()  # with whether the original is kept
    with make_progress(errors) as bar, part.open("a", encoding="utf-8") as stream:
        total = sum(item["count"] for item in client.list_collections()["items"])
        task = bar.add_task("Pictures", total=None if collection else total)
        fetch = partial(_fetch, client, folder, done)
        items = client.iterate_pictures(fields=ListedPicture.FIELDS, collection=collection)
        for item, (row, is_damaged) in map_in_order(fetch, items, _AT_ONCE):
            if row is not None:
                ids[item["id"]] = item["original"]
                etag = "" if is_damaged else item["etag"]  # the next export fetches a damaged one again
                stream.write(json.dumps({"etag": etag, "row": row}, ensure_ascii=False) + "\n")
                stream.flush()
            if is_damaged:
                damaged.append(item["id"])
            bar.advance(task)
    rows = {id: row for id, (_, row) in _read(part) if id in ids}
    for file in {row["file"] for _, row in done.values()} - {row["file"] for row in rows.values()}:
        if (path := folder / "pictures" / Path(file).name).is_file():
            _remove(path)
    _write(folder / NAME, (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows.values()))
    part.unlink()
    return len(rows), sum(not is_original for is_original in ids.values()), damaged


def _fetch(
    client: httpx.Client, folder: Path, done: Mapping[str, Written], item: Mapping[str, Any]
) -> tuple[Row | None, bool]:
    """Return the row of a picture whose file is written, None without one; and whether it is damaged in the service.

    What an earlier export has of a damaged picture stays, row and file.
    """
    etag, before = done.get(item["id"], ("", {}))
    is_there = bool(before) and (folder / before["file"]).exists()
    if is_there and etag == item["etag"]:
        return before, False
    is_damaged = False
    for kind in ("original", "content"):
        response = retry(partial(client.get, f"{build_path('/v1/pictures', item['id'])}/{kind}"))
        if response.status_code == 503 and RefusedError(response).code == "picture_damaged":
            is_damaged = True
            if is_there:
                return before, True
        elif response.status_code != 404:
            break
    else:
        return None, is_damaged
    response.raise_for_status()
    suffix = _SUFFIXES.get(response.headers.get("content-type", "").partition(";")[0], "")
    file = f"pictures/{_name_file(item['id'])}{suffix}"
    _write(folder / file, iter([response.content]))
    row = {"file": file, "whole": True, **{name: item[name] for name in _KEPT}, "captions": item["own"]}
    return {name: value for name, value in row.items() if value}, is_damaged


def _name_file(id: str) -> str:
    """Return the name of a picture's file: its id, with `/` and the like percent-coded, or a hash where it is long.

    On a disk without upper and lower case, `Bridge` would be `bridge`: it gets a hash, after a `#` that no other has.
    """
    name, sha256 = quote(id, safe=" ,()&+@=~!'"), hashlib.sha256(id.encode()).hexdigest()
    if len(name) > _LONGEST_NAME or name.startswith("."):
        return sha256
    return f"{name}#{sha256[:12]}" if re.search("[A-Z]", id) else name


def _export_languages(client: Client, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Write the version of each taught language, and all datasets of it; remove others that an earlier export wrote.

    Returns the datasets as rows in the order in which they were taught, since one may stand on the language of another;
    and the languages of those that are not kept any more.
    """
    found, gone, written = list[tuple[DatasetItem, int, str]](), list[str](), set[Path]()
    for item in client.list_languages()["items"]:
        if not item["taught"]:
            continue
        number = int(item["version"] or 0)
        written.add(folder / "versions" / str(number))
        for name in ("manifest.json", *client.get_version(number)["digests"]):
            file = folder / "versions" / str(number) / _check_name(name)
            download(client, build_path(f"/v1/versions/{number}/files", name), file)
        for dataset in client.list_datasets(number)["items"]:
            if dataset["kept"]:
                found.append((dataset, number, item["language"]))
            else:
                gone.append(item["language"])
    rows = []
    for place, (dataset, number, language) in enumerate(sorted(found, key=lambda each: each[0]["created_at"]), 1):
        name = f"datasets/{_check_name(f'{place:03}-{language}')}"
        download(client, build_path(f"/v1/versions/{number}/datasets", dataset["expansion"]), folder / name)
        written.add(folder / name)
        settings = json.dumps(dataset["settings"])
        terms = None if dataset["terms"] is None else f"{name}-terms.json"
        if terms is not None:
            kept = {name: value for name, value in (dataset["terms"] or {}).items() if name != "set_at"}
            written.add(folder / terms)
            _write(folder / terms, iter([json.dumps(kept, ensure_ascii=False, indent=2).encode() + b"\n"]))
        of = {"settings": settings, "pivot": dataset["pivot"], "version": number}  # pivot: of a dictionary
        rows.append({"language": language, "dataset": name, "terms": terms, **of, "imported": dataset["imported"]})
    versions = {path for path in folder.glob("versions/*") if path.name.isdigit()}
    for path in {*folder.glob("datasets/[0-9][0-9][0-9]*-*"), *versions} - written:
        _remove(path)
    _write(folder / LANGUAGES, (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
    return rows, gone


def _check_name(name: str) -> str:
    """Return a name that came with an answer, as the name of a file in one folder; exits where it leads elsewhere."""
    if name in ("", ".", "..") or Path(name).name != name or "\\" in name or "\0" in name:
        stop(f"The service names a file {name!r}, which would lead out of the folder.")
    return name


def download(client: httpx.Client, path: str, file: Path) -> None:
    """Write what the service gives for a path to a file, which is whole or not there."""
    with client.stream("GET", path) as response:
        if response.is_error:
            read_answer(response)
        _write(file, response.iter_bytes())


def _write(file: Path, pieces: Iterator[bytes]) -> None:
    """Write a file that is whole or not there, in a folder that is made for it: its pieces go to another name first."""
    new = file.with_name(f".{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as stream:
            for piece in pieces:
                stream.write(piece)
        os.replace(new, file)
    except OSError as error:
        stop(f"{file} cannot be written: {error.strerror}. The same command goes on.")


def _remove(path: Path) -> None:
    """Remove a file or a folder that an earlier export wrote."""
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        stop(f"{path} cannot be removed: {error.strerror}. The same command goes on.")


def _read(file: Path) -> Iterator[tuple[str, Written]]:
    """Yield what was written before, by id; a manifest has no `etag`. The last line of a killed export may be torn."""
    if not file.exists():
        return
    with file.open(encoding="utf-8") as stream:
        for line in stream:
            with suppress(ValueError, KeyError, TypeError):
                written = json.loads(line)
                row = written.get("row", written)
                yield row["id"], (written.get("etag", ""), {**row, "file": str(row["file"])})
