"""From error classes to answers."""

import errno
import json
import random
from collections.abc import Iterator

import pytest

from service.problems import make_problem_response
from store import errors
from tests.index.world import fail_with
from tests.service.harness import Service, assert_problem


def list_classes(kind: type[errors.PictoglotError] = errors.PictoglotError) -> Iterator[type[errors.PictoglotError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from list_classes(child)


@pytest.mark.parametrize("kind", list(dict.fromkeys(list_classes())), ids=lambda kind: str(kind.__qualname__))
def test_every_class_has_one_answer(kind: type[errors.PictoglotError]) -> None:
    answer = make_problem_response("abc", kind())
    body = json.loads(bytes(answer.body))
    assert body["code"] == ("internal_error" if answer.status_code == 500 else kind.code)
    assert 400 <= answer.status_code < 600


SEARCH = "search/pictures"


@pytest.mark.parametrize(
    ("path", "given", "said"),
    [
        (SEARCH, {"limit": 0}, "body.limit: this must be 1 or more"),
        (SEARCH, {"limit": 101}, "body.limit: this may be 100 at most"),
        (SEARCH, {"limit": "5"}, "body.limit: this must be a whole number"),
        (SEARCH, {"min_match": "x"}, "body.min_match: this must be a number"),
        (SEARCH, {"cursor": ""}, "body.cursor: this must have 1 or more characters"),
        (SEARCH, {"cursor": "x" * 9_999}, "body.cursor: this may have at most 2048 characters"),
        (SEARCH, {"mode": "x"}, "body.mode: this must be 'meaning', 'words' or 'both'"),
        (SEARCH, {"facets": []}, "body.facets: this list must have 1 or more"),
        (
            "search/pictures",
            {"captions": 5},
            "body.captions: this must be `all`, `none` or a list of tags, 200 at most",
        ),
        ("embeddings", {"input": ["a", 1]}, "body.input.1: this must be a text"),
        ("embeddings", {"input": 1}, "body.input: this must be a list"),
        ("admin/languages/de/rollback", {"dry_run": "true"}, "body.dry_run: this must be true or false"),
        ("admin/languages/de/rollback", {"reason": "x" * 1_001}, "body.reason: this may have at most 1000 characters"),
        ("pictures/changes", {"ids": ["a"], "collection": "a\tb"}, "body.collection: a name has no control characters"),
    ],
)
def test_a_refusal_says_in_words_what_is_wanted(service: Service, path: str, given: object, said: str) -> None:
    refused = service.admin.post(f"/v1/{path}", json=given)
    assert assert_problem(refused, 422, "invalid_request")["detail"] == said


def test_a_long_list_of_locations_is_truncated() -> None:
    places = tuple(errors.FieldError(f"line {n}", "empty_text") for n in range(1_000))
    assert len(json.loads(bytes(make_problem_response("abc", errors.InvalidInput(errors=places)).body))["errors"]) == 20


@pytest.mark.row("S5")
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), 507, "storage_full"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), 507, "storage_full"),
        (OSError(errno.EIO, "Input/output error", "/data/x"), 503, "storage_unavailable"),
        (ZeroDivisionError("secret"), 500, "internal_error"),
        (errors.VersionCorrupt("secret file differs", path="/data/x"), 500, "internal_error"),
        (errors.LanguageNotFound(languages=["en"]), 404, "language_not_found"),
    ],
)
def test_what_a_route_raises_becomes_a_problem(
    service: Service, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    monkeypatch.setattr(service.context.registry.expansions, "get", fail_with(error))
    answer = service.admin.get("/v1/expansions/x")
    assert_problem(answer, status, code)
    assert "/data" not in answer.text and "secret" not in answer.text


def test_a_request_id_of_the_client_is_kept_when_it_is_safe(service: Service) -> None:
    taken = service.http.get("/livez", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"]
    assert taken == "abc-1"
    other = service.http.get("/livez", headers={"X-Request-ID": "a b\t{}"}).headers["x-request-id"]
    assert len(other) == 32


def test_a_new_request_id_does_not_follow_the_seed_of_the_process(service: Service) -> None:
    ids = set()
    for _ in range(2):
        random.seed(0)
        ids.add(service.http.get("/livez").headers["x-request-id"])
    assert len(ids) == 2


def test_the_page_shares_nothing_with_other_sites(service: Service) -> None:
    headers = service.http.get("/").headers
    assert headers["cross-origin-opener-policy"] == "same-origin" and headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy


def test_an_unchanged_file_of_the_page_is_not_sent_again_and_nothing_else_is_there(service: Service) -> None:
    etag = service.http.get("/static/main.js").headers["etag"]
    again = service.http.get("/static/main.js", headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("none.js", "__init__.py", "..%2F__init__.py"):
        assert_problem(service.http.get(f"/static/{name}"), 404, "not_found")
