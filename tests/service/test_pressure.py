"""Slow requests do not take threads from searches, nor the disk space that must stay free."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.forms import FileOnDisk
from store import files
from store.errors import StorageFull
from tests.doubles import StalledEncoder, WeightlessEncoder
from tests.patience import PATIENCE, bound_time
from tests.service.harness import (
    ADMIN_KEY,
    Service,
    assert_problem,
    assert_state_unchanged,
    hold_up,
    learn,
    picture,
    running,
    wait_until,
)
from tests.service.test_languages import teach

PATIENT = {"picture_pixels": 400_000_000}  # a decoder has 50 s for so many: it may be stopped for as long


def test_requests_that_wait_for_a_release_delay_no_search(fresh: Service) -> None:
    with ThreadPoolExecutor(60) as clients, hold_up(fresh.context.live, "open") as opening:
        learn(fresh.context.registry, "cy")
        (expansion,) = fresh.context.registry.expansions.list()
        # more than the pool has threads
        answers = [clients.submit(fresh.admin.get, f"/v1/expansions/{expansion.id}") for _ in range(60)]
        assert opening.acquire(timeout=PATIENCE)
        assert fresh.search("red apple").status_code == 200
        assert fresh.admin.get("/v1/versions").status_code == 200  # needs a thread of the shared pool
        assert not any(answer.done() for answer in answers)
    assert {answer.result().json()["release"] for answer in answers} == {2}
    assert fresh.search("afal", language="cy").status_code == 200


def test_an_upload_of_unknown_length_leaves_the_space_that_must_stay_free(
    fresh: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = [8 << 20]  # bytes beyond those that must stay free; only the disk is simulated

    def require_free(_: Path, need: int) -> None:
        if need > room[0]:
            raise StorageFull("not enough free space under the data root")

    write = FileOnDisk.write

    def write_and_count(self: FileOnDisk, data: bytes) -> None:
        write(self, data)
        room[0] -= len(data)

    monkeypatch.setattr(files, "require_free", require_free)
    monkeypatch.setattr(FileOnDisk, "write", write_and_count)

    def send_body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="dataset"; filename="x"\r\n\r\n'
        for _ in range(64):
            yield bytes(1 << 20)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    with assert_state_unchanged(fresh):
        answer = fresh.admin.post("/v1/languages", content=send_body(), headers=headers)
        assert_problem(answer, 507, "storage_full")
    assert 0 <= room[0] < 2 << 20


@contextmanager
def stop_decoder(service: Service) -> Iterator[None]:
    """Stop its process during the block, as on an overloaded machine."""
    service.put("first")  # so that there is one
    (pid,) = service.context.picture_queue.uploads.decoder.pids
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_uploads_under_way_take_no_thread_and_no_decoder_from_searches(tmp_path: Path) -> None:
    with (
        running(tmp_path, **PATIENT) as service,
        stop_decoder(service),
        ThreadPoolExecutor(60) as clients,  # more than the pool has threads
    ):
        uploads = [clients.submit(service.put, f"p{number}") for number in range(60)]
        wait_until(lambda: service.context.picture_queue.uploads.requests == 60)
        for number in range(5):
            assert service.search(f"red apple {number}").status_code == 200
            assert service.admin.get("/v1/pictures/first").status_code == 200
        assert service.search_by_picture().status_code == 200
        assert not any(upload.done() for upload in uploads)
        (pid,) = service.context.picture_queue.uploads.decoder.pids
        os.kill(pid, signal.SIGCONT)
        assert {upload.result().status_code for upload in uploads} == {201}


def begin(service: Service, path: str, body: bytes, declared: int | None = None) -> socket.socket:
    """Send the head of a POST and `body` on a connection that waits for the answer."""
    length = len(body) if declared is None else declared
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {ADMIN_KEY}\r\nContent-Length: {length}\r\n"
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE)
    connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode() + body)
    return connection


def make_form(file: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="picture"; filename="x"\r\n\r\n' + file + b"\r\n--b--\r\n"


@pytest.mark.parametrize(("path", "queue"), [("/v1/pictures", "uploads"), ("/v1/search/pictures", "searches")])
def test_a_full_queue_refuses_before_the_body_is_read(tmp_path: Path, path: str, queue: str) -> None:
    with running(tmp_path, queue_limit=1) as service:
        places = getattr(service.context.picture_queue, queue)
        with begin(service, path, b"--b", declared=10_000):  # the rest does not come
            wait_until(lambda: places.requests == 1)
            with begin(service, path, b"", declared=10_000) as second:
                assert second.recv(100).startswith(b"HTTP/1.1 503 ")
        wait_until(lambda: places.requests == 0)  # the first client has left
        assert service.search_by_picture().status_code == 200
        assert service.put("a").status_code == 201


def test_an_upload_whose_client_leaves_is_dropped(tmp_path: Path) -> None:
    with running(tmp_path, **PATIENT) as service, stop_decoder(service):
        for seed in range(1, 4):
            with begin(service, "/v1/pictures", make_form(picture(seed))):
                wait_until(lambda: service.context.picture_queue.uploads.requests == 1)
            wait_until(lambda: service.context.picture_queue.uploads.requests == 0)
        assert 'route="/v1/pictures",status="499"} 3.0' in service.http.get("/metrics").text
        os.kill(service.context.picture_queue.uploads.decoder.pids[0], signal.SIGCONT)
        assert service.put("last").status_code == 201
        listed = service.admin.get("/v1/pictures").json()["items"]
        assert [item["id"] for item in listed] == ["first", "last"]


class Blocked(WeightlessEncoder):
    """Its first call with pictures waits for `go_on`; notes how many came together, and how nice the thread is."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.together, self.nice = list[int](), list[int]()

    def encode_pictures(self, images: Sequence[Image.Image], batch: int = 64) -> Any:
        self.together.append(len(images))
        self.nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        if len(self.together) == 1:
            assert self.go_on.wait(PATIENCE)
        return super().encode_pictures(images, batch)


def test_uploads_are_encoded_together_and_searches_do_not_wait_for_them(tmp_path: Path) -> None:
    encoder = Blocked()
    with running(tmp_path, encoder) as service, ThreadPoolExecutor(6) as clients:
        try:
            uploads = [clients.submit(service.put, "p0")]
            wait_until(lambda: encoder.together == [1])
            uploads += [clients.submit(service.put, f"p{number}") for number in range(1, 6)]
            wait_until(lambda: service.context.picture_queue.depth == 5)
            assert service.search("red apple").status_code == 200
            assert service.search_by_picture().status_code == 200
            assert not any(upload.done() for upload in uploads)
        finally:
            encoder.go_on.set()
        assert {upload.result().status_code for upload in uploads} == {201}
        assert encoder.together == [1, 1, 5]
        assert [nice - os.getpriority(os.PRIO_PROCESS, 0) for nice in encoder.nice] == [10, 0, 10]
        assert service.put("p0").status_code == 200
        assert len(encoder.together) == 3, "the same bytes are not encoded twice"


def test_a_search_waits_for_a_few_texts_of_others_and_not_for_hundreds(tmp_path: Path) -> None:
    encoder, texts = StalledEncoder(), {"input": [f"text {number}" for number in range(200)], "language": "en"}
    with running(tmp_path, encoder, queue_limit=16) as service, ThreadPoolExecutor(2) as clients:
        encoder.stall()
        many = clients.submit(lambda: service.admin.post("/v1/embeddings", json=texts))
        wait_until(lambda: encoder.seen)
        search = clients.submit(service.search, "a search", language="en")
        wait_until(lambda: service.context.text_queue.depth > 0)
        encoder.cue.set()
        assert search.result().status_code == 200 and encoder.seen.index("a search") < 50
        assert many.result().status_code == 200


def test_a_search_by_picture_that_waits_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, **PATIENT) as service:
        assert service.search_by_picture().status_code == 200
        monkeypatch.setattr(service.context.picture_queue, "_seconds", 0.2)
        (pid,) = service.context.picture_queue.searches.decoder.pids
        os.kill(pid, signal.SIGSTOP)
        try:
            assert_problem(service.search_by_picture(), 503, "overloaded")
        finally:
            os.kill(pid, signal.SIGCONT)


def test_datasets_under_validation_take_no_thread_from_searches(fresh: Service) -> None:
    with ThreadPoolExecutor(60) as clients, hold_up(fresh.context.datasets, "check") as reading:
        answers = [clients.submit(teach, fresh, dry_run="true") for _ in range(60)]
        assert reading.acquire(timeout=PATIENCE)
        assert fresh.search("red apple").status_code == 200
        assert fresh.put("a").status_code == 201
    assert {answer.result().status_code for answer in answers} == {200}


def test_a_search_needs_no_thread_of_the_pool_that_all_others_share(fresh: Service) -> None:
    key = {"X-API-Key": fresh.key("search")}
    with ThreadPoolExecutor(60) as clients, hold_up(fresh.context.registry.expansions, "get") as reading:
        answers = [clients.submit(fresh.admin.get, "/v1/expansions/a") for _ in range(60)]
        for _ in range(40):
            assert reading.acquire(timeout=PATIENCE)
        assert fresh.search("red apple").status_code == 200
        assert fresh.search_by_picture().status_code == 200
        body = {"text": "with a key that has to be looked up"}
        assert fresh.http.post("/v1/search/pictures", json=body, headers=key).status_code == 200
    assert {answer.result().status_code for answer in answers} == {404}


def test_filters_that_take_long_hold_up_no_search_by_words(fresh: Service) -> None:
    assert fresh.put("a", en=["a cat"]).status_code == 201
    tagged = {"must": [{"key": "tags", "match": {"value": "x"}}]}
    with ThreadPoolExecutor(8) as clients, hold_up(fresh.context.selection, "select_vector_keys") as reading:
        answers = [clients.submit(fresh.search, "red apple", filter=tagged) for _ in range(8)]
        for _ in range(4):  # all threads of filters
            assert reading.acquire(timeout=PATIENCE)
        found = fresh.search("cat", mode="words").json()
        assert [hit["id"] for hit in found["items"]] == ["a"]
    assert {answer.result().status_code for answer in answers} <= {200, 503}  # some may have waited too long


def test_words_that_are_not_found_in_time_are_left_out_of_that_search_alone(fresh: Service) -> None:
    assert fresh.put("a", en=["a cat"]).status_code == 201
    lane = fresh.context.lanes.optional_words
    with hold_up(fresh.context.words, "find"):
        lane.seconds = 0.2
        found = fresh.search("cat").json()
        assert [hit["id"] for hit in found["items"]] == ["a"] and "words_unavailable" in found["warnings"]
        lane.seconds = PATIENCE
    assert "words_unavailable" not in fresh.search("cat").json()["warnings"]


_LOCKING = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX, 8, 120)  # as SQLite while it repairs the file after a crash
    print(flush=True)
    sys.stdin.read()
"""


def test_a_registry_that_another_process_locks_holds_up_hardly_any_search(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LOCKING, f"{tmp_path / 'registry.db'}-shm"]
    with running(tmp_path, watch_seconds=3600) as fresh:  # whatever searches need was read at the start
        fresh.context.lanes.optional_words.seconds = 1.0  # as it is in use
        assert fresh.put("a", en=["a cat"]).status_code == 201
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as locking:
            assert locking.stdin and locking.stdout and locking.stdout.readline()
            with ThreadPoolExecutor(12) as clients:
                answers = [clients.submit(fresh.search, "cat") for _ in range(12)]
                with bound_time(3):  # SQLite itself waits for ten
                    wait_until(lambda: sum(answer.done() for answer in answers) >= 8)
                done = [answer for answer in answers if answer.done()]
                locking.stdin.close()
            assert {answer.result().json()["items"][0]["id"] for answer in answers} == {"a"}
            assert any("records_unavailable" in answer.result().json()["warnings"] for answer in done)
