"""What each part of a search took: in the log and a header at level debug, and as metrics always."""

import json
import logging
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from model.base import open_base
from model.encoder import Encoder
from store.logs import JsonLines
from tests.doubles import StalledEncoder
from tests.service.harness import Service, picture, running, wait_until
from tests.tiny import write_tiny_base

_ALWAYS = ["thread", "scan", "captions", "json"]
_TEXT = ["read", "wait", "tokenise", "encode", *_ALWAYS]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("parts")
    with running(home / "home", Encoder(open_base(write_tiny_base(home)))) as service:
        assert service.put("a", en=["a cat"]).status_code == 201
        yield service


def timing(header: str) -> dict[str, float]:
    """`Server-Timing` as names and milliseconds."""
    assert re.fullmatch(r"([a-z]+;dur=[0-9.]+(, |$))+", header), header
    return {name: float(spent) for name, _, spent in (part.partition(";dur=") for part in header.split(", "))}


def counts(service: Service) -> dict[str, int]:
    """How many searches had each part."""
    found = re.findall(r'part_seconds_count\{part="([a-z]+)"\} ([0-9]+)', service.http.get("/metrics").text)
    return {part: int(count) for part, count in found}


def logged(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The line of the search, which is written after its answer."""
    found: list[logging.LogRecord] = []

    def written() -> bool:
        found[:] = [record for record in caplog.records if vars(record).get("route") == "/v1/search/pictures"]
        return bool(found)

    wait_until(written)
    line: dict[str, Any] = json.loads(JsonLines().format(found[0]))
    return line


def test_a_search_tells_its_parts_at_level_debug(real: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "pictoglot.access"):
        answer = real.search("a red apple", language="en")
        line = logged(caplog)
    told = timing(answer.headers["server-timing"])
    assert list(told) == _TEXT
    assert told["tokenise"] > 0 and told["encode"] > 0
    assert line["request_time"] == {**told, "send": line["request_time"]["send"]}
    assert sum(line["request_time"].values()) == pytest.approx(line["milliseconds"], abs=0.5)


def test_above_debug_neither_the_log_nor_the_answer_has_them(real: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pictoglot.access"):
        assert "server-timing" not in real.search("a green apple").headers
        assert "request_time" not in logged(caplog)


def test_a_vector_from_the_cache_was_neither_tokenised_nor_encoded(real: Service) -> None:
    before = counts(real)
    for _ in range(3):
        assert real.search("sent three times", language="en").status_code == 200
    wait_until(lambda: counts(real)["json"] == before.get("json", 0) + 3)
    after = counts(real)
    assert {part: after[part] - before.get(part, 0) for part in after} == {
        **dict.fromkeys(("read", "wait", *_ALWAYS, "send"), 3),
        "tokenise": 1,
        "encode": 1,
    }


def test_searches_by_picture_and_for_captions_have_parts_and_a_refused_one_has_none(
    real: Service, caplog: pytest.LogCaptureFixture
) -> None:
    before = counts(real).get("json", 0)
    with caplog.at_level(logging.DEBUG, "pictoglot.access"):
        similar = real.admin.post("/v1/search/pictures", files={"picture": ("x", picture(1))})
        captions = real.admin.post("/v1/search/captions", json={"picture": "a"})
        of_upload = real.admin.post("/v1/search/captions", files={"picture": ("x", picture(1))})
    assert list(timing(similar.headers["server-timing"])) == ["read", "picture", *_ALWAYS]
    assert list(timing(captions.headers["server-timing"])) == ["read", "thread", "scan", "json"]
    assert list(timing(of_upload.headers["server-timing"])) == ["read", "picture", "thread", "scan", "json"]
    wait_until(lambda: counts(real)["json"] == before + 3)
    counted = counts(real)
    refused = real.admin.post("/v1/search/pictures", files={"picture": ("x", b"no picture")})
    assert refused.status_code == 415
    assert counts(real) == counted


def test_the_wait_in_the_queue_is_not_part_of_the_encoding(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG, "pictoglot.access"),
        running(tmp_path, encoder := StalledEncoder(), batch_size=1) as service,
        ThreadPoolExecutor(2) as pool,
    ):
        encoder.stall()
        searches = [pool.submit(service.search, "query 0")]
        wait_until(lambda: encoder.seen == ["query 0"])
        searches.append(pool.submit(service.search, "query 1"))
        wait_until(lambda: service.context.texts.depth == 1)
        time.sleep(0.3)
        encoder.cue.set()
        first, second = (timing(search.result().headers["server-timing"]) for search in searches)
    assert first["encode"] >= 300 > first["wait"]
    assert second["wait"] >= 300 > second["encode"]
