"""Keys, rates and lanes, and what a client never ends; the routes one by one are in tests/contract."""

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import lanes
from service.lanes import Lane
from service.people import RateLimiter
from service.problems import RateLimited
from tests.patience import PATIENCE
from tests.service.harness import (
    ADMIN_KEY,
    Service,
    assert_problem,
    assert_state_unchanged,
    picture,
    running,
    share_service,
)
from tests.service.processes import run_module
from tests.service.test_http import SEARCH, make_head

PLACEHOLDERS = ["", "changeme", "too-short"]


@pytest.mark.row("A4")
def test_of_an_upload_with_a_bad_key_not_one_byte_is_written(service: Service) -> None:
    seen = []

    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="dataset"; filename="x"\r\n\r\n'
        for _ in range(50):
            seen.append(any((service.home / "uploads").rglob("*")))
            yield bytes(1 << 20)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    with assert_state_unchanged(service):
        refused = service.http.post("/v1/languages", content=body(), headers={"X-API-Key": "wrong", **headers})
        assert_problem(refused, 401, "invalid_api_key")
    assert not any(seen)
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
        *({"scope": "search", "expires_at": end} for end in ("soon", 5, "5", 4_000_000_000, "4000000000", True)),
        *({"scope": "search", "expires_at": end} for end in ("2030-01-01T00:00:00", "2020-01-01T00:00:00Z")),
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


opened = share_service(open=True)


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
    with running(tmp_path, rate_per_minute=12) as service:  # two at once, then one in five seconds
        statuses = [service.http.get("/v1/languages", headers=guess).status_code for guess in make_guesses(20)]
        assert set(statuses) == {401, 429}
        for headers in ({}, {"Authorization": "Basic x"}):  # without any key, too
            later = [service.http.get("/v1/languages", headers=headers).status_code for _ in range(4)]
            assert 429 in later  # not each one: five seconds may pass on a busy machine
        never_seen = {"X-API-Key": service.key("search")}
        assert service.http.get("/v1/languages", headers=never_seen).status_code == 200
        assert service.admin.get("/v1/languages").status_code == 200


def test_the_counts_of_ten_thousand_keys_are_kept_and_no_more() -> None:
    rate = RateLimiter(6, clock=lambda: 0.0)  # one at once
    for number in range(10_000):
        rate.take(f"key {number}")
    with pytest.raises(RateLimited):
        rate.take("key 0")
    rate.take("one more")
    rate.take("key 0")


def test_a_disk_that_times_out_is_no_slow_registry() -> None:
    def work() -> None:
        raise TimeoutError(errno.ETIMEDOUT, "of a network file system")

    for lane in (Lane("test", 1), Lane("test", 1, PATIENCE, "busy")):
        with pytest.raises(TimeoutError, match="network"):
            asyncio.run(lane.run(work))
        with pytest.raises(TimeoutError, match="network"):
            lane.run_blocking(work)


def test_waiting_for_a_turn_takes_nothing_of_the_time_for_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_TURN_SECONDS", PATIENCE)
    lane, done = Lane("test", 1, 0.2, "busy"), threading.Event()

    async def run_second() -> str:
        others = asyncio.create_task(lane.run(done.wait, PATIENCE))
        waiting = asyncio.create_task(lane.run(str, "done"))
        asyncio.get_running_loop().call_later(0.5, done.set)
        await others
        return await waiting

    assert asyncio.run(run_second()) == "done"


def test_nobody_works_for_a_client_that_left_while_it_waited_for_its_turn() -> None:
    lane, done, calls = Lane("test", 1, PATIENCE, "busy"), threading.Event(), list[str]()

    async def leave() -> None:
        others = asyncio.create_task(lane.run(done.wait, PATIENCE))
        waiting = asyncio.create_task(lane.run(calls.append, "begun"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        done.set()
        await others
        await lane.run(calls.append, "another")

    asyncio.run(leave())
    assert calls == ["another"]


def test_work_that_takes_too_long_is_done_without_and_keeps_no_other_from_its_turn() -> None:
    lane, done = Lane("test", 2), threading.Event()

    async def run_late() -> object:
        lane.seconds = 0.2
        found = await lane.try_to_run(done.wait, PATIENCE)
        lane.seconds = PATIENCE
        return found

    async def try_some() -> None:
        assert await run_late() is None and await lane.try_to_run(str, "done") == "done"
        while await lane.try_to_run(str, "done") is not None:
            assert await run_late() is None  # until both threads wait
        done.set()
        while await lane.try_to_run(str, "again") is None:
            await asyncio.sleep(0.01)

    asyncio.run(try_some())


CHUNKED = make_head(SEARCH, "application/json", 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")


@pytest.mark.row("H10")
@pytest.mark.parametrize(
    "begun",
    [
        b"GET /livez HTTP/1.1\r\nX-Long: ",
        b"GET /",
        CHUNKED + b"2;a=",
        CHUNKED + b"2\r\n{}\r\n0\r\nX-Trailer: ",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /",
    ],
    ids=["header", "path", "chunk size", "trailer", "second request"],
)
def test_what_does_not_end_is_cut_off(service: Service, begun: bytes) -> None:
    sent = 0
    address = ("127.0.0.1", service.port)
    with socket.create_connection(address, timeout=PATIENCE) as connection, pytest.raises(ConnectionError):
        connection.sendall(begun)
        while sent < 64 << 20:
            connection.sendall(b"x" * 65_536)
            sent += 65_536
    assert sent < 16 << 20  # with what the system keeps of it: the service has less
