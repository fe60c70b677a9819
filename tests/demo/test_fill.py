"""Filling a service with the demo gallery; what is in that, and that it is the same everywhere."""

import io
import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from PIL import Image, ImageChops

from demo.emojis import LANGUAGES, load_catalogue
from demo.fill import fill
from demo.gallery import SIDE, digest, draw, draw_pictures, list_outlines
from demo.scenes import is_held_out, sort_names

KEY = "secret"
# sha256 over ids, captions and pixels of every 16th picture; `python -m demo digest` tells that of all too
SAMPLE = "e6b27ed15b6c0951518780ef39a727f1405fd3aa33e8b38ed7f9689cb10a295c"


class Service:
    """Keeps ids; refuses a wrong key; is busy `busy` times; pages as `GET /v1/pictures` does."""

    def __init__(self, there: list[str], busy: int = 0) -> None:
        self.there, self.busy = there, busy
        self.put: dict[str, tuple[dict[str, Any], bytes]] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.headers["Authorization"] != f"Bearer {KEY}":
            return httpx.Response(401, json={"code": "invalid_api_key"})
        if request.method == "GET":
            return self._answer_page(request.url.params)
        if self.busy:
            self.busy -= 1
            return httpx.Response(429, headers={"Retry-After": "0"})
        parts = _split_parts(request)
        content = parts.pop(b"picture")
        record = {name.decode(): json.loads(part) for name, part in parts.items()}
        self.put[request.url.path.removeprefix("/v1/pictures/")] = (record, content)
        return httpx.Response(201, json={})

    def _answer_page(self, query: httpx.QueryParams) -> httpx.Response:
        start, size = int(query.get("cursor", 0)), int(query["limit"])
        items = [{"id": id_} for id_ in self.there[start : start + size]]
        more = start + size < len(self.there)
        return httpx.Response(200, json={"items": items, "next_cursor": str(start + size) if more else None})


def _split_parts(request: httpx.Request) -> dict[bytes, bytes]:
    """Return the parts of the multipart body by name."""
    boundary = request.headers["Content-Type"].partition("boundary=")[2].encode()
    parts = {}
    for part in request.content.split(b"--" + boundary)[1:-1]:
        head, _, body = part.partition(b"\r\n\r\n")
        match = re.search(rb'name="(\w+)"', head)
        assert match is not None
        parts[match[1]] = body.removesuffix(b"\r\n")
    return parts


def _fill(service: Callable[[httpx.Request], httpx.Response], key: str = KEY) -> int:
    return fill("http://service", key, httpx.MockTransport(service))


@pytest.fixture
def missing() -> list[str]:
    return [outline.id for outline in list_outlines()[::400]]


@pytest.fixture
def there(missing: list[str]) -> list[str]:
    return [outline.id for outline in list_outlines() if outline.id not in missing]


def test_only_missing_pictures_are_put_with_content_and_record(there: list[str], missing: list[str]) -> None:
    service = Service(there)
    assert _fill(service) == len(missing)
    assert sorted(service.put) == sorted(missing)
    outlines = {outline.id: outline for outline in list_outlines()}
    for id_, (record, content) in service.put.items():
        assert record["captions"] == {"en": [outlines[id_].caption]}
        assert record["tags"] == [id_.partition("-")[0].replace("emoji", "single")]
        assert record["metadata"]["things"] == len(outlines[id_].objects)
        assert record["metadata"]["drawn_by"].lower() == outlines[id_].drawing_set
        assert content.startswith(b"\x89PNG")


def test_a_busy_service_gets_the_request_again(there: list[str], missing: list[str]) -> None:
    service = Service(there, busy=2)
    assert _fill(service) == len(missing)
    assert len(service.put) == len(missing)


def test_a_wrong_key_ends_the_fill() -> None:
    with pytest.raises(httpx.HTTPStatusError):
        _fill(Service([]), key="wrong")


def test_the_gallery_has_enough_singles_and_scenes_of_both_drawing_sets() -> None:
    counts = Counter(len(outline.objects) for outline in list_outlines())
    assert counts[1] >= 1500
    assert counts[2] + counts[3] >= 2000
    assert min(counts[2], counts[3]) > 500
    sets = Counter(outline.drawing_set for outline in list_outlines())
    assert min(sets.values()) > 0.4 * len(list_outlines())


def test_every_emoji_has_a_name_of_its_own_in_every_language() -> None:
    for language in ("en", *LANGUAGES):
        assert all(each.names[language] for each in load_catalogue())
    assert len({each.name for each in load_catalogue()}) == len(load_catalogue())


def test_scenes_are_distinct_combinations_that_training_never_sees() -> None:
    scenes = [outline.objects for outline in list_outlines() if len(outline.objects) > 1]
    assert len({sort_names(objects) for objects in scenes}) == len(scenes)
    assert all(is_held_out(objects) for objects in scenes)


def test_pictures_carry_what_their_outlines_say() -> None:
    wanted = {"emoji-1f34e", "scene-0001", "scene-2450"}
    drawn = list(draw_pictures(without={outline.id for outline in list_outlines()} - wanted))
    assert {picture.id for picture in drawn} == wanted
    by_id = {outline.id: outline for outline in list_outlines()}
    for picture in drawn:
        outline = by_id[picture.id]
        assert picture.captions == {"en": [outline.caption]}
        assert picture.objects == tuple(each.characters for each in outline.objects)
        with Image.open(io.BytesIO(picture.content)) as decoded:
            assert (decoded.format, decoded.mode, decoded.size) == ("PNG", "RGB", (SIDE, SIDE))
            assert ImageChops.difference(decoded, draw(outline)).getbbox() is None


def test_a_sample_of_the_gallery_is_the_same_on_every_machine() -> None:
    assert digest(list_outlines()[::16]) == SAMPLE
