"""A key that is bound to collections sees, finds, counts and writes nothing else: every route, bound and unbound."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from index.gallery import NewPicture
from index.records import Patch
from service.auth import get_guard
from tests.contract.test_routes import GUARDED, NAMES
from tests.doubles import WeightlessEncoder
from tests.service.harness import Service, assert_problem, learn, picture, running
from tests.service.test_match import calibrate

SECRET = "zebra"  # in everything of the other collection
FAR, OTHER = f"far-{SECRET}", f"{SECRET}-room"
NEAR_FILTER = {
    "should": [{"key": "collection", "match": {"any": [OTHER, "near"]}}, {"key": "tags", "match": {"any": ["x"]}}]
}
FACETS = ["tags", "collection", "place", "metadata.place", "id"]
FREE = ("request_id", "timing_ms")  # what differs from answer to answer


class Keys:
    """A service with three pictures in `near`, and clients with a bound key and with the admin's."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.bound = service.open_client({"X-API-Key": service.key("write", collections=["near"])})
        self.unbound = service.open_client({"X-API-Key": service.key("write")})
        self.put(self.unbound, "near-1", 1, collection="near", tags='["x"]', captions='{"en": ["a red apple"]}')
        for id, seed in (("near-a", 50), ("near-b", 51)):
            self.put(self.unbound, id, seed, collection="near", captions='{"en": ["a pear"]}')

    def put(self, http: httpx.Client, id: str, seed: int, **fields: str) -> httpx.Response:
        return http.put(f"/v1/pictures/{id}", files={"picture": ("x", picture(seed))}, data=fields)

    def fill_far(self) -> None:
        """Put pictures into the other collection: one with the very content of the near one."""
        captions = json.dumps({"en": [f"{SECRET} on grass"], "de": [f"{SECRET} im Gras"]})
        about = {"collection": OTHER, "tags": f'["x", "{SECRET}"]', "metadata": json.dumps({"place": SECRET})}
        for id, seed in ((FAR, 1), (f"{FAR}-2", 7)):
            assert self.put(self.unbound, id, seed, captions=captions, **about).status_code == 201
        files = {"picture": ("x", picture(8))}
        assert self.unbound.post("/v1/pictures", files=files, data=about).status_code == 201
        calibrate(self.service, pictures=4, change=1_000, threshold=-0.5)  # as a worker does then


@contextmanager
def serve_near(home: Path) -> Iterator[Keys]:
    """Run a service in which the other collection is empty."""
    with running(home, keep_originals=True) as service:
        quoted = {"new": [SECRET], "test": {"missed": [SECRET]}, "dictionary": {"examples": [{"word": SECRET}]}}
        learn(service.context.registry, "de", report={"pairs": 1, "letters": ["ß"], **quoted})
        service.context.live.refresh()
        keys = Keys(service)
        calibrate(service, pictures=3, change=1_000)
        yield keys
        keys.bound.close()
        keys.unbound.close()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    with serve_near(tmp_path_factory.mktemp("home")) as keys:
        keys.fill_far()
        yield keys


def ask_everything(http: httpx.Client) -> Iterator[httpx.Response]:
    """Ask everything that changes nothing, about all that there is and about each picture."""
    form = {"picture": ("x", picture(1))}
    text = {"text": f"a {SECRET}", "language": "en", "limit": 100, "captions": "all", "facets": FACETS}
    filters: Any = [{}, {"filter": {}}, {"filter": NEAR_FILTER}, {"filter": {"must_not": [NEAR_FILTER]}}]
    for more in filters:
        yield http.post("/v1/search/pictures", json={**text, **more})
        query = {
            "facets": ",".join(FACETS),
            "sort": "-created_at",
            **({"filter": json.dumps(more["filter"])} if more else {}),
        }
        yield http.get("/v1/pictures", params=query)
    several: list[dict[str, Any]] = []
    for mode in ("meaning", "words", "both"):
        for asked in ("a pear", f"{SECRET} on grass", "apple"):
            several.append({**text, "text": asked, "mode": mode, "minus": {"text": SECRET}})
    for mode in ("words", "both"):  # the captions that have the words, in whatever language
        several.append({"text": f"pear {SECRET} Gras", "language": "en", "mode": mode})
    for id in ("near-1", FAR, "unknown"):
        pear = {"text": "a pear", "language": "en"}  # `auto` goes by the captions of the whole service
        several += [{"picture": id}, {**pear, "picture": id}, {**pear, "minus": {"picture": id}}]
    for each in several:
        yield http.post("/v1/search/pictures", json=each)
    yield http.post("/v1/search/batch", json={"searches": several})
    for query in ({}, {"collection": OTHER}, {"filter": json.dumps(NEAR_FILTER)}):
        yield http.get("/v1/duplicates", params={"min_score": "0", **query})
    data = {"captions": "all", "filter": json.dumps(NEAR_FILTER), "facets": json.dumps(FACETS)}
    yield http.post("/v1/search/pictures", files=form, data=data)
    yield http.post("/v1/search/captions", files=form, data={"limit": "100"})
    for id in ("near-1", FAR, f"{FAR}-2", "unknown"):
        yield http.post("/v1/search/captions", json={"picture": id, "limit": 100})
    yield http.get("/v1/pictures", params={"collection": OTHER})
    for pages in walk_pages(http).values():
        yield from pages
    for method, route in GUARDED:
        if method == "GET":
            for id in ("near-1", FAR, "unknown"):
                path = route.path.replace("{id}", id).replace("{number}", "1").replace("{tag}", "de")
                yield http.get(path)
    yield http.post("/v1/embeddings", json={"input": [SECRET], "language": "en"})


def walk_pages(http: httpx.Client) -> dict[str, list[httpx.Response]]:
    """Read up to three pages, with a picture each, of every answer that has pages."""
    form, text = {"picture": ("x", picture(1))}, {"text": "a pear", "language": "en", "limit": 1}
    asked: dict[str, Callable[[dict[str, str]], httpx.Response]] = {
        "listing": lambda cursor: http.get("/v1/pictures", params={"limit": "1", **cursor}),
        "collection": lambda cursor: http.get("/v1/pictures", params={"limit": "1", "collection": "near", **cursor}),
        "text": lambda cursor: http.post("/v1/search/pictures", json={**text, **cursor}),
        "picture": lambda cursor: http.post("/v1/search/pictures", files=form, data={"limit": "1", **cursor}),
        "both": lambda cursor: http.post("/v1/search/pictures", json={**text, "mode": "both", **cursor}),
    }
    return {name: read_pages(ask) for name, ask in asked.items()}


def read_pages(ask: Callable[[dict[str, str]], httpx.Response]) -> list[httpx.Response]:
    pages = [ask({})]
    while len(pages) < 3 and (cursor := pages[-1].json()["next_cursor"]):
        pages.append(ask({"cursor": cursor}))
    return pages


def strip_answer(response: httpx.Response) -> Any:
    """Return an answer without what differs from one to the next."""
    headers = {name: response.headers.get(name) for name in ("etag", "content-type", "location", "cache-control")}
    if "json" not in (headers["content-type"] or ""):
        return response.status_code, headers, response.content
    return response.status_code, headers, strip_fields(response.json())


def strip_fields(value: Any) -> Any:
    """Return JSON without the fields that differ from answer to answer, also within a batch."""
    if isinstance(value, list):
        return [strip_fields(each) for each in value]
    if isinstance(value, dict):
        return {name: strip_fields(each) for name, each in value.items() if name not in FREE}
    return value


def test_what_a_bound_key_reads_does_not_depend_on_other_collections(tmp_path: Path) -> None:
    with serve_near(tmp_path) as keys:
        before = [strip_answer(answer) for answer in ask_everything(keys.bound)]
        keys.fill_far()
        answers, unbound = list(ask_everything(keys.bound)), list(ask_everything(keys.unbound))
        assert keys.bound.get("/v1/languages/de").json()["letters"] == ["ß"]
    for answer, earlier in zip(answers, before, strict=True):
        assert strip_answer(answer) == earlier, answer.request.url
        assert SECRET not in answer.text and SECRET not in str(answer.headers), answer.request.url
    assert sum(answer.status_code == 200 for answer in answers) > 15
    assert "/v1/languages/de/words" in {answer.request.url.path for answer in answers if answer.status_code == 200}
    hits = [answer.status_code == 200 and SECRET in answer.text for answer in unbound]
    assert sum(hits) > 15  # the same questions do show it to a key that is not bound


def test_a_bound_key_is_told_no_chances_because_all_collections_were_measured(keys: Keys) -> None:
    calibrate(keys.service, pictures=3, change=1_000)
    ask = {"text": "a pear", "language": "en", "min_match": 0.999}
    bound, unbound = (http.post("/v1/search/pictures", json=ask).json() for http in (keys.bound, keys.unbound))
    assert [hit["match"] for hit in bound["items"]] == [None] * 3 and bound["warnings"] == ["match_unknown"]
    assert bound["below_min_match"] is None and unbound["below_min_match"] > 0


def test_only_these_routes_are_made_for_bound_keys() -> None:
    allows_bound_keys = {
        name for name, (_, route) in zip(NAMES, GUARDED, strict=True) if get_guard(route.endpoint).allows_bound_keys
    }
    kept = ("/{id}", "/{id}/content", "/{id}/thumbnail", "/{id}/original")
    assert allows_bound_keys == {
        *(f"POST /v1/search/{what}" for what in ("pictures", "captions", "batch")),
        *(
            f"GET /v1/{what}"
            for what in ("pictures", "collections", "duplicates", "facets", "languages", "limits", "models")
        ),
        *(f"{method} /v1/pictures/{{id}}" for method in ("PUT", "PATCH", "DELETE")),
        *(f"GET /v1/pictures{path}" for path in kept),
        "POST /v1/pictures",
        CHANGES,
        "GET /v1/languages/{tag}/words",
        *(f"GET /v1/languages/{which}" for which in ("names", "{tag}")),
        BATCH,
        "POST /v1/embeddings",
    }


def test_a_bound_key_writes_nothing_outside(keys: Keys) -> None:

    def list_outside() -> list[Mapping[str, Any]]:
        return [item for item in keys.unbound.get("/v1/pictures").json()["items"] if item["collection"] == OTHER]

    before = list_outside()
    refused = assert_problem(keys.put(keys.bound, FAR, 3), 404, "picture_not_found")
    unknown = assert_problem(keys.bound.get("/v1/pictures/unknown"), 404, "picture_not_found")
    assert refused["detail"] == unknown["detail"]
    for path in (f"/v1/pictures/{FAR}", "/v1/pictures/unknown"):
        for answer in (keys.bound.patch(path, json={"tags": []}), keys.bound.delete(path)):
            assert assert_problem(answer, 404, "picture_not_found")["detail"] == unknown["detail"]
    assert list_outside() == before
    (id,) = [item["id"] for item in before if not item["id"].startswith("far")]
    posted = keys.bound.post("/v1/pictures", files={"picture": ("x", picture(8))})  # it is there, elsewhere
    assert posted.status_code == 201 and posted.json()["collection"] == "near" and posted.json()["id"] != id
    assert keys.bound.post("/v1/pictures", files={"picture": ("x", picture(8))}).json() == posted.json()
    assert keys.bound.patch("/v1/pictures/near-1", json={"collection": None}).json()["collection"] == "near"
    assert keys.bound.delete(f"/v1/pictures/{posted.json()['id']}").status_code == 204
    assert list_outside() == before


CHANGES = "POST /v1/pictures/changes"
BATCH = "POST /v1/pictures/batch"
WRITES: dict[str, Callable[[str | None], dict[str, Any]]] = {  # a body that is valid, into a collection if given
    **dict.fromkeys(
        ("POST /v1/pictures", "PUT /v1/pictures/{id}"),
        lambda name: {"files": {"picture": ("x", picture(3))}, "data": {"collection": name} if name else {}},
    ),
    "PATCH /v1/pictures/{id}": lambda name: {"json": {"collection": name} if name else {"tags": ["y"]}},
    "DELETE /v1/pictures/{id}": lambda _: {},
    CHANGES: lambda name: {"json": {"ids": [FAR], **({"collection": name} if name else {"deleted": True})}},
    BATCH: lambda name: {
        "files": {"picture": ("x", picture(3))},
        "data": {"records": json.dumps([{"collection": name} if name else {"id": FAR}])},
    },
}


def assert_refused(answer: httpx.Response, status: int, code: str) -> None:
    """Check that the request, or the one picture of a batch, was refused."""
    if answer.is_success:
        (item,) = answer.json()["items"]
        assert (item["status"], item["problem"]["code"], item["picture"]) == (status, code, None)
    else:
        assert_problem(answer, status, code)


def test_every_route_that_writes_for_bound_keys_checks_the_collection(keys: Keys) -> None:
    guards = {name: get_guard(route.endpoint) for name, (_, route) in zip(NAMES, GUARDED, strict=True)}
    assert {name for name, guard in guards.items() if guard.allows_bound_keys and guard.scope == "write"} == {*WRITES}
    before = keys.unbound.get("/v1/pictures").json()["items"]
    for name, body in WRITES.items():
        method, path = name.split()
        if method != "DELETE":
            for collection in (OTHER, "no-such-collection"):  # whether there is one is not said
                refused = keys.bound.request(method, path.format(id="near-1"), **body(collection))
                assert_refused(refused, 403, "insufficient_scope")
        if "{id}" in path or name == BATCH:
            assert_refused(keys.bound.request(method, path.format(id=FAR), **body(None)), 404, "picture_not_found")
    missing = keys.bound.post("/v1/pictures/changes", json={"ids": [FAR], "deleted": True}).json()
    assert missing == {"items": [{"id": FAR, "outcome": "missing"}], "changed": 0}
    assert keys.unbound.get("/v1/pictures").json()["items"] == before


def test_a_bound_key_walks_its_pages_and_no_other_key_goes_on_with_its_cursors(keys: Keys) -> None:
    walked = walk_pages(keys.bound)
    for name, pages in walked.items():
        found = [page.json()["items"][0]["id"] for page in pages]
        assert sorted(found) == ["near-1", "near-a", "near-b"] and pages[-1].json()["next_cursor"] is None, name
    texts = {"text": "a pear", "language": "en", "limit": 1}
    listing, text = (walked[name][0].json()["next_cursor"] for name in ("listing", "text"))
    again = keys.service.open_client({"X-API-Key": keys.service.key("write", collections=["near"])})
    other = keys.service.open_client({"X-API-Key": keys.service.key("write", collections=[OTHER])})
    with again, other:
        for http in (again, other, keys.unbound, keys.service.admin):
            for answer in (
                http.get("/v1/pictures", params={"limit": 1, "cursor": listing}),
                http.post("/v1/search/pictures", json={**texts, "cursor": text}),
            ):
                assert_problem(answer, 422, "invalid_cursor")


def test_a_picture_that_is_moved_away_is_gone_for_the_key(keys: Keys) -> None:
    keys.put(keys.bound, "moved", 20, captions='{"en": ["a moving thing"]}')
    ask = {"text": "x", "language": "en", "limit": 100}

    def search() -> set[str]:
        return {hit["id"] for hit in keys.bound.post("/v1/search/pictures", json=ask).json()["items"]}

    assert "moved" in search()
    assert keys.unbound.patch("/v1/pictures/moved", json={"collection": OTHER}).status_code == 200
    assert "moved" not in search()
    assert_problem(keys.bound.get("/v1/pictures/moved/content"), 404, "picture_not_found")
    captions = keys.bound.post("/v1/search/captions", files={"picture": ("x", picture(20))}).text
    assert "a moving thing" not in captions
    keys.unbound.delete("/v1/pictures/moved")


def test_a_key_of_several_collections_adds_to_the_default_one_or_its_first(keys: Keys) -> None:
    for names, home in ((["b", "a"], "b"), (["b", "default"], "default")):
        with keys.service.open_client({"X-API-Key": keys.service.key("write", collections=names)}) as http:
            answer = http.post("/v1/pictures", files={"picture": ("x", picture(31))})
            assert answer.json()["collection"] == home
            assert http.get("/v1/collections").json() == {"items": [{"name": home, "count": 1}]}
            assert http.delete(f"/v1/pictures/{answer.json()['id']}").status_code == 204
    listed = keys.service.admin.get("/v1/admin/keys").json()["items"]
    assert [key["collections"] for key in listed[:2]] == [["b", "default"], ["b", "a"]]
    assert keys.service.admin.get("/v1/admin/keys").json()["items"][-1]["collections"] == ["near"]


@pytest.mark.parametrize("given", [{"scope": "admin"}, {"collections": []}, {"collections": ["a\0b"]}])
def test_keys_that_cannot_be_bound_are_refused(keys: Keys, given: dict[str, Any]) -> None:
    answer = keys.service.admin.post("/v1/admin/keys", json={"scope": "search", "collections": ["a"], **given})
    assert_problem(answer, 422, "invalid_request")


def test_metrics_are_of_the_whole_service_and_not_for_bound_keys(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("production")
    with running(home, environment="production") as service:
        headers = {"X-API-Key": service.key("search", collections=["a"])}
        assert_problem(service.http.get("/metrics", headers=headers), 403, "insufficient_scope")
        assert service.http.get("/metrics", headers={"X-API-Key": service.key("search")}).status_code == 200


PERSON = {"Origin": "https://x.example", "X-Forwarded-User": "a", "X-Forwarded-Groups": "b", "X-Proxy-Secret": "s" * 16}
GROUPS = '{"b": {"scope": "write", "collections": ["theirs"]}}'
PEOPLE = {"public_url": PERSON["Origin"], "proxy_secret": PERSON["X-Proxy-Secret"], "groups": GROUPS}


@pytest.mark.row("F8")
@pytest.mark.parametrize("is_person", [False, True], ids=["key", "person"])
def test_captions_of_who_is_bound_change_no_reading_of_others(tmp_path: Path, is_person: bool) -> None:
    # captions tagged `en` that are German, in numbers: German queries of another key stay German
    german = ["ein roter Apfel auf dem Tisch", "der Hund schläft", "ein kleines Haus am See", "zwei Kinder spielen",
              "das blaue Auto", "eine Katze im Garten", "die Brücke über den Fluss"]  # fmt: skip
    english = ["a red apple on the table", "the dog sleeps", "a small house by the lake", "two children are playing"]
    with (
        running(tmp_path, **(PEOPLE if is_person else {})) as service,
        service.open_client({"X-API-Key": service.key("search", collections=["mine"])}) as owner,
        service.open_client(PERSON) as poisoner,
    ):
        if not is_person:
            poisoner.headers = httpx.Headers({"X-API-Key": service.key("write", collections=["theirs"])})
        service.learn("de")
        for place, text in enumerate(german):
            assert service.put(f"p{place}", en=[english[place % 4]], de=[text]).status_code == 201
        service.context.live.refresh()

        def detect(queries: list[str]) -> list[str]:
            answers = [owner.post("/v1/search/pictures", json={"text": text}) for text in queries]
            return [answer.json()["language"]["used"] for answer in answers]

        assert detect(german) == ["de"] * 7 and detect(english) == ["en"] * 4
        for place in range(12):
            captions = json.dumps({"en": [f"{text} {place}" for text in german], "de": [f"{place}"]})
            files = {"picture": ("x", picture(100 + place))}
            assert poisoner.post("/v1/pictures", files=files, data={"captions": captions}).status_code == 201
        service.context.live.refresh()
        after = service.context.live.current
        assert after.ngram_sources["en"][1] > 7  # they were counted again
        assert detect(german) == ["de"] * 7 and detect(english) == ["en"] * 4
        assert " schläft " not in after.detector.counts["en"]


# --- What a bound key sees of a picture that another process has just moved: nothing of before the move ---


def test_what_was_before_a_move_is_not_shown_by_a_process_that_is_behind(tmp_path: Path) -> None:
    with running(tmp_path, watch_seconds=60.0) as service:
        keys = Keys(service)
        keys.put(keys.unbound, FAR, 7, collection=OTHER, captions=json.dumps({"en": [SECRET]}))
        change = {"captions": {"en": ["public"]}, "collection": "near"}
        service.context.gallery.patch(Patch(FAR, change), {})  # as another process: this one does not follow yet
        ask = {"text": "x", "language": "en", "captions": "all"}
        searched, listed, one = (
            {http: http.post("/v1/search/pictures", json=ask) for http in (keys.bound, keys.unbound)},
            keys.bound.get("/v1/pictures"),
            keys.bound.get(f"/v1/pictures/{FAR}"),
        )
        assert SECRET in str([hit["captions"] for hit in searched[keys.unbound].json()["items"]])  # it is behind
        for answer in (searched[keys.bound], listed):
            captions = {item["id"]: item["captions"] for item in answer.json()["items"]}
            assert captions[FAR] == {} and captions["near-1"] == {"en": ["a red apple"]}
        assert one.json()["captions"] == {}
        gallery = service.context.gallery
        near = gallery.get("near-1")
        gallery.put([NewPicture(FAR, near.content_sha256, 48, 48)], WeightlessEncoder.image_fingerprint)
        asked = [
            [http.post("/v1/search/captions", json={"picture": id}).json()["items"] for id in (FAR, "near-1")]
            for http in (keys.bound, keys.unbound)
        ]
        assert asked[0][0] == asked[0][1] and asked[1][0] != asked[1][1]
        service.context.live.refresh()
        assert keys.bound.get(f"/v1/pictures/{FAR}").json()["captions"] == {"en": ["public"]}
        keys.bound.close()
        keys.unbound.close()
