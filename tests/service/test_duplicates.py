"""Groups of near-equal pictures: every near pair in one, bounded pages, filters, over HTTP."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from index import duplicates
from service.routes import gallery as route
from tests.doubles import make_picture_vector
from tests.patience import PATIENCE
from tests.service.harness import Service, assert_problem, hold_up, motif, picture, running

LEAST = 0.9


def make_tinted(seed: int, shift: int) -> bytes:
    """Make a motif, brighter by `shift`: the more the shifts differ, the less alike are two of them."""
    pixels = np.asarray(motif(seed, 16), dtype=np.int64)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels + shift, 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Gallery:
    """A service with families of pictures that shade into each other, and the scores of all pairs."""

    def __init__(self, service: Service) -> None:
        self.service, random = service, Random(1)
        names = [f"p{number:02}" for number in range(48)]
        random.shuffle(names)  # ids are in another order than the pictures were added
        self.vectors: dict[str, Any] = {}
        for number, id in enumerate(names):
            data = make_tinted(number % 6, (number // 6) * 22 - 60)
            record = {"collection": "other" if number % 3 == 0 else "default"}
            assert service.put(id, data, record).status_code == 201
            self.vectors[id] = make_picture_vector(Image.open(io.BytesIO(data)).convert("RGB"))
        self.other = {id for number, id in enumerate(names) if number % 3 == 0}

    def near(self, one: str, other: str) -> bool:
        return one != other and float(self.vectors[one] @ self.vectors[other]) >= LEAST

    def groups(self, ids: set[str]) -> list[set[str]]:
        """Find the groups slowly: of each picture and those of a higher id near it, unless one has them all."""
        found = []
        for head in ids:
            higher = {id for id in ids if id > head and self.near(head, id)}
            lower = [id for id in ids if id < head and self.near(head, id)]
            if higher and not any(all(self.near(id, each) for each in higher) for id in lower):
                found.append({head, *higher})
        return found

    def listed(self, **query: Any) -> tuple[list[set[str]], int]:
        """List the groups of all pages, and how many pictures were looked at."""
        groups, examined, cursor = list[set[str]](), 0, None
        while True:
            given = {"min_score": str(LEAST), **query, **({"cursor": cursor} if cursor else {})}
            answer = self.service.admin.get("/v1/duplicates", params=given)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            assert len(body["items"]) <= int(query.get("limit", 20))
            groups += [{each["id"] for each in group["pictures"]} for group in body["items"]]
            examined += body["examined"]
            if (cursor := body["next_cursor"]) is None:
                return groups, examined


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    with running(tmp_path_factory.mktemp("home")) as service:
        yield Gallery(service)


def sort_groups(groups: list[set[str]]) -> list[list[str]]:
    return sorted(map(sorted, groups))


def test_every_near_pair_is_in_a_group_and_no_other(gallery: Gallery) -> None:
    found, examined = gallery.listed()
    ids = {*gallery.vectors}
    assert sort_groups(found) == sort_groups(gallery.groups(ids)) and examined == len(ids)
    pairs = {(one, other) for one in ids for other in ids if one < other and gallery.near(one, other)}
    assert pairs and pairs <= {(one, other) for group in found for one in group for other in group if one < other}
    assert any(not gallery.near(one, other) for group in found for one in group for other in group if one < other)
    assert not any(one < other for one in found for other in found)  # no group is part of another


def test_a_group_begins_with_its_head_and_tells_scores(gallery: Gallery) -> None:
    body = gallery.service.admin.get("/v1/duplicates", params={"min_score": str(LEAST), "limit": "1"}).json()
    (first, *others) = body["items"][0]["pictures"]
    assert first["score"] == 1.0 and first["id"] == min(each["id"] for each in body["items"][0]["pictures"])
    for each in others:
        expected = float(gallery.vectors[first["id"]] @ gallery.vectors[each["id"]])
        assert each["score"] == pytest.approx(expected, abs=2e-3)
    assert [each["score"] for each in others] == sorted((each["score"] for each in others), reverse=True)
    assert gallery.service.admin.get("/v1/duplicates", params={"min_score": "1"}).json()["items"] == []


def test_filters_and_collections_hold_within_groups(gallery: Gallery) -> None:
    asked = json.dumps({"must_not": [{"key": "collection", "match": {"value": "other"}}]})
    for query, left in (
        ({"collection": "other"}, gallery.other),
        ({"filter": asked}, {*gallery.vectors} - gallery.other),
        ({"filter": asked, "collection": "other"}, set[str]()),
    ):
        found, examined = gallery.listed(**query)
        assert sort_groups(found) == sort_groups(gallery.groups(left)) and examined == len(left)


def test_pages_end_by_time_and_by_their_limit_and_go_on(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sort_groups(gallery.listed()[0])
    monkeypatch.setattr(duplicates, "AT_ONCE", 7)
    page = gallery.service.admin.get("/v1/duplicates", params={"min_score": str(LEAST), "limit": "1"}).json()
    assert len(page["items"]) == 1 and page["examined"] < len(gallery.vectors)
    for limit in (1, 2, 3):
        found, examined = gallery.listed(limit=str(limit))
        assert sort_groups(found) == whole and examined == len(gallery.vectors)
    monkeypatch.setattr(route, "_PAGE_SECONDS", -1.0)
    page = gallery.service.admin.get("/v1/duplicates", params={"min_score": str(LEAST)}).json()
    assert page["examined"] == 7 and page["next_cursor"]
    assert sort_groups(gallery.listed()[0]) == whole


def test_a_page_has_its_turn_until_its_thread_is_done(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    service = gallery.service
    with monkeypatch.context() as hasty, hold_up(route, "find_groups") as begun:
        for name in ("seconds", "turn_seconds"):
            hasty.setattr(service.context.lanes.duplicates, name, 0.3)
        assert_problem(service.admin.get("/v1/duplicates"), 503, "registry_unavailable")
        assert begun.acquire(timeout=PATIENCE)
        assert_problem(service.admin.get("/v1/duplicates"), 503, "overloaded")
    for name in ("seconds", "turn_seconds"):
        monkeypatch.setattr(service.context.lanes.duplicates, name, PATIENCE)
    assert service.admin.get("/v1/duplicates").status_code == 200


@pytest.mark.parametrize("query", [{"min_score": "1.1"}, {"min_score": "nan"}, {"min_score": "-0.1"}, {"limit": "0"}])
def test_what_is_out_of_bounds_is_refused(gallery: Gallery, query: dict[str, str]) -> None:
    assert_problem(gallery.service.admin.get("/v1/duplicates", params=query), 422, "invalid_request")


def test_a_cursor_is_of_its_query(gallery: Gallery) -> None:
    page = gallery.service.admin.get("/v1/duplicates", params={"min_score": "0", "limit": "1"}).json()
    given = {"min_score": "0.5", "cursor": page["next_cursor"]}
    assert_problem(gallery.service.admin.get("/v1/duplicates", params=given), 422, "invalid_cursor")
    assert_problem(gallery.service.admin.get("/v1/duplicates", params={"filter": "{"}), 422, "invalid_filter")


def test_the_same_picture_twice_is_a_group(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("twice")) as service:
        for id, seed in (("a", 1), ("b", 2), ("c", 1)):
            service.put(id, picture(seed))
        (group,) = service.admin.get("/v1/duplicates").json()["items"]
        assert [(each["id"], each["score"]) for each in group["pictures"]] == [("a", 1.0), ("c", 1.0)]
        service.admin.delete("/v1/pictures/a")
        assert service.admin.get("/v1/duplicates").json()["items"] == []


def test_a_group_says_that_there_are_more_only_when_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST", 3)
    with running(tmp_path) as service:
        for number in range(7):
            service.put(f"p{number}", picture(1))
            if number in (3, 4, 6):  # others of the first one: as many as a group has, one more, and more
                (group,) = service.admin.get("/v1/duplicates").json()["items"]
                assert len(group["pictures"]) == 4 and group["more"] == (number > 3)
