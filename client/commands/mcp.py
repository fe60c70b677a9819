"""`mcp` lets an agent search the gallery by the Model Context Protocol: its tools ask a running service."""

import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer

from ..api import Client, read_problem
from ..client import build_path, load_client_settings, note_address_file
from ..output import MISCONFIGURED, REFUSED, note, read_version, stop

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

MOST_THUMBNAILS = 4
_MOST_HITS = 50
_SECONDS = 60.0
_INSTRUCTIONS = (
    "Search a gallery of pictures by what they show, in any language that list_languages names. A hit has `match`, "
    "the chance that it is what the text means, or null where that is not known, and `likely`. Name pictures by id."
)
Kind = dict[str, Any]


def serve(
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT of this machine, for HTTP; otherwise over standard input and output.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Also add captions, and check datasets.")] = False,
) -> None:
    """Serve an agent; address and key of the service come from PICTOGLOT_URL and PICTOGLOT_KEY, whose limits hold."""
    if find_spec("mcp") is None:
        stop("This needs the package mcp: pip install 'pictoglot[mcp]'.", MISCONFIGURED)
    host, _, port = (listen or "").rpartition(":")
    if listen and (host not in ("127.0.0.1", "localhost", "[::1]") or not port.isdecimal()):
        stop(f"--listen {listen} must be 127.0.0.1:PORT: whoever reaches it has the key's rights.", REFUSED)
    settings = load_client_settings()
    note_address_file(settings)
    with Client(settings.address, settings.key, timeout=_SECONDS) as service:
        server = make_server(service, writes=write)
        if not listen:
            server.run("stdio")
        else:
            note(f"Agents are served on http://{listen}/mcp.")
            server.run("streamable-http", host=host.strip("[]"), port=int(port))


def make_server(service: httpx.Client, *, writes: bool = False) -> "MCPServer[Any]":
    """Return a server whose tools ask `service`; some change something, if it `writes`."""
    from mcp.server.mcpserver import MCPServer
    from mcp_types import ToolAnnotations

    server = MCPServer[Any]("pictoglot", instructions=_INSTRUCTIONS, version=read_version(), log_level="WARNING")
    tools = Tools(service)
    read, write = ToolAnnotations(read_only_hint=True), ToolAnnotations(read_only_hint=False)
    offered: dict[str, tuple[Callable[..., Any], ToolAnnotations]] = {
        "search_pictures": (tools.search_pictures, read),
        "similar_to": (tools.find_similar, read),
        "get_picture": (tools.get_picture, read),
        "list_languages": (tools.list_languages, read),
        "list_collections": (tools.list_collections, read),
    }
    if writes:
        offered |= {"add_caption": (tools.add_caption, write), "check_dataset": (tools.check_dataset, read)}
    for name, (tool, kind) in offered.items():
        server.tool(name, annotations=kind, structured_output=False)(tool)
    return server


class Tools:
    """What an agent may ask; each answers with JSON, searches with thumbnails of the first hits behind it."""

    def __init__(self, service: httpx.Client) -> None:
        self._service = service

    def search_pictures(
        self, text: str, language: str = "auto", limit: int = 10, collection: str | None = None, thumbnails: int = 4
    ) -> list[Any]:
        """Find pictures that show what the text says, in its language: a tag, or `auto`. At most 4 thumbnails come."""
        body = {"text": text, "language": language, "limit": _bound(limit), **_limit_to(collection)}
        answer = self._ask("POST", "/v1/search/pictures", json=body)
        head = {
            "language": (answer["language"] or {}).get("used"),
            "warnings": answer["warnings"],
            "unknown_words": answer["unknown_words"],
        }
        return self._show(head, answer["items"], thumbnails)

    def find_similar(self, id: str, limit: int = 10, thumbnails: int = 4) -> list[Any]:
        """Find pictures that look like one of the gallery."""
        answer = self._ask("POST", "/v1/search/pictures", json={"picture": id, "limit": _bound(limit)})
        return self._show({"similar_to": id}, answer["items"], thumbnails)

    def get_picture(self, id: str) -> list[Any]:
        """Show one picture, with its captions by language, tags and metadata."""
        return self._show({}, [self._ask("GET", build_name(id))], 1)

    def list_languages(self) -> str:
        """List the languages that are read: taught ones with their version, and those that the base reads itself."""
        kept = ("language", "name", "version", "captions", "served")
        items = self._ask("GET", "/v1/languages")["items"]
        return _format([{key: item[key] for key in kept if key in item} for item in items])

    def list_collections(self) -> str:
        """List the collections of the gallery, with how many pictures they have."""
        return _format(self._ask("GET", "/v1/collections")["items"])

    def add_caption(self, id: str, language: str, caption: str) -> str:
        """Add a caption in a language to a picture; those that it has stay."""
        path = build_name(id)
        for is_last in (False, True):
            response = self._send("GET", path)
            captions = _find_own(_read(response), language)
            if caption in captions:
                return _format({"id": id, language: captions})
            body = {"captions": {language: [*captions, caption]}}
            response = self._send("PATCH", path, json=body, headers={"If-Match": response.headers["ETag"]})
            if is_last or response.status_code != 412:  # somebody changed it meanwhile
                break
        return _format({"id": id, language: _find_own(_read(response), language)})

    def check_dataset(self, language: str, pairs: list[tuple[str, str]]) -> str:
        """Check pairs of a caption and its English text, as they would be taught; nothing is taught."""
        lines = "".join(json.dumps({"caption": own, "english": english}) + "\n" for own, english in pairs)
        form = {"language": (None, language), "dry_run": (None, "true"), "dataset": ("pairs.jsonl", lines.encode())}
        return _format(self._ask("POST", "/v1/languages", files=form))

    def _show(self, head: Kind, items: Sequence[Kind], thumbnails: int) -> list[Any]:
        from mcp.server.mcpserver import Image

        kept = ("id", "match", "likely", "score", "captions", "collection", "tags", "metadata")
        shown = [{key: item[key] for key in kept if item.get(key) not in (None, [], {})} for item in items]
        some = items[: max(0, min(thumbnails, MOST_THUMBNAILS))]
        pictures = [self._send("GET", f"{build_name(item['id'])}/thumbnail") for item in some]
        images = [Image(data=each.content, format="jpeg") for each in pictures if each.status_code == 200]
        return [_format({**head, "items": shown}), *images]

    def _ask(self, method: str, path: str, **given: Any) -> Kind:
        return _read(self._send(method, path, **given))

    def _send(self, method: str, path: str, **given: Any) -> httpx.Response:
        from mcp.server.mcpserver.exceptions import ToolError

        try:
            return self._service.request(method, path, **given)
        except httpx.TransportError as error:
            raise ToolError(f"No service answers at {self._service.base_url}.") from error


def build_name(id: str) -> str:
    """Return the path of a picture; raises a tool's error where none can have that id."""
    from mcp.server.mcpserver.exceptions import ToolError

    if id in ("", ".", ".."):
        raise ToolError(f"{id!r} is no id of a picture.")
    return build_path("/v1/pictures", id)


def _read(response: httpx.Response) -> Kind:
    from mcp.server.mcpserver.exceptions import ToolError

    if response.is_error:
        raise ToolError(read_problem(response))
    return dict(response.json())


def _find_own(picture: Kind, language: str) -> list[str]:
    """Find what was said of a picture itself, not by a dataset, in a language, served or not; tags differ in case."""
    return next((said for tag, said in picture["own"].items() if tag.lower() == language.replace("_", "-").lower()), [])


def _bound(limit: int) -> int:
    return max(1, min(limit, _MOST_HITS))


def _limit_to(collection: str | None) -> Kind:
    return {"filter": {"must": [{"key": "collection", "match": {"value": collection}}]}} if collection else {}


def _format(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
