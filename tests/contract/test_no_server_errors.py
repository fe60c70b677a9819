"""No string, in whatever part of a request, is ever answered with a 5xx."""

import json
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.service.harness import Service, picture, share_service

ANY = st.one_of(
    st.text(max_size=60),
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Co", "Cn", "Zl", "Mn"]), max_size=20),
    st.sampled_from(["auto", "shared", "en", "de", "../../etc/passwd", "\ud800", "<|endoftext|>", "NaN", "a" * 1_001]),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3),
    max_leaves=8,
)
FEW = settings(max_examples=25)  # `make fuzz` sends thousands


service = share_service(lambda service: service.put("a", en=["a red apple"]))


def send(service: Service, path: str, value: object) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return service.admin.post(path, content=json.dumps(value).encode(), headers=headers)


@FEW
@given(text=ANY, language=ANY, cursor=ANY | st.none())
def test_no_search_fails(service: Service, text: str, language: str, cursor: str | None) -> None:
    body = {"text": text, "language": language, "cursor": cursor}
    assert send(service, "/v1/search/pictures", body).status_code < 500
    assert send(service, "/v1/embeddings", {"input": [text], "language": language}).status_code < 500
    for mode in ("words", "both"):
        asked = {**body, "mode": mode, "minus": {"text": language, "picture": cursor}}
        assert send(service, "/v1/search/pictures", asked).status_code < 500
        assert send(service, "/v1/search/batch", {"searches": [asked, text]}).status_code < 500


@FEW
@given(value=JSON)
@pytest.mark.parametrize(
    "path",
    [
        "/v1/search/pictures",
        "/v1/search/captions",
        "/v1/search/batch",
        "/v1/embeddings",
        "/v1/admin/keys",
        "/v1/admin/releases/1/restore",
        "/v1/admin/languages/cy/rollback",
    ],
)
def test_no_json_fails(service: Service, path: str, value: object) -> None:
    answer = send(service, path, value)
    assert answer.status_code < 500, answer.text
    assert answer.status_code < 400 or answer.headers["content-type"] == "application/problem+json"


@FEW
@given(part=ANY)
@pytest.mark.parametrize(
    "path", ["/v1/pictures/{}", "/v1/pictures/{}/content", "/v1/expansions/{}", "/v1/versions/{}", "/{}", "/static/{}"]
)
def test_no_path_fails(service: Service, path: str, part: str) -> None:
    url = service.url + path.format(quote(part.encode("utf-8", "surrogatepass"), safe=""))
    assert service.admin.get(url).status_code < 500


@FEW
@given(name=ANY, value=ANY)
def test_no_query_fails(service: Service, name: str, value: str) -> None:
    pair = f"{quote(name.encode('utf-8', 'replace'))}={quote(value.encode('utf-8', 'replace'))}"
    for path in ("/v1/pictures", "/v1/duplicates", "/v1/expansions", "/v1/versions", "/v1/admin/releases"):
        for query in (pair, f"limit={quote(value.encode('utf-8', 'replace'))}", f"cursor={pair}"):
            assert service.admin.get(f"{service.url}{path}?{query}").status_code < 500


@FEW
@given(captions=JSON, name=ANY)
def test_no_caption_fails(service: Service, captions: object, name: str) -> None:
    data = {"captions": json.dumps({name: captions} if isinstance(captions, list) else captions)}
    answer = service.admin.put("/v1/pictures/a", files={"picture": ("x", picture())}, data=data)
    assert answer.status_code < 500


CONDITION = st.fixed_dictionaries({"key": ANY}, optional={"match": JSON, "range": JSON, "must": JSON})


@FEW
@given(filter=st.one_of(JSON, st.dictionaries(st.sampled_from(["must", "should", "must_not"]), st.lists(CONDITION))))
def test_no_filter_fails(service: Service, filter: object) -> None:
    for facets in (["tags"], [json.dumps(filter)[:100]]):
        body = {"text": "a", "language": "en", "filter": filter, "facets": facets}
        assert send(service, "/v1/search/pictures", body).status_code < 500
    query = quote(json.dumps(filter, ensure_ascii=False).encode("utf-8", "replace"))
    assert service.admin.get(f"{service.url}/v1/pictures?filter={query}").status_code < 500


@FEW
@given(name=st.sampled_from(["captions", "tags", "metadata", "collection"]), value=JSON, etag=ANY)
def test_no_change_of_a_record_fails(service: Service, name: str, value: object, etag: str) -> None:
    content = json.dumps({name: value}).encode()
    seen = quote(etag.encode("utf-8", "replace"))
    for headers in ({}, {"If-Match": seen}):
        given = {"Content-Type": "application/json", **headers}
        assert service.admin.patch("/v1/pictures/a", content=content, headers=given).status_code < 500
    form = {name: json.dumps(value)}
    answer = service.admin.put("/v1/pictures/a", files={"picture": ("x", picture())}, data=form)
    assert answer.status_code < 500


@FEW
@given(data=st.binary(max_size=500))
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
def test_no_bytes_fail(service: Service, data: bytes, kind: str) -> None:
    for path in ("/v1/search/pictures", "/v1/pictures", "/v1/languages"):
        answer = service.admin.post(path, content=b"--b\r\n" + data, headers={"Content-Type": kind})
        assert answer.status_code < 500


@FEW
@given(text=ANY, tag=ANY, value=JSON)
def test_nothing_that_is_said_of_a_language_fails(service: Service, text: str, tag: str, value: object) -> None:
    path = f"/v1/languages/{quote(tag, errors='replace', safe='')}"
    query = {"query": text.encode(errors="replace").decode(), "name": text.encode(errors="replace").decode()}
    for each in ("/v1/languages/names", path, f"{path}/captions/wanted", f"{path}/captions"):
        names = {"query": query["query"]} if "names" in each else {"name": query["name"]} if "wanted" in each else {}
        assert service.admin.get(each, params=names).status_code < 500
    headers = {"Content-Type": "application/json"}
    for body in (value, {"owner": text, "labels": value}, {"tk_labels": [{"name": text, "translations": value}]}):
        sent = json.dumps(body).encode()
        assert service.admin.put("/v1/languages/cy/terms", content=sent, headers=headers).status_code < 500
    for body in (value, {"picture": "a", "text": text, "name": tag}):
        assert send(service, "/v1/languages/cy/captions", body).status_code < 500
    assert send(service, "/v1/languages/cy/captions/review", {"accept": value, "reject": []}).status_code < 500
    assert send(service, "/v1/admin/languages/cy/withdraw", {"reason": text, "dry_run": value}).status_code < 500
