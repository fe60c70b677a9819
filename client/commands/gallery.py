"""`pictures`: list, show, change and delete them. `pictures add` is `import`."""

import json
from typing import Annotated, Any, Literal

import typer

from ..client import open_service
from ..contract import PictureItem
from ..importing.command import import_pictures
from ..output import (
    REFUSED,
    AsJson,
    Collection,
    Filter,
    Yes,
    format_count,
    may_ask,
    parse_object,
    print_listing,
    print_result,
    stop,
)

pictures = typer.Typer(help="Import, list, change and delete pictures.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="Id of the picture.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; may be repeated. Replaces the earlier tags.")]
pictures.command("add")(import_pictures)  # the same as `pictoglot import`


@pictures.command("list")
def list_pictures(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 20,
    filter: Filter = None,
    collection: Collection = None,
    newest: Annotated[
        bool, typer.Option("--newest", help="By when they were taken, else added; newest first.")
    ] = False,
    as_json: AsJson = False,
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
    print_listing({"items": items}, as_json, ("picture", "size", "collection", "tags", "captions in"), rows)


@pictures.command("count")
def count_pictures(filter: Filter = None, collection: Collection = None, as_json: AsJson = False) -> None:
    """Count pictures by month, folder, camera and collection."""
    wanted = filter and json.dumps(parse_object(filter, "--filter"))
    with open_service() as client:
        counts: Any = client.count_gallery(filter=wanted, collection=collection)
    kinds = ("months", "folders", "cameras", "collections")
    rows = [(kind.removesuffix("s"), each["value"], f"{each['count']:,}") for kind in kinds for each in counts[kind]]
    print_listing(counts, as_json, ("by", "value", "pictures"), rows)


@pictures.command("show")
def show_picture(id: Id, as_json: AsJson = False) -> None:
    """Show the record of a picture."""
    with open_service() as client:
        item = client.get_picture(id)
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
    etag: Annotated[
        str | None, typer.Option(help="The etag that was seen; refused if the record has changed since.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change collection, tags, metadata or captions, without sending the picture again."""
    patch: Any = {"collection": collection, "tags": tag}
    patch |= {"metadata": parse_object(metadata, "--metadata"), "captions": parse_object(captions, "--captions")}
    patch = {name: value for name, value in patch.items() if value is not None}
    if not patch:
        stop("Say what changes: --collection, --tag, --metadata or --captions.", REFUSED)
    with open_service() as client:
        item = client.patch_picture(id, patch, if_match=None if etag is None else f'"{etag}"')
    _show(item, as_json)


@pictures.command("restore")
def restore_pictures(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of pictures that were deleted.")],
    as_json: AsJson = False,
) -> None:
    """Bring back pictures that were deleted within a day, as they were."""
    with open_service() as client:
        done = client.post_changes({"ids": ids, "deleted": False})["items"]
    missing = [item["id"] for item in done if item["outcome"] == "missing"]
    there = format_count(len(done) - len(missing), "picture is", "pictures are")
    print_result({"items": done}, as_json, f"{there} in the gallery.")
    if missing:
        stop(f"Not to be brought back any more: {', '.join(missing)}.", REFUSED)


@pictures.command("delete")
def delete_picture(
    id: Id,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete a picture with its captions, tags and metadata.

    For a day, `pictures restore` brings it back. Its last traces go within PICTOGLOT_PURGE_DAYS, if a worker runs.

    Datasets and backups keep what they have: see "Deleting for good" in docs/operate.md.
    """
    seen = None
    with open_service() as client:
        if may_ask(yes, as_json):
            item = client.get_picture(id)
            _show(item, as_json)
            if not typer.confirm("Delete it?"):
                return
            seen = f'"{item["etag"]}"'  # what was shown is what goes
        client.delete_picture(id, if_match=seen)
    print_result({"id": id, "deleted": True}, as_json, f"{id} is deleted.")


def _show(item: PictureItem, as_json: bool) -> None:
    """Print one picture, a line for each part."""
    about = {name: item[name] for name in ("id", "name", "collection", "tags", "width", "height", "shown_at", "etag")}
    captions = {f"captions {tag}": texts for tag, texts in {**item["waiting"], **item["captions"]}.items()}
    parts = [*about.items(), *item["metadata"].items(), *captions.items()]  # metadata may have the name of another part
    rows = [(name, ", ".join(value) if isinstance(value, list) else value) for name, value in parts]
    print_listing(item, as_json, ("part", "value"), rows)
