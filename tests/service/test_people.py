"""People who sign in: the settings, a proxy that names them, sessions of browsers, an issuer of OpenID Connect."""

import base64
import json
import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from oidc_provider_mock import User, run_server_in_thread

from service.settings import Settings
from tests.patience import PATIENCE
from tests.service.harness import ADMIN_KEY, Service, assert_problem, picture, running, wait_until

PAGE = "http://127.0.0.1:9"  # where people are said to open it
SECRET = "a-secret-that-the-proxy-shares"
GROUPS = {
    "keepers": {"scope": "admin"},
    "prints": {"scope": "write", "collections": ["prints", "maps"], "default_collection": "maps"},
    "*": {"scope": "search"},
}
PEOPLE = {"public_url": PAGE, "groups": json.dumps(GROUPS)}


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    people = [
        User(sub="1001", claims={"name": "Anna Bauer", "groups": ["others", "prints"]}),
        User(sub="1002", claims={"name": "Ben", "groups": "keepers"}),
    ]
    with run_server_in_thread(user_claims=people, require_nonce=True) as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, issuer: str) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("home")
    with running(home, proxy_secret=SECRET, oidc_issuer=issuer, oidc_client_secret="x", **PEOPLE) as service:
        yield service


@pytest.fixture
def browser(service: Service) -> Iterator[httpx.Client]:
    """A browser at the page: it keeps cookies, and says where a change comes from."""
    with service.open_client({"Origin": PAGE}) as browser:
        yield browser


def ask_issuer(browser: httpx.Client, sub: str = "1001", **more: str) -> dict[str, str]:
    """Begin to sign in, and say who at the issuer; return what the browser is sent back with."""
    begun = browser.get("/signin")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(begun.headers["location"]).query).items()}
    assert asked["code_challenge_method"] == "S256" and len(asked["code_challenge"]) == 43
    assert {"state", "nonce"} <= set(asked) and asked["redirect_uri"] == f"{PAGE}/signin/callback"
    chosen = httpx.post(begun.headers["location"], data={"sub": sub, **more}, timeout=PATIENCE)
    back = urlsplit(chosen.headers["location"])
    assert f"{back.scheme}://{back.netloc}{back.path}" == f"{PAGE}/signin/callback"
    return {name: values[0] for name, values in parse_qs(back.query).items()}


def sign_in(browser: httpx.Client, sub: str = "1001") -> httpx.Response:
    answer = browser.get("/signin/callback", params=ask_issuer(browser, sub))
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PAGE}/"), answer.text
    return answer


def put(browser: httpx.Client, id: str, **more: Any) -> httpx.Response:
    return browser.put(f"/v1/pictures/{id}", files={"picture": ("x", picture())}, **more)


def test_who_signs_in_gets_a_session_that_no_script_reads_and_the_log_names_the_person(
    service: Service, browser: httpx.Client
) -> None:
    assert browser.get("/session").json() | {"sign_in": ""} == {
        "by": None, "id": None, "label": "", "scope": None, "collections": None, "refused": "missing_api_key",
        "sign_in": "",
    }  # fmt: skip
    cookies = sign_in(browser).headers.get_list("set-cookie")
    kept = next(each for each in cookies if each.startswith("pictoglot="))
    assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=43200"} <= set(kept.split("; ")) and "Secure" not in kept
    assert any(each.startswith('pictoglot-signin=""') and "Max-Age=0" in each for each in cookies)
    answer = browser.get("/session")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() | {"sign_in": ""} == {
        "by": "session", "id": "oidc:1001", "label": "Anna Bauer", "scope": "write", "collections": ["maps", "prints"],
        "refused": None, "sign_in": "",
    }  # fmt: skip
    assert put(browser, "by-anna").json()["collection"] == "maps"
    assert_problem(put(browser, "by-anna", data={"collection": "letters"}), 403, "insufficient_scope")
    entries = service.admin.get("/v1/admin/audit", params={"actor": "oidc:1001", "limit": "2"}).json()["items"]
    assert [(each["label"], each["act"]) for each in entries] == [
        ("Anna Bauer", "PUT /v1/pictures/{id}"), ("Anna Bauer", "GET /signin/callback"),
    ]  # fmt: skip
    assert entries[0]["targets"] == {"by-anna": "created"}


def test_who_signs_out_is_out_and_a_copy_of_the_cookie_with_it(service: Service, browser: httpx.Client) -> None:
    sign_in(browser, "1002")
    text = browser.cookies["pictoglot"]
    assert browser.get("/v1/admin/keys").status_code == 200
    foreign = {"Origin": "https://evil.example"}
    assert_problem(browser.delete("/session", headers=foreign), 403, "foreign_origin")
    assert browser.delete("/session").status_code == 204
    away = urlsplit(browser.get("/signout").headers["location"])
    assert away.path.endswith("/end_session") and parse_qs(away.query)["post_logout_redirect_uri"] == [f"{PAGE}/"]
    assert "pictoglot" not in browser.cookies
    assert_problem(service.http.get("/v1/admin/keys", headers={"Cookie": f"pictoglot={text}"}), 401, "session_ended")
    assert browser.delete("/session").status_code == 204


def test_an_administrator_ends_the_session_of_another(service: Service, browser: httpx.Client) -> None:
    sign_in(browser)
    open_session, *_ = service.admin.get("/v1/admin/sessions").json()["items"]
    assert (open_session["subject"], open_session["label"]) == ("oidc:1001", "Anna Bauer")
    id = open_session["id"]
    assert service.admin.delete(f"/v1/admin/keys/{id}").status_code == 204
    assert_problem(browser.get("/v1/pictures"), 401, "session_ended")
    assert id not in [each["id"] for each in service.admin.get("/v1/admin/sessions").json()["items"]]
    acts = service.admin.get("/v1/admin/audit", params={"target": id}).json()["items"]
    assert [(each["actor"], each["act"], each["targets"][id]) for each in acts] == [
        ("admin", "DELETE /v1/admin/keys/{id}", "signed out"), ("oidc:1001", "GET /signin/callback", "signed in"),
    ]  # fmt: skip


@pytest.mark.parametrize("forged", ["state", "code", "cookie", "unsigned", "again", "denied", "nothing"])
def test_who_comes_back_from_the_issuer_otherwise_is_not_let_in(browser: httpx.Client, forged: str) -> None:
    back = ask_issuer(browser, **({"action": "deny"} if forged == "denied" else {}))
    if forged in back:
        back[forged] = back[forged][:-1] + "~"
    if forged == "cookie":  # that of another browser: somebody else began
        browser.cookies.clear()
    if forged == "unsigned":  # with the very content
        kept = browser.cookies["pictoglot-signin"].strip('"')
        _, _, content = base64.urlsafe_b64decode(kept + "==").partition(b'{"')
        browser.cookies.clear()
        brought = json.loads(b'{"' + content)
        brought = json.dumps(brought.get("after", brought)).encode()
        browser.cookies.set("pictoglot-signin", base64.urlsafe_b64encode(brought).decode())
    if forged == "again":
        assert browser.get("/signin/callback", params=back).headers["location"] == f"{PAGE}/"
        browser.cookies.clear()
    answer = browser.get("/signin/callback", params={} if forged == "nothing" else back)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PAGE}/#sign-in-failed")
    assert "pictoglot" not in browser.cookies and browser.get("/session").json()["scope"] is None


def test_while_the_issuer_is_away_or_another_one_nobody_signs_in(tmp_path: Path, issuer: str) -> None:
    with running(tmp_path, oidc_issuer="http://localhost:9", **PEOPLE) as service:
        assert service.http.get("/signin").headers["location"] == f"{PAGE}/#sign-in-failed"
    with running(tmp_path, oidc_issuer=f"{issuer}/other", **PEOPLE) as service:
        assert service.http.get("/signin").headers["location"] == f"{PAGE}/#sign-in-failed"
    with running(tmp_path) as service:
        assert_problem(service.http.get("/signin"), 404, "not_found")
        assert_problem(service.http.get("/signin/callback"), 404, "not_found")


def test_an_issuer_that_hangs_is_asked_by_few_at_a_time(tmp_path: Path) -> None:
    with (
        socket.create_server(("localhost", 0)) as issuer,
        running(tmp_path, oidc_issuer=f"http://localhost:{issuer.getsockname()[1]}", **PEOPLE) as service,
        ThreadPoolExecutor(20) as pool,
    ):
        issuer.settimeout(PATIENCE)
        asked = [pool.submit(httpx.get, f"{service.url}/signin", timeout=PATIENCE) for _ in range(20)]
        waiting = [issuer.accept()[0] for _ in range(16)]
        wait_until(lambda: sum(each.done() for each in asked) == 4)
        assert not select.select([issuer], [], [], 0)[0], "nobody else has asked"
        for connection in waiting:
            connection.close()
        assert {each.result().headers["location"] for each in asked} == {f"{PAGE}/#sign-in-failed"}


def test_a_cookie_that_other_hosts_can_set_counts_on_a_loopback_alone(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        own = {"X-API-Key": ADMIN_KEY, "Origin": service.url}
        (text,) = service.http.post("/session", headers=own).cookies.values()
        for host, name, by in (
            (f"127.0.0.1:{service.port}", "pictoglot", "session"),
            ("pictures.example.org", "pictoglot", None),
            ("pictures.example.org", "__Host-pictoglot", "session"),
        ):
            headers = {"Host": host, "Cookie": f"{name}={text}"}
            assert service.http.get("/session", headers=headers).json()["by"] == by, host


def test_a_cookie_goes_over_tls_alone(tmp_path: Path, issuer: str) -> None:
    with running(
        tmp_path, oidc_issuer=f"{issuer}/", **PEOPLE | {"public_url": "https://Pictures.example.org/"}
    ) as service:
        begun = service.http.get("/signin")
        assert begun.headers["location"].startswith(issuer) and "pictures.example.org" in begun.headers["location"]
        named = {"X-API-Key": ADMIN_KEY, "Origin": "https://pictures.example.org"}
        for answer, name in (
            (begun, "__Host-pictoglot-signin"),
            (service.http.post("/session", headers=named), "__Host-pictoglot"),
        ):
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith(f"{name}=") and {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
            assert "Domain" not in cookie


def test_a_key_is_remembered_where_a_person_wants_it_until_it_is_revoked(service: Service) -> None:
    key = service.key("write", label="reading room")
    with service.open_client({"Origin": PAGE}) as browser:
        assert_problem(browser.post("/session"), 401, "missing_api_key")
        foreign = {"X-API-Key": key, "Origin": "https://evil.example"}
        assert_problem(browser.post("/session", headers=foreign), 403, "foreign_origin")
        remembered = browser.post("/session", headers={"X-API-Key": key})
        assert remembered.json()["by"] == "session" and "HttpOnly" in remembered.headers["set-cookie"]
        assert key not in remembered.headers["set-cookie"]
        assert put(browser, "remembered").status_code == 201
        entry = service.admin.get("/v1/admin/audit", params={"limit": "1"}).json()["items"][0]
        assert (entry["actor"], entry["label"]) == (key.split("_")[1], "reading room")
        assert_problem(browser.post("/session"), 401, "missing_api_key")  # a session begins no other
        service.admin.delete(f"/v1/admin/keys/{key.split('_')[1]}").raise_for_status()
        assert_problem(browser.get("/v1/pictures"), 401, "session_ended")


def test_a_key_begins_few_sessions(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.keys._MOST_SESSIONS", 3)
    monkeypatch.setattr(service.context.sign_ins, "_clock", lambda: 0.0)
    headers = {"X-API-Key": service.key("search"), "Origin": PAGE}
    for _ in range(10):
        assert service.http.post("/session", headers=headers).status_code == 200
    assert_problem(service.http.post("/session", headers=headers), 429, "rate_limited")
    begun = service.admin.get("/v1/admin/audit", params={"act": "POST /session", "limit": "3"}).json()["items"]
    new = [next(id for id, became in each["targets"].items() if became == "signed in") for each in begun]
    sessions = service.admin.get("/v1/admin/sessions").json()["items"]
    assert [each["id"] for each in sessions if each["subject"] == f"key:{begun[0]['actor']}"] == new


def test_without_a_public_address_the_browser_says_whether_the_page_is_ours(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        own = {"Origin": service.url}
        with service.open_client({"X-API-Key": ADMIN_KEY}) as browser:
            assert browser.post("/session", headers={"Origin": "https://x.example"}).status_code == 403
            assert browser.post("/session", headers=own).status_code == 200
            del browser.headers["X-API-Key"]
            assert put(browser, "a", headers=own).status_code == 201
            assert put(browser, "b", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 201
            for headers in ({}, {"Origin": "null"}, {"Origin": f"{service.url}0"}, {"Sec-Fetch-Site": "same-site"}):
                assert_problem(put(browser, "c", headers=headers), 403, "foreign_origin")


@pytest.mark.row("H12")
def test_the_log_names_whom_a_proxy_names(service: Service) -> None:
    named = {
        "X-Forwarded-User": "Zoë".encode(),
        "X-Forwarded-Groups": "prints",
        "X-Proxy-Secret": SECRET,
        "X-Forwarded-For": "203.0.113.7",  # it is the proxy's own address that counts
        "Origin": PAGE,
    }
    with service.open_client(named) as http:
        assert http.get("/session").json()["id"] == "proxy:Zoë"
        assert put(http, "by-zoe").status_code == 201
    (entry,) = service.admin.get("/v1/admin/audit", params={"actor": "proxy:Zoë"}).json()["items"]
    assert entry["label"] == "Zoë" and entry["targets"] == {"by-zoe": "created"}


def test_the_first_group_decides_and_everybody_is_a_group(service: Service) -> None:
    for groups, scope in {"prints,keepers": "admin", "prints": "write", "": "search", "a, b": "search"}.items():
        named = {"X-Forwarded-User": "anna", "X-Forwarded-Groups": groups, "X-Proxy-Secret": SECRET}
        assert service.http.get("/session", headers=named).json()["scope"] == scope


def test_administrators_see_how_the_service_is(service: Service) -> None:
    status = service.admin.get("/v1/admin/status").json()
    assert status["degraded"] == [] and status["backup"] is None
    assert 0 < status["space"]["free"] <= status["space"]["total"] and status["space"]["reserve"] == 0
    assert status["queues"] == {
        "texts": 0,
        "pictures": 0,
        "unsealed": status["queues"]["unsealed"],
        "queued": 0,
        "running": 0,
    }


def test_collections_of_groups_are_named_as_pictures_name_theirs(tmp_path: Path) -> None:
    group = {"scope": "write", "collections": ["Muse\u0301e  1"], "default_collection": "Mus\u00e9e 1"}
    assert Settings(home=tmp_path, groups=json.dumps({"a": group})).bound_collections == {"Mus\u00e9e 1"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"proxy_secret": SECRET}, "PICTOGLOT_GROUPS and PICTOGLOT_PUBLIC_URL must be set"),
        ({"proxy_secret": SECRET, "groups": PEOPLE["groups"]}, "PICTOGLOT_PUBLIC_URL"),
        ({**PEOPLE, "proxy_secret": "short"}, "PICTOGLOT_PROXY_SECRET must have 16"),
        ({**PEOPLE, "proxy_secret": SECRET, "open": True}, "PICTOGLOT_OPEN"),
        ({**PEOPLE, "oidc_issuer": "https://issuer.example.org", "open": True}, "PICTOGLOT_OPEN"),
        ({"oidc_issuer": "http://issuer.example.org"}, "oidc_issuer"),
        ({"public_url": "http://pictures.example.org"}, "public_url"),
        ({"public_url": "https://pictures.example.org/gallery"}, "public_url"),
        ({"proxy_addresses": "proxy.example.org"}, "proxy_addresses"),
        ({"groups": "keepers"}, "groups"),
        ({"groups": '{"a": {"scope": "root"}}'}, "groups"),
        ({"groups": '{"a": {"scope": "admin", "collections": ["b"]}}'}, "cannot be bound"),
        ({"groups": '{"a": {"scope": "write", "collections": []}}'}, "groups"),
        (
            {"groups": '{"a": {"scope": "write", "collections": ["b"], "default_collection": "c"}}'},
            "default_collection",
        ),
    ],
)
def test_settings_that_are_unsafe_or_unclear_are_refused(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(home=tmp_path, **given)
