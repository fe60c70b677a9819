"""The documented recipes run as they stand in docs/recipes.md."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import make_url

from client import Client
from tests.house.source import ROOT
from tests.service.harness import ADMIN_KEY, Service, running

RECIPES = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```", RECIPES, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Three pictures."""
    with running(tmp_path_factory.mktemp("home")) as service:
        service.learn("cy")
        for id in "abc":
            service.put(id).raise_for_status()
        yield service


def run_recipe(service: Service, mark: str, **names: Any) -> dict[str, Any]:
    """Run the block that holds the mark; return its names."""
    (block,) = [block for block in BLOCKS if mark in block]
    names |= {"key": ADMIN_KEY}
    exec(block.replace("http://127.0.0.1:8321", service.url), names)
    return names


def test_openai_s_own_client_gets_a_vector(service: Service) -> None:
    pytest.importorskip("openai")
    names = run_recipe(service, "import OpenAI")
    answer = service.admin.post("/v1/embeddings", json={"input": "afal coch"}).json()
    assert names["vector"] == pytest.approx(answer["data"][0]["embedding"])
    names["client"].close()


def test_pgvector_finds_what_the_service_finds(service: Service, postgresql_url: str) -> None:
    database = make_url(postgresql_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with Client(service.url, ADMIN_KEY) as client:
        names = run_recipe(service, "def list_vectors", client=client)
        hits = run_recipe(service, "import psycopg", database=database, **names)["hits"]
        asked = client.search_pictures({"text": "afal coch", "language": "cy", "mode": "meaning"})
    assert [id for id, _ in hits] == [hit["id"] for hit in asked["items"]]
    assert [score for _, score in hits] == pytest.approx(
        [hit["score"] for hit in asked["items"]], abs=0.02
    )  # of the stored copies
