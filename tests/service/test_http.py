"""Requests that no client should send, against a real server."""

import contextlib
import json
import logging
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from model.encoder import EncodedTexts
from service import requests
from tests.doubles import StalledEncoder, WeightlessEncoder
from tests.patience import PATIENCE
from tests.service.harness import (
    ADMIN_KEY,
    Service,
    assert_problem,
    assert_state_unchanged,
    picture,
    running,
    share_service,
    wait_until,
)

SEARCH = "/v1/search/pictures"


def post(service: Service, body: bytes, content_type: str | None = "application/json") -> httpx.Response:
    headers = {"Content-Type": content_type} if content_type else {}
    return service.admin.post(SEARCH, content=body, headers=headers)


def make_head(path: str, kind: str, length: int) -> bytes:
    fields = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {ADMIN_KEY}"]
    return "\r\n".join([*fields, f"Content-Type: {kind}", f"Content-Length: {length}", "", ""]).encode()


def send_raw(service: Service, request: bytes) -> bytes:
    """Return what the server answers to exactly these bytes, until it closes."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) as connection:
        answer = b""
        with contextlib.suppress(ConnectionError):  # it may close before it has read all
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)  # otherwise it waits for another request
            while part := connection.recv(65_536):
                answer += part
        return answer


UNREADABLE = {
    (400, "invalid_encoding"): [
        *(b'{"text": "\xff"}', '{"text": "cat"}'.encode("utf-16"), '{"text": "cat"}'.encode("utf-16-le")),
    ],
    (400, "malformed_json"): [
        *(b"[" * 60_000, b'{"text": "a",}', b'{"text": "a"}{}', b"", b"\xef\xbb\xbf{}", b"{'a':1}"),
    ],
    (422, "invalid_request"): [
        *(b'{"text":"a","text":"b"}', b'{"text":"a","colour":1}', b"[]", b'"text"', b"{}", b"null"),
    ],
}


@pytest.mark.row("H1", "H2", "H4")
@pytest.mark.parametrize(
    ("refused", "body"), [(refused, body) for refused in UNREADABLE for body in UNREADABLE[refused]]
)
def test_a_body_of_other_letters_of_no_json_or_of_another_schema_is_refused(
    service: Service, refused: tuple[int, str], body: bytes
) -> None:
    assert_problem(post(service, body), *refused)


def test_an_error_never_repeats_the_input(service: Service) -> None:
    secret = "s3cr3t-" + "x" * 2_000
    answer = post(service, json.dumps({"text": "a", secret: secret, "limit": secret}).encode())
    assert_problem(answer, 422, "invalid_request")
    assert "s3cr3t" not in answer.text


@pytest.mark.row("H5")
@pytest.mark.parametrize("kind", [None, "text/plain", "application/json; charset=latin-1", "application/xml", "///"])
def test_another_media_type_is_refused(service: Service, kind: str | None) -> None:
    assert_problem(post(service, b'{"text": "cat"}', kind), 415, "unsupported_media_type")


FILE = b'--b\r\nContent-Disposition: form-data; name="picture"; filename="x"\r\n\r\n' + picture() + b"\r\n"
FIELD = b'--b\r\nContent-Disposition: form-data; name="captions"\r\n\r\n{}\r\n'
MANGLED = {
    "no boundary": FILE.replace(b"--b", b"--") + b"----\r\n",
    "wrong boundary": FILE + b"--b--\r\n",
    "boundary of 10 kB": FILE + b"--b--\r\n",
    "cut before the end": FILE,
    "cut in the file": FILE[:150],
    "too many fields": FIELD * 1_001 + FILE + b"--b--\r\n",
    "a field twice": FIELD * 2 + FILE + b"--b--\r\n",
    "part header of 1 MB": b"--b\r\nX-Long: " + b"x" * (1 << 20) + b"\r\n" + FILE[5:] + b"--b--\r\n",
    "preamble of 1 MB": b"x" * (1 << 20) + b"\r\n" + FILE + b"--b--\r\n",
    "empty lines of 1 MB": b"\r\n" * (1 << 19) + FILE[:70],
    "no name": FILE.replace(b'name="picture"; ', b"") + b"--b--\r\n",
    "another disposition": FILE.replace(b"form-data", b"attachment") + b"--b--\r\n",
    "two files": FILE * 2 + b"--b--\r\n",
    "a file of another name": FILE.replace(b"picture", b"image") + b"--b--\r\n",
    "a file without a name": FILE.replace(b'; filename="x"', b"") + b"--b--\r\n",
    "a large file without a name": FILE.replace(b'; filename="x"', b"").replace(b"PNG", b"PNG" * 40_000) + b"--b--\r\n",
    "no file": FIELD + b"--b--\r\n",
    "empty": b"",
    "a field that is not utf-8": FIELD.replace(b"{}", b"\xff") + b"--b--\r\n",
}
BOUNDARIES = {"no boundary": "", "wrong boundary": "; boundary=c", "boundary of 10 kB": "; boundary=" + "b" * 10_000}


@pytest.mark.row("H6")
@pytest.mark.parametrize("case", MANGLED)
def test_a_mangled_form_is_refused_quickly(service: Service, case: str) -> None:
    kind = "multipart/form-data" + BOUNDARIES.get(case, "; boundary=b")
    with assert_state_unchanged(service):
        before = time.process_time()
        answer = service.admin.put("/v1/pictures/mangled", content=MANGLED[case], headers={"Content-Type": kind})
        assert time.process_time() - before < 1.0  # 200 ms, with the client in the same process
    assert answer.status_code in {400, 422}, answer.text
    assert answer.json()["code"] in {"malformed_multipart", "invalid_request", "invalid_encoding"}


def test_the_same_form_is_accepted_when_it_is_not_mangled(service: Service) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = service.admin.put("/v1/pictures/fine", content=FIELD + FILE + b"--b--\r\n", headers=headers)
    assert answer.status_code == 201


@pytest.mark.row("H7")
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_one_byte_too_many_is_refused(service: Service, chunked: bool) -> None:
    limit = service.context.settings.json_bytes
    for size, status in ((limit, 422), (limit + 1, 413)):
        body = b'{"text": "' + b"a" * (size - 12) + b'"}'
        answer = service.admin.post(
            SEARCH, content=iter([body]) if chunked else body, headers={"Content-Type": "application/json"}
        )
        assert_problem(answer, status, "text_too_long" if status == 422 else "body_too_large")


@pytest.mark.row("H7")
def test_a_content_length_that_is_too_small_makes_two_bad_requests(service: Service) -> None:
    body = b'{"text": "' + b"a" * 70_000 + b'"}'
    head = make_head(SEARCH, "application/json", 10)
    answers = send_raw(service, head + body)
    assert b"HTTP/1.1 400" in answers
    assert b"HTTP/1.1 200" not in answers


hasty = share_service(body_seconds=0.5, dataset_seconds=1.0)


@pytest.mark.row("H8")
@pytest.mark.parametrize(("path", "seconds"), [(SEARCH, b"0.5"), ("/v1/pictures", b"0.5"), ("/v1/languages", b"1")])
def test_a_body_that_trickles_is_cut_at_its_deadline(hasty: Service, path: str, seconds: bytes) -> None:
    head = make_head(path, "multipart/form-data; boundary=b", 60)
    with assert_state_unchanged(hasty), socket.create_connection(("127.0.0.1", hasty.port)) as connection:
        connection.sendall(head)
        answer = _trickle(connection)
    assert b"408" in answer.split(b"\r\n")[0]
    assert b"body_timeout" in answer and b"within %s seconds" % seconds in answer


@pytest.mark.row("H7")
def test_a_body_that_is_announced_too_large_is_not_waited_for(hasty: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "DISCARD_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", hasty.port)) as connection:
        connection.sendall(make_head(SEARCH, "application/json", hasty.context.settings.json_bytes + 1))
        assert b"body_too_large" in _trickle(connection)


@pytest.mark.row("H8")
@pytest.mark.parametrize(
    ("begin", "field", "status"),
    [
        ("POST /v1/pictures", "X-API-Key: wrong", b"401"),
        ("POST /v1/nothing", "X: y", b"404"),
        ("POST /v1/languages", "Idempotency-Key: " + "k" * 256, b"422"),
        ("POST /v1/pictures/batch?fields=nothing", "X: y", b"422"),
        (f"POST {SEARCH}?fields=nothing", "X: y", b"422"),
        ("PUT /v1/pictures/.hidden", "X: y", b"422"),
    ],
)
def test_a_refused_body_is_not_waited_for(
    service: Service, begin: str, field: str, status: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "DISCARD_SECONDS", 0.5)
    head = make_head("", "multipart/form-data; boundary=b", 60_000).replace(b"POST ", begin.encode())
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(head.replace(b"Host: x", b"Host: x\r\n" + field.encode()))
        answer = _trickle(connection)
    assert status in answer.split(b"\r\n")[0]
    assert b"connection: close" in answer.lower()


def test_a_client_that_sends_much_still_gets_the_reason(service: Service) -> None:
    body = b"a" * (20 << 20)
    headers = {"Content-Type": "multipart/form-data"}
    answer = httpx.post(f"{service.url}/v1/languages", content=body, headers=headers, timeout=PATIENCE)
    assert_problem(answer, 401, "missing_api_key")


def _trickle(connection: socket.socket) -> bytes:
    """Send a byte every tenth of a second until the server closes, which it must, and return what it sent."""
    connection.settimeout(0.1)
    answer, until = b"", time.monotonic() + PATIENCE
    with contextlib.suppress(ConnectionError):  # closed with bytes unread: a reset follows the answer
        while time.monotonic() < until:
            try:
                part = connection.recv(65_536)
            except TimeoutError:
                connection.sendall(b"\n")
                continue
            if not part:
                return answer
            answer += part
    assert time.monotonic() < until
    return answer


@pytest.mark.row("H9")
def test_the_work_of_a_client_that_left_is_dropped(tmp_path: Path) -> None:
    encoder = StalledEncoder()
    with running(tmp_path, encoder) as service:

        def begin(text: str) -> socket.socket:
            body = json.dumps({"text": text}).encode()
            connection = socket.create_connection(("127.0.0.1", service.port))
            connection.sendall(make_head(SEARCH, "application/json", len(body)) + body)
            return connection

        encoder.stall()
        with begin("first") as kept:
            wait_until(lambda: "first" in encoder.seen)
            with begin("second"):
                wait_until(lambda: service.context.text_queue.depth == 1)  # behind the first
            wait_until(lambda: 'status="499"' in service.http.get("/metrics").text)
            encoder.cue.set()
            assert kept.recv(20).startswith(b"HTTP/1.1 200")
        assert service.search("third").status_code == 200
        assert encoder.seen == ["first", "third"]


@pytest.mark.row("H9")
def test_an_interrupted_upload_leaves_nothing(service: Service) -> None:
    head = make_head("/v1/languages", "multipart/form-data; boundary=b", 5_000_000)
    part = b'--b\r\nContent-Disposition: form-data; name="dataset"; filename="x"\r\n\r\n' + bytes(3_000_000)
    with assert_state_unchanged(service):
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(head + part)
            wait_until(lambda: any((service.home / "uploads").rglob("dataset")))
        wait_until(lambda: not any((service.home / "uploads").iterdir()))


@pytest.mark.row("H10")
@pytest.mark.parametrize(
    ("request_line", "headers"),
    [
        (f"GET /livez?{'a' * 64_000} HTTP/1.1", ""),
        (f"GET /{'a' * 64_000} HTTP/1.1", ""),
        ("GET /livez HTTP/1.1", "X-Long: " + "x" * 100_000 + "\r\n"),
        ("GET /livez HTTP/1.1", "".join(f"X-{n}: 1\r\n" for n in range(1_000))),
        ("GET /livez HTTP/9.9.9", ""),
        ("NONSENSE", ""),
    ],
)
def test_a_head_that_is_too_large_or_malformed_is_refused(service: Service, request_line: str, headers: str) -> None:
    answer = send_raw(service, f"{request_line}\r\nHost: x\r\n{headers}\r\n".encode())
    assert answer.split(b" ")[1] in {b"400", b"431"}, answer[:200]


@pytest.mark.row("H11")
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "//", 404, "not_found"),
        ("GET", "//v1/languages", 404, "not_found"),
        ("GET", "/v1/%2e%2e/livez", 404, "not_found"),
        ("GET", "/%00", 404, "not_found"),
        ("GET", "/v1/languages/", 404, "not_found"),
        ("GET", "/V1/LANGUAGES", 404, "not_found"),
        ("DELETE", "/v1/languages", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/languages", 405, "method_not_allowed"),
        ("TRACE", "/v1/languages", 405, "method_not_allowed"),
        ("PUT", "/livez", 405, "method_not_allowed"),
    ],
)
def test_unknown_paths_and_methods_get_our_own_body(
    service: Service, method: str, path: str, status: int, code: str
) -> None:
    with assert_state_unchanged(service):
        # a URL of its own: joined to a base, `//v1` would name a host
        assert_problem(service.admin.request(method, f"{service.url}{path}"), status, code)


@pytest.mark.row("H11")
def test_head_gets_the_status_alone(service: Service) -> None:
    for path in ("/livez", "/readyz", "/v1/languages", "/v1/pictures/p0/content", "/"):
        answer, whole = service.admin.head(path), service.admin.get(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len(whole.content))
        assert answer.headers["content-type"] == whole.headers["content-type"]
    assert service.admin.head("/v1/pictures/nope").status_code == 404
    assert service.admin.head("/v1/expansions/exp_1/events").status_code == 405  # a stream has no end to measure


@pytest.mark.row("H11")
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/languages", "GET, HEAD, POST"),
        ("/v1/pictures", "GET, HEAD, POST"),
        ("/v1/pictures/p0", "DELETE, GET, HEAD, PATCH, PUT"),
        ("/v1/expansions/exp_1/events", "GET"),
        ("/v1/embeddings", "POST"),
    ],
)
def test_a_refused_method_gets_a_list_of_the_allowed_ones(service: Service, path: str, allowed: str) -> None:
    assert service.admin.request("TRACE", path).headers["allow"] == allowed


@pytest.mark.parametrize(
    ("query", "location"),
    [
        ("limit=5.0", "query.limit"),
        ("limit=%2B5", "query.limit"),
        ("limit=%205", "query.limit"),
        ("limit=1_0", "query.limit"),
        ("limit=%D9%A5", "query.limit"),
        ("limit=101", "query.limit"),
        ("limit=1&limit=2", "query.limit"),
        ("foo=1", "query"),
    ],
)
def test_a_query_that_is_lax_is_refused(service: Service, query: str, location: str) -> None:
    for path in ("/v1/pictures", "/v1/expansions", "/v1/versions", "/v1/admin/releases"):
        body = assert_problem(service.admin.get(f"{path}?{query}"), 422, "invalid_request")
        assert [place["location"] for place in body["errors"]] == [location]
        assert service.admin.get(f"{path}?limit=100").status_code == 200
    assert_problem(service.admin.get("/v1/languages?foo=1"), 422, "invalid_request")


@pytest.mark.row("H12")
def test_forged_host_headers_change_no_link(service: Service) -> None:
    headers = {"Host": "evil.example", "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Host": "evil.example"}
    answer = service.admin.get("/v1/pictures", headers=headers)
    assert answer.status_code == 200
    assert "evil" not in answer.text + str(answer.headers)


class BrokenEncoder(WeightlessEncoder):
    """Fails on one text, and reads another as numbers that JSON does not have."""

    def encode_texts(self, items: Any, *, alone: bool = False) -> EncodedTexts:
        if any(text == "fail" for _, text in items):
            raise RuntimeError("with a secret of /etc")
        read = super().encode_texts(items)
        return replace(read, vectors=read.vectors * np.nan) if any(text == "nan" for _, text in items) else read


@pytest.mark.row("H14", "H15")
@pytest.mark.parametrize(("text", "reason"), [("fail", "a secret of /etc"), ("nan", "a finite number")])
def test_an_unexpected_error_is_500_and_its_text_is_not_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, reason: str
) -> None:
    with running(tmp_path, BrokenEncoder()) as service, caplog.at_level(logging.ERROR):
        service.put("a", en=["a cat"])
        answer = service.search(text)
        body = assert_problem(answer, 500, "internal_error")
        assert reason not in answer.text
        logged = [each for each in caplog.records if getattr(each, "request_id", "") == body["request_id"]]
        assert any(reason in str(each.exc_info) for each in logged)
        assert 'status="500"' in service.http.get("/metrics").text
        assert service.search("fine").status_code == 200
