"""Keys and limits; the routes one by one are in tests/contract."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.harness import ADMIN_KEY, Service, assert_problem, assert_state_unchanged, picture, running
from tests.service.processes import run_module

PLACEHOLDERS = ["", "changeme", "too-short"]


@pytest.mark.row("A4")
def test_an_upload_with_a_bad_key_leaves_not_one_byte(service: Service) -> None:
    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="dataset"; filename="x"\r\n\r\n'
        for _ in range(50):
            assert not any((service.home / "uploads").rglob("*"))
            yield bytes(1 << 20)

    headers = {"X-API-Key": "wrong", "Content-Type": "multipart/form-data; boundary=b"}
    with assert_state_unchanged(service):
        answer = service.http.post("/v1/languages", content=body(), headers=headers)
        assert_problem(answer, 401, "invalid_api_key")


def test_the_same_upload_with_a_good_key_is_written(service: Service) -> None:  # the test above can fail
    seen = []

    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="dataset"; filename="x"\r\n\r\n'
        for _ in range(10):
            seen.append(any((service.home / "uploads").rglob("dataset")))
            yield bytes(1 << 20)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = service.admin.post("/v1/languages", content=body(), headers=headers)
    assert_problem(answer, 400, "malformed_multipart")
    assert any(seen)


@pytest.mark.row("A5")
def test_a_key_in_the_query_is_not_accepted_and_not_logged(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = service.http.get("/v1/languages", params={"key": ADMIN_KEY, "api_key": ADMIN_KEY})
        assert_problem(answer, 401, "missing_api_key")
        service.admin.get("/v1/languages")
    server = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert any(record.name == "pictoglot.access" for record in server)
    assert not any(ADMIN_KEY in f"{record.getMessage()} {record.__dict__}" for record in server)


@pytest.mark.row("A6", "H12")
def test_a_burst_of_one_key_is_cut_and_others_are_not_affected(tmp_path: Path) -> None:
    with running(tmp_path, rate_per_minute=60) as service:  # ten at once
        key = {"X-API-Key": service.key("search")}
        forged = [{**key, "X-Forwarded-For": f"1.2.3.{n}"} for n in range(20)]
        answers = [service.http.get("/v1/languages", headers=headers) for headers in forged]
        assert [answer.status_code for answer in answers[:10]] == [200] * 10
        body = assert_problem(answers[-1], 429, "rate_limited")
        assert body["retry_after_seconds"] == int(answers[-1].headers["retry-after"]) >= 1
        limits = [[int(answer.headers[f"ratelimit-{name}"]) for name in ("limit", "remaining")] for answer in answers]
        assert limits[0] == [10, 9] and limits[-1] == [10, 0]
        assert [int(answers[place].headers["ratelimit-reset"]) for place in (0, -1)] == [1, 10]
        assert "ratelimit-limit" not in service.http.get("/livez").headers
        assert service.admin.get("/v1/languages").status_code == 200
        assert service.http.get("/livez").status_code == 200


def test_keys_are_shown_once_and_stored_as_digests(service: Service) -> None:
    key = service.key("search", label="for a robot")
    listed = service.admin.get("/v1/admin/keys").text
    assert "for a robot" in listed
    assert key not in listed
    secret = key.split("_", 2)[2].encode()
    assert not any(secret in path.read_bytes() for path in service.home.rglob("registry.db*"))


@pytest.mark.parametrize(
    "body",
    [
        {"scope": "root"},
        {},
        {"scope": "search", "label": "x" * 201},
        {"scope": "search", "expires_at": "2030-01-01T00:00:00"},
        {"scope": "search", "expires_at": "soon"},
        {"scope": "search", "expires_at": 5},
        {"scope": "search", "expires_at": "5"},
        {"scope": "search", "expires_at": 4_000_000_000},
        {"scope": "search", "expires_at": "4000000000"},
        {"scope": "search", "expires_at": True},
        {"scope": "search", "expires_at": "2020-01-01T00:00:00Z"},
        {"scope": "search", "expires_at": "9999-12-31T23:59:59-12:00"},
        {"scope": "search", "label": "a\0"},
        {"scope": "search", "label": "a\x1b[2J"},
        {"scope": "search", "key": "mine"},
    ],
)
def test_a_malformed_request_for_a_key_is_refused(service: Service, body: dict[str, object]) -> None:
    with assert_state_unchanged(service):
        assert_problem(service.admin.post("/v1/admin/keys", json=body), 422, "invalid_request")


def test_a_key_may_expire_in_the_future(service: Service) -> None:
    for end in ("2999-01-01T00:00:00Z", "2999-01-01T00:00:00.5+02:00"):
        body = {"scope": "search", "label": "schlüssel 日本", "expires_at": end}
        assert service.admin.post("/v1/admin/keys", json=body).json()["expires_at"].startswith("299")


def test_revoking_an_unknown_key_is_not_found(service: Service) -> None:
    assert_problem(service.admin.delete("/v1/admin/keys/nope"), 404, "key_not_found")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("home"), open=True) as service:
        yield service


def test_an_open_loopback_needs_a_key_only_for_admin(opened: Service) -> None:
    put = opened.http.put("/v1/pictures/a", files={"picture": ("x", picture())})
    assert put.status_code == 201
    assert opened.http.post("/v1/search/pictures", json={"text": "cat"}).status_code == 200
    assert_problem(opened.http.get("/v1/admin/keys"), 401, "missing_api_key")
    assert_problem(opened.http.get("/v1/languages", headers={"X-API-Key": "wrong"}), 401, "invalid_api_key")


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, *({"Origin": at} for at in ("http://evil.example", "null", "http://[::2]", ""))],
)
def test_a_page_of_another_site_may_not_use_an_open_loopback(opened: Service, headers: dict[str, str]) -> None:
    own = {"Origin": "http://localhost:8321", "Sec-Fetch-Site": "same-origin"}
    assert opened.http.get("/v1/languages", headers=own).status_code == 200
    answer = opened.http.post("/v1/pictures", files={"picture": ("x", picture())}, headers=headers)
    assert_problem(answer, 401, "missing_api_key")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", "", "[::2]", "localhost@x"]
)
def test_an_open_loopback_needs_a_loopback_name_or_a_key(opened: Service, host: str) -> None:
    """A page under a foreign name that resolves to 127.0.0.1 has the same origin."""
    assert_problem(opened.http.get("/v1/languages", headers={"Host": host}), 401, "missing_api_key")
    assert opened.admin.get("/v1/languages", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8321", "127.0.0.1:1", "[::1]", "[::1]:8321"])
def test_every_name_of_the_loopback_is_open(opened: Service, host: str) -> None:
    assert opened.http.get("/v1/languages", headers={"Host": host}).status_code == 200


@pytest.mark.row("A8")
@pytest.mark.parametrize("key", PLACEHOLDERS)
def test_without_a_real_admin_key_production_does_not_start(tmp_path: Path, key: str) -> None:
    status, _, errors = run_module("service", tmp_path, ENVIRONMENT="production", ADMIN_KEY=key)
    assert (status, len(errors.splitlines())) == (78, 1) and "PICTOGLOT_ADMIN_KEY" in errors


def test_a_local_service_makes_its_secrets_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    with running(tmp_path, admin_key="") as service:
        key = {"X-API-Key": path.read_text()}
        assert len(key["X-API-Key"]) >= 40
        assert service.http.get("/v1/admin/keys", headers=key).status_code == 200
        for id in ("a", "b"):
            service.http.put(f"/v1/pictures/{id}", files={"picture": ("x", picture())}, headers=key).raise_for_status()
        cursor = service.http.get("/v1/pictures?limit=1", headers=key).json()["next_cursor"]
    for secret in (path, tmp_path / "cursor.key"):
        assert secret.stat().st_mode & 0o777 == 0o600
    with running(tmp_path, admin_key="") as service:
        assert path.read_text() == key["X-API-Key"]
        rest = service.http.get("/v1/pictures", params={"limit": 1, "cursor": cursor}, headers=key).json()
        assert [item["id"] for item in rest["items"]] == ["b"]


def make_guesses(count: int) -> Iterator[dict[str, str]]:
    """Yield headers with keys of the right form, and ids that do not exist."""
    for number in range(count):
        yield {"X-API-Key": f"pk_{number:012x}_{'x' * 43}"}


def test_requests_without_a_valid_key_share_one_rate_and_no_valid_key_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, rate_per_minute=24) as service:  # four at once, then one in 2.5 seconds
        statuses = [service.http.get("/v1/languages", headers=guess).status_code for guess in make_guesses(20)]
        assert set(statuses) == {401, 429}
        assert service.http.get("/v1/languages").status_code == 429  # without any key, too
        assert service.http.get("/v1/languages", headers={"Authorization": "Basic x"}).status_code == 429
        never_seen = {"X-API-Key": service.key("search")}
        assert service.http.get("/v1/languages", headers=never_seen).status_code == 200
        assert service.admin.get("/v1/languages").status_code == 200
