"""The gallery as an agent's tools: asked by the protocol's own client, over both ways, with a key's limits."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from client import Client
from client.commands.mcp import make_server
from tests.launcher import find_free_port
from tests.patience import PATIENCE
from tests.service.harness import ADMIN_KEY, Service, running, wait_until
from tests.service.test_assess import assess

mcp = pytest.importorskip("mcp")

COMMAND = [sys.executable, "-P", "-c", "from client.commands import main; main()", "mcp"]
READ = {"search_pictures", "similar_to", "get_picture", "list_languages", "list_collections"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("home")) as service:
        service.learn("de")
        assert assess(service, "cy")["version"] is None
        for number, (english, german) in enumerate([("a red apple", "ein roter Apfel"), ("a dog", "ein Hund")]):
            assert service.put(f"p{number}", en=[english], de=[german]).status_code == 201
        body = {"collection": "mine"}
        assert service.admin.patch("/v1/pictures/p1", json=body).status_code == 200
        service.context.live.refresh()
        yield service


@contextlib.asynccontextmanager
async def connect(site: Service, key: str = ADMIN_KEY, *, writes: bool = True) -> AsyncIterator[Any]:
    with Client(site.url, key, timeout=PATIENCE) as service:
        async with mcp.Client(make_server(service, writes=writes)) as client:
            yield client


async def call(client: Any, tool: str, **given: Any) -> tuple[Any, int]:
    """Return what a tool answers, and how many pictures come with it."""
    answer = await client.call_tool(tool, given)
    assert not answer.is_error, answer.content
    first, *images = answer.content
    assert all(each.type == "image" and each.mime_type == "image/jpeg" for each in images)
    return json.loads(first.text), len(images)


@pytest.mark.anyio
async def test_an_agent_searches_looks_and_lists(site: Service) -> None:
    async with connect(site, writes=False) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == READ
        found, images = await call(client, "search_pictures", text="ein roter Apfel", language="de", limit=2)
        assert found["items"][0]["id"] == "p0" and images == 2 and found["language"] == "de"
        _, images = await call(client, "search_pictures", text="a dog", limit=2, thumbnails=0)
        assert images == 0
        within, _ = await call(client, "search_pictures", text="a dog", collection="mine")
        assert [item["id"] for item in within["items"]] == ["p1"]
        assert [item["id"] for item in (await call(client, "similar_to", id="p0"))[0]["items"]] == ["p1"]
        shown, images = await call(client, "get_picture", id="p1")
        assert shown["items"][0]["captions"]["de"] == ["ein Hund"] and images == 1
        languages, _ = await call(client, "list_languages")
        read = {item["language"]: (item["taught"], item["built_in"]) for item in languages}
        assert read == {"de": (True, False), "en": (False, True)}
        assert "mine" in json.dumps((await call(client, "list_collections"))[0])


@pytest.mark.anyio
async def test_what_the_service_refuses_is_told_as_an_error_of_the_tool(site: Service) -> None:
    async with connect(site) as client:
        for tool, given, sentence in (
            ("get_picture", {"id": "nothing"}, "Picture not found"),
            ("get_picture", {"id": "../keys"}, "Picture not found"),
            ("get_picture", {"id": ".."}, "not a valid name"),
            ("search_pictures", {"text": "", "language": "en"}, "text"),
            ("search_pictures", {"text": "x", "language": "fr"}, "language not available"),
        ):
            answer = await client.call_tool(tool, given)
            assert answer.is_error and sentence in answer.content[0].text, answer.content


@pytest.mark.anyio
async def test_captions_are_added_and_pairs_checked_where_writing_was_allowed(site: Service) -> None:
    async with connect(site) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == READ | {"add_caption", "check_dataset"}
        for _ in range(2):
            added, _ = await call(client, "add_caption", id="p0", language="de", caption="ein Apfel")
            assert added["de"] == ["ein roter Apfel", "ein Apfel"]
        for caption in ("uma maçã", "maçã"):  # nobody taught it, and the tag is not written as it is kept
            added, _ = await call(client, "add_caption", id="p0", language="pt-br", caption=caption)
        assert added["pt-br"] == ["uma maçã", "maçã"]
        pairs = [[f"afal {number}", f"apple number {number}"] for number in range(70)]
        checked, _ = await call(client, "check_dataset", language="cy", pairs=pairs)
        assert checked["report"]["usable"] == 70
        taught = site.admin.get("/v1/expansions").json()["items"]
        assert [each["language"] for each in taught] == ["cy", "de"]


@pytest.mark.anyio
async def test_the_limits_of_a_key_hold(site: Service) -> None:
    async with connect(site, site.key("search", collections=["mine"])) as client:
        found, _ = await call(client, "search_pictures", text="ein roter Apfel", language="de")
        assert [item["id"] for item in found["items"]] == ["p1"]
        refused = await client.call_tool("get_picture", {"id": "p0"})
        assert refused.is_error
        refused = await client.call_tool("add_caption", {"id": "p1", "language": "de", "caption": "x"})
        assert refused.is_error and "scope" in refused.content[0].text


def test_it_is_served_over_standard_input_and_over_http_on_this_machine(site: Service) -> None:
    given = {"PICTOGLOT_URL": site.url, "PICTOGLOT_KEY": ADMIN_KEY}
    from mcp.client.stdio import StdioServerParameters, stdio_client

    async def use(server: Any) -> None:
        async with mcp.Client(server) as client:
            assert (await call(client, "search_pictures", text="a dog"))[1] == 2

    parameters = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env={**os.environ, **given})
    asyncio.run(use(stdio_client(parameters)))
    port = find_free_port()
    listening = [*COMMAND, "--listen", f"127.0.0.1:{port}"]
    with subprocess.Popen(listening, env={**os.environ, **given}, stderr=subprocess.PIPE) as process:
        try:
            wait_until(lambda: process.poll() is not None or _answers(port))
            asyncio.run(use(f"http://127.0.0.1:{port}/mcp"))
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)
    wide = [*COMMAND, "--listen", "0.0.0.0:9"]
    refused = subprocess.run(wide, env={**os.environ, **given}, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "whoever reaches it has the key's rights" in refused.stderr


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
