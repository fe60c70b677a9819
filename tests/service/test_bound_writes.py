"""What a refused write costs, and one with a bound key: no more than one of an unknown picture."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.doubles import Vectors, WeightlessEncoder, WeightlessTexts, WeightlessView
from tests.patience import PATIENCE
from tests.service.harness import Service, assert_problem, picture, running


class NotingEncoder(WeightlessEncoder):
    """Notes how many texts and pictures it encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded = 0

    def texts(self, items: Sequence[tuple[WeightlessView, str]], *, alone: bool = False) -> WeightlessTexts:
        self.encoded += len(items)
        return super().texts(items, alone=alone)

    def pictures(self, images: Sequence[Image.Image], batch: int = 64) -> Vectors:
        self.encoded += len(images)
        return super().pictures(images, batch)


ENCODER = NotingEncoder()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running(tmp_path, ENCODER) as service:
        assert service.put("far", picture(1), en=["far away"]).status_code == 201
        yield service


def encoded(answer: httpx.Response, before: int) -> tuple[int, int]:
    """The status of an answer, and how much was encoded since."""
    return answer.status_code, ENCODER.encoded - before


def test_a_write_that_is_refused_encodes_and_decodes_nothing(service: Service) -> None:
    bound = {"X-API-Key": service.key("write", collections=["near"])}

    def patch(id: str, captions: dict[str, Any], **headers: str) -> tuple[int, int]:
        before = ENCODER.encoded
        answer = service.admin.patch(f"/v1/pictures/{id}", json={"captions": captions}, headers=headers)
        return encoded(answer, before)

    http = httpx.Client(base_url=service.url, headers=bound, timeout=PATIENCE)
    with http:
        before = ENCODER.encoded
        for id in ("far", "unknown"):
            answer = http.patch(f"/v1/pictures/{id}", json={"captions": {"en": ["never seen"]}})
            assert encoded(answer, before) == (404, 0)
        answer = http.put("/v1/pictures/far", files={"picture": ("x", b"no picture")})
        assert_problem(answer, 404, "picture_not_found")  # before it is decoded
    assert patch("far", {"en": ["never seen"]}, **{"If-Match": '"old"'}) == (412, 0)
    assert patch("far", {"en": ["never seen"]}) == (200, 1)


def test_bytes_that_are_known_elsewhere_are_encoded_again_for_a_bound_key(service: Service) -> None:
    files, before = {"picture": ("x", picture(1))}, ENCODER.encoded
    assert encoded(service.admin.put("/v1/pictures/again", files=files), before) == (201, 0)
    near = {"X-API-Key": service.key("write", collections=["near"])}
    with httpx.Client(base_url=service.url, headers=near, timeout=PATIENCE) as http:
        assert encoded(http.put("/v1/pictures/first", files=files), before) == (201, 1)
        assert encoded(http.put("/v1/pictures/second", files=files), before) == (201, 1)
