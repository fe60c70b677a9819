"""What one kind of request may cost the others: threads of those who search, and the space that is to stay free."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from model import storage
from model.errors import StorageFull
from service.bodies import OnDisk
from tests.service.harness import Service, assert_problem, assert_state_unchanged, learn, running


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Service]:
    with running(tmp_path) as service:
        yield service


def test_who_waits_for_a_release_to_open_keeps_no_search_waiting(
    fresh: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, go_on = threading.Event(), threading.Event()
    open_release = fresh.context.holder.open

    def slow(*given: Any, **more: Any) -> Any:
        opening.set()
        assert go_on.wait(60)
        return open_release(*given, **more)

    monkeypatch.setattr(fresh.context.holder, "open", slow)
    learn(fresh.context.registry, "cy")
    (expansion,) = fresh.context.registry.expansions.list()
    with ThreadPoolExecutor(60) as clients:  # more than the pool has threads
        asked = [clients.submit(fresh.admin.get, f"/v1/expansions/{expansion.id}") for _ in range(60)]
        try:
            assert opening.wait(60)
            assert fresh.search("red apple").status_code == 200
            assert not any(answer.done() for answer in asked)
        finally:
            go_on.set()
        assert {answer.result().json()["release"] for answer in asked} == {2}
    assert fresh.search("afal", language="cy").status_code == 200


def test_an_upload_of_unknown_length_stops_before_the_space_that_is_to_stay_free(
    fresh: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = [8 << 20]  # bytes beyond what is to stay free; the disk is this test's, all else is real

    def require_free(_: Path, need: int) -> None:
        if need > room[0]:
            raise StorageFull("not enough free space under the data root")

    write = OnDisk.write

    def counting(self: OnDisk, data: bytes) -> None:
        write(self, data)
        room[0] -= len(data)

    monkeypatch.setattr(storage, "require_free", require_free)
    monkeypatch.setattr(OnDisk, "write", counting)

    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="dataset"; filename="x"\r\n\r\n'
        for _ in range(64):
            yield bytes(1 << 20)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    with assert_state_unchanged(fresh):
        answer = fresh.admin.post("/v1/languages", content=body(), headers=headers)
        assert_problem(answer, 507, "storage_full")
    assert 0 <= room[0] < 2 << 20
