"""`mcp` lets an agent search the gallery by the Model Context Protocol: its tools ask a running service."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer

from ..api import Client, InvalidNameError, RefusedError
from ..terminal import MISCONFIGURED, REFUSED, load_client_settings, note, note_address_file, read_version, stop

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

MOST_THUMBNAILS = 4
_MOST_HITS = 50
_SECONDS = 60.0
_INSTRUCTIONS = (
    "Search a gallery of pictures by what they show, in any language that list_languages names. A hit has `match`, "
    "the chance that it is what the text means, or null where that is not known, and `likely`. Name pictures by id."
)


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
    with Client(settings.address, settings.key, patience=0.0, timeout=_SECONDS) as service:
        server = make_server(service, writes=write)
        if not listen:
            server.run("stdio")
        else:
            note(f"Agents are served on http://{listen}/mcp.")
            server.run("streamable-http", host=host.strip("[]"), port=int(port))


def make_server(service: Client, *, writes: bool = False) -> "MCPServer[Any]":
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
        server.tool(name, annotations=kind, structured_output=False)(_tell_agent(service)(tool))
    return server


@contextmanager
def _tell_agent(service: Client) -> Iterator[None]:
    """Raise what goes wrong as an error of the tool: an agent learns the reason of no other one."""
    from mcp.server.mcpserver.exceptions import ToolError

    try:
        yield
    except (RefusedError, InvalidNameError) as error:
        raise ToolError(str(error)) from error
    except httpx.TransportError as error:
        raise ToolError(f"No service answers at {service.base_url}.") from error


class Tools:
    """What an agent may ask; each answers with JSON, searches with thumbnails of the first hits behind it."""

    def __init__(self, service: Client) -> None:
        self._service = service

    def search_pictures(
        self, text: str, language: str = "auto", limit: int = 10, collection: str | None = None, thumbnails: int = 4
    ) -> list[Any]:
        """Find pictures that show what the text says, in its language: a tag, or `auto`. At most 4 thumbnails come."""
        body: Any = {"text": text, "language": language, "limit": _bound(limit)}
        if collection:
            body["filter"] = {"must": [{"key": "collection", "match": {"value": collection}}]}
        answer: Any = self._service.search_pictures(body)
        head = {name: answer[name] for name in ("warnings", "unknown_words")}
        return self._show({"language": (answer["language"] or {}).get("used"), **head}, answer["items"], thumbnails)

    def find_similar(self, id: str, limit: int = 10, thumbnails: int = 4) -> list[Any]:
        """Find pictures that look like one of the gallery."""
        answer = self._service.search_pictures({"picture": id, "limit": _bound(limit)})
        return self._show({"similar_to": id}, answer["items"], thumbnails)

    def get_picture(self, id: str) -> list[Any]:
        """Show one picture, with its captions by language, tags and metadata."""
        return self._show({}, [self._service.get_picture(id)], 1)

    def list_languages(self) -> str:
        """List the languages that are read: some are `taught`, those that are `built_in` the base reads itself."""
        kept = ("language", "name", "version", "captions", "taught", "built_in")
        items: Sequence[Mapping[str, Any]] = self._service.list_languages()["items"]
        return _format([{key: item[key] for key in kept} for item in items if item["version"] is not None])

    def list_collections(self) -> str:
        """List the collections of the gallery, with how many pictures they have."""
        return _format(self._service.list_collections()["items"])

    def add_caption(self, id: str, language: str, caption: str) -> str:
        """Add a caption in a language to a picture; those that it has stay."""
        for is_last in (False, True):
            picture = self._service.get_picture(id)
            captions = _find_own(picture, language)
            if caption in captions:
                break
            body: Any = {"captions": {language: [*captions, caption]}}
            try:
                picture = self._service.patch_picture(id, body, if_match=f'"{picture["etag"]}"')
                break
            except RefusedError as error:
                if is_last or error.status != 412:  # somebody changed it meanwhile
                    raise
        return _format({"id": id, language: _find_own(picture, language)})

    def check_dataset(self, language: str, pairs: list[tuple[str, str]]) -> str:
        """Check pairs of a caption and its English text, as they would be taught; nothing is taught."""
        lines = "".join(json.dumps({"caption": own, "english": english}) + "\n" for own, english in pairs)
        form: Any = {"language": language, "dry_run": True, "dataset": ("pairs.jsonl", lines.encode())}
        return _format(self._service.teach_language(form))

    def _show(self, head: Mapping[str, Any], items: Sequence[Mapping[str, Any]], thumbnails: int) -> list[Any]:
        from mcp.server.mcpserver import Image

        kept = ("id", "match", "likely", "score", "captions", "collection", "tags", "metadata")
        shown = [{key: item[key] for key in kept if item.get(key) not in (None, [], {})} for item in items]
        images = []
        for item in items[: max(0, min(thumbnails, MOST_THUMBNAILS))]:
            with suppress(RefusedError):
                images.append(Image(data=self._service.picture_thumbnail(item["id"]), format="jpeg"))
        return [_format({**head, "items": shown}), *images]


def _find_own(picture: Mapping[str, Any], language: str) -> list[str]:
    """Find what was said of a picture itself, not by a dataset, in a language, served or not; tags differ in case."""
    return next((said for tag, said in picture["own"].items() if tag.lower() == language.replace("_", "-").lower()), [])


def _bound(limit: int) -> int:
    return max(1, min(limit, _MOST_HITS))


def _format(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
