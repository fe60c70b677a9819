"""The client for programs: typed operations, pages, events, requests sent again; and the documented recipes."""

import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import make_url

from client import Client, RefusedError
from tests.client.test_commands import make_rows
from tests.house.source import ROOT
from tests.service.harness import ADMIN_KEY, Service, picture, running, share_service, wait_until

service = share_service(lambda service: service.learn("de"))
RECIPES = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```", RECIPES, re.MULTILINE | re.DOTALL)


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url, ADMIN_KEY, patience=0.0) as client:
        yield client


class LosingTransport(httpx.HTTPTransport):
    """Carries every request to the service, and loses the first answers."""

    def __init__(self, lost: int) -> None:
        super().__init__()
        self.lost, self.sent = lost, list[httpx.Request]()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        self.sent.append(request)
        if len(self.sent) > self.lost:
            return response
        response.close()
        raise httpx.ReadError("the connection was closed", request=request)


def test_a_picture_is_put_found_changed_and_deleted(client: Client) -> None:
    form = io.BytesIO(picture(1))
    put = client.put_picture(
        "a/b", {"picture": form, "captions": {"de": ["ein Apfel"]}, "tags": ["fruit", "red"], "metadata": {"n": 1}}
    )
    assert (put["id"], put["tags"], put["captions"]["de"]) == ("a/b", ["fruit", "red"], ["ein Apfel"])
    fruit: Any = {"must": [{"key": "tags", "match": {"value": "fruit"}}]}  # beside pictures of other tests
    (hit,) = client.search_pictures({"text": "ein Apfel", "language": "de", "filter": fruit})["items"]
    (same,) = client.search_pictures({"picture": ("x.png", picture(1), "image/png"), "filter": fruit})["items"]
    assert hit["id"] == same["id"] == "a/b"
    batch = client.search_batch({"searches": [{"text": "apfel", "mode": "both", "minus": {"text": "x"}}]})
    assert batch["items"][0]["status"] == 200
    changed = client.patch_picture("a/b", {"metadata": {"place": "Chur"}}, if_match=put["etag"])
    assert changed["metadata"] == {"n": 1, "place": "Chur"}
    with pytest.raises(RefusedError) as stale:
        client.patch_picture("a/b", {"tags": []}, if_match=put["etag"])
    assert (stale.value.status, stale.value.code) == (412, "record_changed")
    assert client.picture_thumbnail("a/b").startswith(b"\xff\xd8") and "pictoglot" in client.metrics()
    client.delete_picture("a/b")
    with pytest.raises(RefusedError, match="picture") as gone:
        client.get_picture("a/b")
    assert gone.value.problem is not None and gone.value.code == "picture_not_found"
    with pytest.raises(ValueError, match="not a valid name"):
        client.get_picture("..")


def test_listings_and_hits_are_read_page_after_page(client: Client) -> None:
    added = client.post_batch({"picture": [("x", picture(seed)) for seed in range(10, 115)]})
    ids = {item["picture"]["id"] for item in added["items"] if item["picture"]}
    assert len(ids) == 105
    assert {item["id"] for item in client.iterate_pictures(fields="id")} == ids
    assert len([*client.iterate_pictures(limit=103)]) == 103 and [*client.iterate_pictures(limit=0)] == []
    found = [hit["id"] for hit in client.iterate_hits({"text": "a dog", "language": "en", "limit": 40})]
    assert len(found) == 105 and {*found} == ids


def test_teaching_is_followed_to_its_end_and_not_repeated_when_an_answer_is_lost(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.api.pause", lambda seconds, stopping=None: None)
    transport, states = LosingTransport(2), list[str]()
    dataset = ("cy.jsonl", io.BytesIO(make_rows(80).encode()))
    with Client(service.url, ADMIN_KEY, transport=transport) as client:
        accepted: Any = client.teach_language({"language": "cy", "dataset": dataset, "force": True})
        assert len(transport.sent) == 3
        assert len({request.headers["Idempotency-Key"] for request in transport.sent}) == 1
        id = accepted["expansion"]["id"]
        assert [item["id"] for item in client.iterate_expansions() if item["language"] == "cy"] == [id]
        for state in client.follow_expansion(id):
            states.append(state["state"])
            if len(states) == 1:
                client.cancel_expansion(id)
    assert states == ["queued", "cancelled"]


def test_what_could_happen_twice_is_not_sent_again(service: Service) -> None:
    transport = LosingTransport(1)
    with Client(service.url, ADMIN_KEY, transport=transport) as client:
        with pytest.raises(httpx.ReadError):
            client.create_key({"scope": "search", "label": "twice"})
        labels = [item["label"] for item in client.list_keys()["items"]]
    assert labels.count("twice") == 1


def test_a_refusal_from_before_the_service_has_no_code() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(502, text="<h1>Bad gateway</h1>"))
    client = Client("http://pictures.example", patience=0.0, transport=transport)
    with client, pytest.raises(RefusedError) as refused:
        client.get_limits()
    assert (refused.value.code, refused.value.problem) == ("", None)


def test_a_service_that_is_away_after_a_quiet_hour_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """First its stream breaks off, then a proxy answers in its place."""
    clock, read_timeouts = [0.0], list[float]()
    monkeypatch.setattr("client.api.read_clock", lambda: clock[0])
    monkeypatch.setattr("client.api.pause", lambda seconds, stopping=None: None)

    def send_quietly() -> Iterator[bytes]:
        yield b'data: {"state": "running"}\n\n'
        clock[0] += 3_600
        yield b": still here\n\n"
        raise httpx.ReadError("the connection was closed")

    answers: Iterator[Any] = iter(
        [(200, send_quietly()), (502, b""), (504, b""), (200, b'data: {"state": "failed"}\n')]
    )

    def answer(request: httpx.Request) -> httpx.Response:
        read_timeouts.append(request.extensions["timeout"]["read"])
        status, content = next(answers)
        return httpx.Response(status, content=content)

    with Client("http://pictures.example", transport=httpx.MockTransport(answer)) as client:
        assert [each["state"] for each in client.follow_expansion("exp_1")] == ["running", "failed"]
        assert max(read_timeouts) < 60
        answers = iter([(502, b""), (504, b""), (200, b"")])
        client.get_limits()
    assert next(answers, None) is None


def test_a_wait_that_no_patience_reaches_is_not_begun() -> None:
    answers = iter([httpx.Response(503, headers={"Retry-After": "3600"})])
    transport = httpx.MockTransport(lambda request: next(answers))
    with Client("http://pictures.example", transport=transport) as client, pytest.raises(RefusedError):
        client.get_limits()


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Three pictures."""
    with running(tmp_path_factory.mktemp("home")) as gallery:
        gallery.learn("cy")
        for id in "abc":
            gallery.put(id).raise_for_status()
        yield gallery


def run_recipe(gallery: Service, mark: str, **names: Any) -> dict[str, Any]:
    """Run the block that holds the mark; return its names."""
    (block,) = [block for block in BLOCKS if mark in block]
    names |= {"key": ADMIN_KEY}
    there = block.replace("http://127.0.0.1:8321", gallery.url)
    exec(there.replace("pictoglot_client", "client"), names)  # as the folder is called here
    return names


def test_the_client_does_what_the_first_recipe_says(
    gallery: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(picture(7, format="JPEG"))
    Path("words.csv").write_text("caption,english\n" + "".join(f"aval {n},apple {n}\n" for n in range(80)))

    def cancel() -> None:  # in the place of a worker, for which the recipe would wait
        with Client(gallery.url, ADMIN_KEY) as other:
            queued = wait_until(lambda: [each for each in other.iterate_expansions() if each["language"] == "br"])
            other.cancel_expansion(queued[0]["id"])

    canceller = threading.Thread(target=cancel)
    canceller.start()
    run_recipe(gallery, "teach_language")
    canceller.join()
    said = capsys.readouterr().out.splitlines()
    assert any(line.startswith("orchard ") for line in said) and said[-1] == "picture_not_found"
    assert gallery.admin.get("/v1/pictures/orchard").json()["captions"] == {"cy": ["afal coch"]}
    gallery.admin.delete("/v1/pictures/orchard").raise_for_status()


def test_openai_s_own_client_gets_a_vector(gallery: Service) -> None:
    pytest.importorskip("openai")
    names = run_recipe(gallery, "import OpenAI")
    answer = gallery.admin.post("/v1/embeddings", json={"input": "afal coch"}).json()
    assert names["vector"] == pytest.approx(answer["data"][0]["embedding"])
    names["client"].close()


def test_pgvector_finds_what_the_service_finds(gallery: Service, postgresql_url: str) -> None:
    # the extension belongs to the whole database, and other tests may have it in the schema of all
    url = make_url(postgresql_url).set(drivername="postgresql")
    url = url.update_query_dict({"options": f"{url.query['options']},public"})
    database = url.render_as_string(hide_password=False)
    with psycopg.connect(database) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
    with Client(gallery.url, ADMIN_KEY) as client:
        names = run_recipe(gallery, "def list_vectors", client=client)
        hits = run_recipe(gallery, "import psycopg", database=database, **names)["hits"]
        asked = client.search_pictures({"text": "afal coch", "language": "cy", "mode": "meaning"})
    assert [id for id, _ in hits] == [hit["id"] for hit in asked["items"]]
    assert [score for _, score in hits] == pytest.approx(
        [hit["score"] for hit in asked["items"]], abs=0.02
    )  # of the stored copies
