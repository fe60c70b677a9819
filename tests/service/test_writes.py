"""Writes that wait together: in one transaction, in order, and none fails because of another."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from index.gallery import NewPicture, PutResult
from index.live import LiveIndex
from index.records import RecordInput
from model.encoder import EncodedTexts, View
from service.batching import WriteQueue
from store.errors import PictureNotFound, RegistryUnavailable
from tests.doubles import Vectors, WeightlessEncoder
from tests.index.world import World, digest, find_pictures, make_picture
from tests.patience import PATIENCE
from tests.service.harness import Service, assert_problem, picture, running, settings_with


class Writes:
    """A queue of a real index, whose first call waits until `together` has put everything into the queue."""

    def __init__(self, live: LiveIndex, monkeypatch: pytest.MonkeyPatch) -> None:
        self.live, self.sizes = live, list[int]()
        self.begun, self.free, self.fails = threading.Event(), threading.Event(), list[Exception]()
        put = live.put_pictures

        def put_and_record(pictures: Sequence[NewPicture]) -> list[PutResult]:
            self.begun.set()
            assert self.free.wait(PATIENCE)
            self.sizes.append(len(pictures))
            if self.fails and len(self.sizes) > 1:
                raise self.fails.pop()
            return put(pictures)

        monkeypatch.setattr(live, "put_pictures", put_and_record)

    def together(self, *writes: NewPicture | str, limit: int = 64) -> list[Any]:
        """Return the outcomes of these writes, after one that holds up the queue until all wait."""

        async def run() -> list[Any]:
            async with WriteQueue(self.live, settings_with(queue_limit=limit)(request_seconds=PATIENCE)) as queue:
                first = asyncio.create_task(queue.put(make_picture("first", 99)))
                while not self.begun.is_set():
                    await asyncio.sleep(0.001)
                waiting = [asyncio.create_task(start_write(queue, self.live, write)) for write in writes]
                await asyncio.sleep(0)  # each is in the queue by then, or refused
                self.free.set()
                await first
                return await asyncio.gather(*waiting, return_exceptions=True)

        return asyncio.run(run())


def start_write(queue: WriteQueue, live: LiveIndex, write: NewPicture | str) -> Coroutine[Any, Any, Any]:
    return queue.run(live.delete_picture, write) if isinstance(write, str) else queue.put(write)


@pytest.fixture
def writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writes]:
    world = World(tmp_path)
    yield Writes(world.serve(), monkeypatch)
    world.close()


def test_writes_of_one_picture_keep_their_order(writes: Writes) -> None:
    first, second, other = make_picture("a", 1), make_picture("a", 2), make_picture("b", 4)
    outcomes = writes.together(first, second, "a", make_picture("a", 3, {"en": ["three"]}), "b", other)
    assert [isinstance(outcome, PutResult) and outcome.created for outcome in outcomes] == [1, 0, 0, 1, 0, 1]
    assert isinstance(outcomes[4], PictureNotFound)
    assert find_pictures(writes.live, 3, 1) == ["a"] and find_pictures(writes.live, 4, 1) == ["b"]
    assert len(find_pictures(writes.live, 1)) == 3


def test_one_that_cannot_be_stored_does_not_hold_up_the_others(writes: Writes) -> None:
    damaged = replace(make_picture("bad", 2), captions={"en": ["\ud800"]})  # no database takes half a character
    outcomes = writes.together(make_picture("a", 1), damaged, make_picture("c", 3))
    assert [isinstance(outcome, PutResult) for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1], UnicodeEncodeError)
    assert writes.sizes == [1, 3, 1, 1, 1]
    assert sorted(find_pictures(writes.live, 1)) == ["a", "c", "first"]


def test_a_registry_that_is_away_is_not_asked_again_for_each_of_them(writes: Writes) -> None:
    writes.fails.append(RegistryUnavailable())
    outcomes = writes.together(*(make_picture(f"p{seed}", seed) for seed in range(5)))
    assert all(isinstance(outcome, RegistryUnavailable) for outcome in outcomes)
    assert writes.sizes == [1, 5]


def test_each_put_is_told_as_it_left_the_picture_also_where_the_next_in_line_moves_it(writes: Writes) -> None:
    far = RecordInput("far", ["secret"], {"place": "secret"})
    first, second = writes.together(make_picture("x", 1), replace(make_picture("x", 2), record=far))
    assert writes.sizes == [1, 2]
    record = first.picture.record
    assert (record.collection, list(record.tags), dict(record.metadata)) == ("default", [], {})
    assert (first.picture.content_sha256, second.picture.content_sha256) == (digest(1), digest(2))
    assert second.picture.record.collection == "far" and second.picture.record.etag != record.etag


class NotingEncoder(WeightlessEncoder):
    """Notes how many texts and pictures it encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded_count = 0

    def encode_texts(self, items: Sequence[tuple[View, str]], *, alone: bool = False) -> EncodedTexts:
        self.encoded_count += len(items)
        return super().encode_texts(items, alone=alone)

    def encode_pictures(self, images: Sequence[Image.Image], batch: int = 64) -> Vectors:
        self.encoded_count += len(images)
        return super().encode_pictures(images, batch)


ENCODER = NotingEncoder()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running(tmp_path, ENCODER) as service:
        assert service.put("far", picture(1), en=["far away"]).status_code == 201
        yield service


def count_encoded(answer: httpx.Response, before: int) -> tuple[int, int]:
    """Return the status of an answer, and how much was encoded since."""
    return answer.status_code, ENCODER.encoded_count - before


def test_a_write_that_is_refused_encodes_and_decodes_nothing(service: Service) -> None:
    bound = {"X-API-Key": service.key("write", collections=["near"])}

    def patch(id: str, captions: dict[str, Any], **headers: str) -> tuple[int, int]:
        before = ENCODER.encoded_count
        answer = service.admin.patch(f"/v1/pictures/{id}", json={"captions": captions}, headers=headers)
        return count_encoded(answer, before)

    http = service.open_client(bound)
    with http:
        before = ENCODER.encoded_count
        for id in ("far", "unknown"):
            answer = http.patch(f"/v1/pictures/{id}", json={"captions": {"en": ["never seen"]}})
            assert count_encoded(answer, before) == (404, 0)
        answer = http.put("/v1/pictures/far", files={"picture": ("x", b"no picture")})
        assert_problem(answer, 404, "picture_not_found")  # before it is decoded
    assert patch("far", {"en": ["never seen"]}, **{"If-Match": '"old"'}) == (412, 0)
    assert patch("far", {"en": ["never seen"]}) == (200, 1)


def test_bytes_that_are_known_elsewhere_are_encoded_again_for_a_bound_key(service: Service) -> None:
    files, before = {"picture": ("x", picture(1))}, ENCODER.encoded_count
    assert count_encoded(service.admin.put("/v1/pictures/again", files=files), before) == (201, 0)
    near = {"X-API-Key": service.key("write", collections=["near"])}
    with service.open_client(near) as http:
        assert count_encoded(http.put("/v1/pictures/first", files=files), before) == (201, 1)
        assert count_encoded(http.put("/v1/pictures/second", files=files), before) == (201, 1)
