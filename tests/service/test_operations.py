"""Readiness, metrics, documents and shutdown."""

import logging
import os
import re
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from service import watch
from service.__main__ import bind
from service.commands.doctor import Checkup, Finding
from service.settings import Settings
from store.errors import RegistryUnavailable, VersionCorrupt
from tests.doubles import StalledEncoder, WeightlessEncoder
from tests.patience import PATIENCE
from tests.redis_server import RedisServer
from tests.service.harness import (
    Service,
    assert_problem,
    assert_state_unchanged,
    learn,
    picture,
    running,
    wait_until,
)
from tests.service.processes import run_module, weightless
from tests.service.test_http import SEARCH, make_head, send_raw


@pytest.mark.row("F11")
def test_readiness_tells_only_who_may_see_all_of_languages_and_changes(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.learn("cy")
        bound = service.key("write", collections=["secret"])
        keys = [{}, {"X-API-Key": "wrong"}, {"Authorization": f"Bearer {bound}"}]
        before = [service.http.get("/readyz", headers=headers).json() for headers in keys]
        assert service.put("a", cy=["afal"]).status_code == 201  # a change, and captions in a language
        service.context.registry.encodings.record_first("torch", "float32", "of the words of secret captions")
        service.context.live.refresh()
        after = [service.http.get("/readyz", headers=headers) for headers in keys]
        assert [answer.status_code for answer in after] == [200, 200, 200]
        for finding, answer in zip(before, after, strict=True):
            assert answer.json() == finding | {"degraded": ["encoding"]} and finding["generations"] == {}
        whole = service.http.get("/readyz", headers={"X-API-Key": service.key("search")}).json()
        assert set(whole["generations"]) == {"pictures", "en", "cy"}
        assert whole["degraded"] == ["of the words of secret captions; torch in float32 computes the vectors instead."]
        assert (whole["status"], whole["release"], whole["base"]) == ("ready", 2, "bundled")
        assert whole["encoding"] == "torch in float32"


def test_a_broker_that_is_down_is_told_and_searches_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(watch, "_BROKER_SECONDS", 0.5)
    broker = RedisServer(tmp_path)
    broker.start()
    try:
        with running(tmp_path / "home", broker_url=broker.url) as service:

            def wait_for(*codes: str) -> None:
                wait_until(lambda: service.http.get("/readyz").json()["degraded"] == [*codes])
                assert service.http.get("/readyz").status_code == service.search("cat").status_code == 200

            wait_for()
            broker.send_signal(signal.SIGSTOP)
            wait_for("broker_unavailable")
            broker.send_signal(signal.SIGCONT)
            wait_for()
            broker.kill()
            wait_for("broker_unavailable")
            broker.start()
            wait_for()
    finally:
        broker.kill()


@pytest.mark.parametrize("stopped", ["text_queue", "picture_queue", "write_queue"])
def test_a_service_with_a_stopped_queue_is_not_ready(tmp_path: Path, stopped: str) -> None:
    with running(tmp_path) as service:
        task = getattr(service.context, stopped)._task
        task.get_loop().call_soon_threadsafe(task.cancel)
        wait_until(lambda: service.http.get("/readyz").status_code == 503)
        assert service.http.get("/readyz").json()["degraded"] == ["encoder_stopped"]


def test_metrics_count_by_route_and_not_by_path(service: Service) -> None:
    service.search("ein Hund", language="de")
    service.admin.get("/v1/pictures/p0")
    service.admin.request("BREW", "/v1/pictures/p0")
    text = service.http.get("/metrics").text
    assert re.search(r'pictoglot_request_seconds_count\{method="GET",route="/v1/pictures/\{id\}",status="200"\}', text)
    assert re.search(r'pictoglot_searches_total\{language="de",source="requested"\} \d', text)
    assert "pictoglot_release 2.0" in text
    assert 'pictoglot_expansions{state="succeeded"} 1.0' in text
    assert "pictoglot_queue_texts 0.0" in text
    assert 'method="OTHER"' in text
    assert "p0" not in text


def test_the_documentation_page_loads_nothing_from_other_hosts(service: Service) -> None:
    for path in ("/docs", "/openapi.json"):  # made once: anybody may ask
        made = service.http.get(path)
        assert service.http.get(path, headers={"If-None-Match": made.headers["etag"]}).status_code == 304
    page = service.http.get("/docs")
    assert page.status_code == 200
    assert "/v1/search/pictures" in page.text
    assert "http:" not in page.text and "https:" not in page.text and "<script" not in page.text


@pytest.mark.row("L4")
def test_a_full_queue_is_refused_at_once_and_health_is_not_affected(tmp_path: Path) -> None:
    encoder = StalledEncoder()
    with running(tmp_path, encoder, queue_limit=2, batch_size=1) as service:
        encoder.stall()
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda n=n: answers.append(service.search(f"query {n}").status_code))
            for n in range(4)
        ]
        threads[0].start()
        wait_until(lambda: encoder.seen == ["query 0"])  # it is out of the queue
        for thread in threads[1:]:
            thread.start()
        wait_until(lambda: service.context.text_queue.depth >= 2)
        body = assert_problem(service.search("one too many"), 503, "overloaded")
        assert body["retry_after_seconds"] >= 1
        assert service.http.get("/livez").status_code == 200
        assert service.http.get("/readyz").status_code == 200
        assert 200 not in answers, "none of those before is answered yet"
        encoder.cue.set()
        for thread in threads:
            thread.join()
        assert answers.count(200) >= 3


def test_a_search_that_waits_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = StalledEncoder()
    with running(tmp_path, encoder, batch_size=1) as service, ThreadPoolExecutor(1) as clients:
        encoder.stall()
        first = clients.submit(service.search, "first")
        wait_until(lambda: encoder.seen == ["first"])
        monkeypatch.setattr(service.context.text_queue, "_seconds", 0.1)
        assert_problem(service.search("second"), 503, "overloaded")
        encoder.cue.set()
        assert first.result().status_code == 200
        assert encoder.seen == ["first"]


@pytest.mark.row("S10")
@pytest.mark.parametrize(
    ("named", "settings"),
    [
        *(("PORT", {"PORT": "70000"}), ("THREADS", {"THREADS": "0"}), ("COLOUR", {"COLOUR": "red"})),
        *(("OPEN", {"OPEN": "maybe"}), ("BASE", {"BASE": "nonsense"}), ("OPEN", {"OPEN": "1", "HOST": "0.0.0.0"})),
    ],
)
def test_settings_that_do_not_fit_are_named_and_end_the_start(
    tmp_path: Path, named: str, settings: dict[str, str]
) -> None:
    status, _, errors = run_module("service", tmp_path, **settings)
    assert (status, len(errors.splitlines())) == (78, 1) and f"PICTOGLOT_{named}" in errors


class ReadOnly:
    """A folder that nobody, not even root, can write to until the block ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def __enter__(self) -> None:
        if subprocess.run(["mount", "--bind", self._folder, self._folder], capture_output=True).returncode != 0:
            pytest.skip("only root may mount a folder")
        subprocess.run(["mount", "-o", "remount,ro,bind", self._folder], check=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", self._folder], check=True)


@pytest.mark.row("S6")
def test_a_read_only_data_root_is_reported_and_searches_go_on(tmp_path: Path, postgresql_url: str) -> None:
    with running(tmp_path) as service:
        service.put("a", en=["a cat"])
        service.put("b", en=["a dog"])
        with ReadOnly(tmp_path / "pictures"):
            assert_problem(service.put("c", picture(9)), 507, "storage_full")
            assert service.search("a cat").status_code == 200
            assert service.admin.delete("/v1/pictures/b").status_code == 204  # its files are swept later
            assert "b" not in [item["id"] for item in service.search("a dog").json()["items"]]
        with ReadOnly(tmp_path):
            assert service.search("a cat").status_code == 200
            wait_until(lambda: "storage_full" in service.http.get("/readyz").json()["degraded"])
            finding = Finding("data root", "bad", f"{tmp_path} cannot be written: Read-only file system")
            assert Checkup(Settings(home=tmp_path)).check("data root") == finding
            for name in ("service", "worker"):  # a second one, which needs the registry in it
                status, _, errors = run_module(name, tmp_path)
                assert (status, len(errors.splitlines())) == (78, 1), errors
                assert f"PICTOGLOT_HOME: {tmp_path} cannot be written" in errors
            other = weightless(tmp_path, DATABASE_URL=postgresql_url)  # one that does not
            said = f"PICTOGLOT_HOME: {tmp_path} cannot be written: Read-only file system.\n"
            assert (other.communicate(timeout=PATIENCE)[1], other.returncode) == (said, 1)
        assert service.put("c", picture(9)).status_code == 201


@pytest.mark.row("S9")
def test_what_a_crash_left_of_uploads_and_submissions_is_swept(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        kept = service.admin.post(
            "/v1/languages",
            data={"language": "cy"},
            files={"dataset": ("x", b"".join(b"red apple %d\tafal coch %d\n" % (n, n) for n in range(80)))},
        )
        assert kept.status_code == 202
    left = [
        tmp_path / f"uploads/.tmp-{1:032x}",
        tmp_path / f"expansions/.tmp-{2:032x}",
        tmp_path / f"expansions/exp_{0:020}",
    ]
    young = [tmp_path / "expansions/exp_being_written", tmp_path / f"uploads/.tmp-{3:032x}"]
    for folder in (*left, *young):
        folder.mkdir(parents=True)
        (folder / "dataset").write_bytes(b"x")
    for folder in (*left, tmp_path / "expansions" / kept.json()["expansion"]["id"]):
        for path in (*folder.iterdir(), folder):
            os.utime(path, (1, 1))
    with running(tmp_path):
        wait_until(lambda: not any(folder.exists() for folder in left))
    assert all(folder.exists() for folder in young)  # after the sweep, which the service waits for at its end
    assert (tmp_path / "expansions" / kept.json()["expansion"]["id"] / "dataset").is_file()


class DamagedEncoder(WeightlessEncoder):
    """Finds every version except version 0 damaged."""

    def open(self, folders: Any, onto: Any = None) -> Any:
        raise VersionCorrupt("rows.safetensors differs from its manifest")


@pytest.mark.row("I5")
def test_a_damaged_release_is_skipped_for_an_older_one_and_reported(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.learn("cy")
    with running(tmp_path, DamagedEncoder()) as service:
        answer = service.admin.get("/readyz")
        assert (answer.status_code, answer.json()["release"]) == (200, 1)
        assert "version_corrupt" in " ".join(answer.json()["degraded"])
        assert service.search("cat").status_code == 200
        assert_problem(service.search("cath", language="cy"), 404, "language_not_found")


class BlindEncoder(WeightlessEncoder):
    """Another image tower than the one that encoded the gallery, and a damaged one."""

    image_fingerprint = "0" * 64

    def encode_pictures(self, images: Any, batch: int = 64) -> Any:
        raise VersionCorrupt("the image tower is damaged")


@pytest.mark.row("I6")
def test_when_no_release_can_be_verified_the_service_is_alive_and_not_ready(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.put("a", en=["a cat"])
    with running(tmp_path, BlindEncoder()) as service:
        assert service.http.get("/livez").status_code == 200
        assert_problem(service.http.get("/readyz"), 503, "index_unavailable")
        with assert_state_unchanged(service, serving=False):
            assert_problem(service.search("cat"), 503, "index_unavailable")
            for path in (SEARCH, "/v1/embeddings"):  # without waiting for the picture
                head = make_head(path, "multipart/form-data; boundary=b", 60_000)
                assert b"index_unavailable" in send_raw(service, head)


def test_answers_do_not_wait_for_the_client_to_acknowledge(tmp_path: Path) -> None:
    """asyncio sets TCP_NODELAY on accepted sockets only when they name the protocol; else each answer takes 40 ms."""
    with closing(bind(Settings(home=tmp_path, port=0))) as bound:
        bound.listen()
        with closing(socket.create_connection(bound.getsockname())):
            accepted, _ = bound.accept()
            with closing(accepted):
                assert accepted.proto == socket.IPPROTO_TCP


@pytest.mark.row("F11")
@pytest.mark.parametrize("setting", [{"environment": "production"}, {"host": "0.0.0.0"}], ids=["production", "public"])
def test_outside_of_a_local_loopback_the_metrics_need_a_key(tmp_path: Path, setting: dict[str, str]) -> None:
    with running(tmp_path, **setting) as service:
        assert_problem(service.http.get("/metrics"), 401, "missing_api_key")
        assert_problem(service.http.get("/metrics", headers={"X-API-Key": "wrong"}), 401, "invalid_api_key")
        key = service.key("search")
        assert "pictoglot_release" in service.http.get("/metrics", headers={"Authorization": f"Bearer {key}"}).text
        for path in ("/livez", "/readyz"):  # a load balancer has none
            assert service.http.get(path).status_code == 200


class Failing:
    """Replaces the refreshing of the index while there is an `error`."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        self.error: Exception | None = error
        self.attempts = 0
        self._refresh = service.context.live.refresh
        monkeypatch.setattr(service.context.live, "refresh", self)

    def __call__(self) -> bool:
        self.attempts += 1
        if (error := self.error) is not None:
            raise error
        return self._refresh()


def list_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name == "pictoglot.watch"
    ]


def test_after_an_unexpected_error_it_tries_later_and_later_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running(tmp_path, watch_seconds=0.05) as service:
        failing = Failing(service, monkeypatch, MemoryError("one"))
        wait_until(lambda: failing.attempts >= 1)
        time.sleep(1.5)  # 30 times watch_seconds
        assert failing.attempts <= 7
        assert list_warnings(caplog) == ["cannot follow the registry: an unexpected error; trying again"]
        failing.error = MemoryError("two")
        wait_until(lambda: len(list_warnings(caplog)) == 2)
        learn(service.context.registry, "cy")
        failing.error = None
        wait_until(lambda: service.context.live.current.release.number == 2)
        seen = failing.attempts
        wait_until(lambda: failing.attempts >= seen + 20, seconds=25)  # as often as before


def test_while_the_registry_is_away_it_asks_as_often_as_ever_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running(tmp_path, watch_seconds=0.05) as service:
        failing = Failing(service, monkeypatch, RegistryUnavailable())
        wait_until(lambda: failing.attempts >= 20)
        assert list_warnings(caplog) == ["cannot follow the registry"]
        failing.error = None
        seen = failing.attempts
        wait_until(lambda: failing.attempts >= seen + 2)
        failing.error = RegistryUnavailable()
        wait_until(lambda: len(list_warnings(caplog)) == 2)  # another outage is reported again
