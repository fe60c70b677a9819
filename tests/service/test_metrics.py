"""What `/readyz` and `/metrics` say, and what each part of a search took."""

import json
import logging
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from sqlalchemy import text

from index.scrub_report import Damage, ScrubReport, save_report
from model.base import open_base
from model.encoder import Encoder
from model.pictures import read_rgb
from store.logs import JsonFormatter
from tests.doubles import StalledEncoder
from tests.house.source import ROOT
from tests.service.harness import Service, hide_registry, motif, picture, running, wait_until
from tests.tiny import write_tiny_base

STATES = {"queued", "running", "succeeded", "failed", "cancelled"}
CODES = {"draining", "encoder_stopped", "index_unavailable", "registry_unavailable", "storage_full", "writes_refused"}
CODES |= {"broker_unavailable"}
SENTENCES = {"encoding", "unsealed", "snapshot", "damaged"}


def scrape(service: Service) -> list[Sample]:
    families = text_string_to_metric_families(service.admin.get("/metrics").text)
    return [sample for family in families for sample in family.samples]


def read_values(service: Service, name: str, label: str = "") -> Any:
    found = {sample.labels.get(label, ""): sample.value for sample in scrape(service) if sample.name == name}
    return found if label else found[""]


def find_unknown(expressions: Iterable[str], samples: list[Sample]) -> set[str]:
    """Find what rules name and no sample has: metrics, and values of labels."""
    known = {sample.name for sample in samples}
    known |= {f'{name}="{value}"' for sample in samples for name, value in sample.labels.items()}
    named = re.compile(r'pictoglot_\w+|\b\w+="[^"]*"')
    return {name for rule in expressions for name in named.findall(rule)} - known - {'job="pictoglot"'}


def test_the_rules_and_the_table_of_the_documents_name_what_there_is(service: Service) -> None:
    service.search("a dog")
    samples = scrape(service)
    content = yaml.safe_load((ROOT / "docs/deploy/alerts.yml").read_text(encoding="utf-8"))
    rules = [rule for group in content["groups"] for rule in group["rules"]]
    assert len(rules) >= 6 and all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules)
    board = json.loads((ROOT / "deploy/grafana.json").read_text(encoding="utf-8"))
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert (
        len(shown) > 12
        and find_unknown((each.replace('=~"queued|running"', '="queued"') for each in shown), samples) == set()
    )
    # what a rule excludes is not what it looks for, but has to exist as well
    assert find_unknown((rule["expr"].replace("!=", "=") for rule in rules), samples) == set()
    made_up = ['pictoglot_colour{code="red"} > 0 or pictoglot_expansions{state="failed"} > 0']
    assert find_unknown(made_up, samples) == {"pictoglot_colour", 'code="red"'}
    guide = (ROOT / "docs/operate.md").read_text(encoding="utf-8")
    table = guide.partition("### Metrics")[2].partition("\nEach process")[0]
    documented = {name for row in table.splitlines() for name in re.findall(r"`(pictoglot_\w+)`", row.split(" | ")[0])}
    names = {sample.name for sample in samples if not sample.name.endswith("_created")}
    assert documented == {re.sub("_(bucket|count|sum)$", "", name) for name in names}


def test_all_is_there_before_anything_is_wrong_and_a_lost_worker_is_seen(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        assert read_values(service, "pictoglot_expansions", "state") == dict.fromkeys(STATES, 0)
        assert read_values(service, "pictoglot_degraded", "code") == dict.fromkeys(CODES | SENTENCES, 0)
        assert read_values(service, "pictoglot_registry_up") == 1
        assert read_values(service, "pictoglot_free_bytes") > 0
        assert read_values(service, "pictoglot_unsealed_changes") == 0
        service.put("a")
        assert read_values(service, "pictoglot_unsealed_changes") == 1
        registry = service.context.registry
        expansion, _ = registry.expansions.submit(kind="learn", language="cy", settings={}, actor="admin")
        assert registry.expansions.take_lease(expansion.id, "a worker") is not None
        assert read_values(service, "pictoglot_expansions_abandoned") == 0
        with registry.begin() as session:  # it was killed, some time ago
            session.execute(text("UPDATE expansions SET lease_expires = lease_expires - 90"))
        assert read_values(service, "pictoglot_expansions", "state") == dict.fromkeys(STATES, 0) | {"running": 1}
        assert read_values(service, "pictoglot_expansions_abandoned") == 1
        assert read_values(service, "pictoglot_longest_wait_seconds") == pytest.approx(60, abs=10)


def list_degraded(service: Service) -> list[str]:
    return sorted(code for code, is_so in read_values(service, "pictoglot_degraded", "code").items() if is_so)


def test_what_readyz_says_is_in_the_metrics(tmp_path: Path) -> None:
    with running(tmp_path, free_bytes=1 << 60) as service:
        assert service.http.get("/readyz").json()["degraded"] == ["storage_full"]
        assert list_degraded(service) == ["storage_full"]
        with hide_registry(service):
            assert service.http.get("/readyz").json()["degraded"] == ["registry_unavailable", "storage_full"]
            assert list_degraded(service) == ["registry_unavailable", "storage_full"]
            assert read_values(service, "pictoglot_registry_up") == 0
            assert read_values(service, "pictoglot_expansions", "state") == {}


@pytest.mark.row("F4")
def test_what_a_scrub_could_not_mend_is_told_by_readyz_and_counted(tmp_path: Path) -> None:
    report = ScrubReport(10.0, 20.0, 9, 900)
    for each in (Damage("picture", "a.jpg"), Damage("picture", "b.jpg"), Damage("segment", "c", "from the registry")):
        report.add(each)
    with running(tmp_path) as service:
        save_report(service.context.root, report)
        (sentence,) = service.admin.get("/readyz").json()["degraded"]
        assert "2 pictures" in sentence and "segment" not in sentence
        assert service.http.get("/readyz").json()["degraded"] == ["damaged"], "without a key"
        counts = read_values(service, "pictoglot_damaged", "kind")
        assert {kind: count for kind, count in counts.items() if count} == {"picture": 2}
        assert read_values(service, "pictoglot_degraded", "code")["damaged"] == 1
        names = ("finished_seconds", "damaged", "mended")
        assert [read_values(service, f"pictoglot_scrub_{name}") for name in names] == [20, 3, 1]
        save_report(service.context.root, ScrubReport(30.0, 40.0, 9, 900))
        assert service.admin.get("/readyz").json()["degraded"] == []


_ALWAYS = ["thread", "scan", "captions", "json"]
_TEXT = ["read", "wait", "tokenise", "encode", "words", *_ALWAYS]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("parts")
    with running(home / "home", Encoder(open_base(write_tiny_base(home)))) as service:
        assert service.put("a", en=["a cat"]).status_code == 201
        yield service


def count_parts(service: Service) -> dict[str, int]:
    found = re.findall(r'part_seconds_count\{part="([a-z]+)"\} ([0-9]+)', service.http.get("/metrics").text)
    return {part: int(count) for part, count in found}


def wait_for_lines(caplog: pytest.LogCaptureFixture, count: int = 1) -> list[dict[str, Any]]:
    """Wait for the lines of searches, which are written after their answers."""
    found: list[logging.LogRecord] = []

    def is_written() -> bool:
        found[:] = [each for each in caplog.records if str(vars(each).get("route")).startswith("/v1/search/")]
        return len(found) >= count

    wait_until(is_written)
    return [json.loads(JsonFormatter().format(each)) for each in found]


def test_a_search_tells_its_parts_at_level_debug(real: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "pictoglot.access"):
        real.search("a red apple", language="en")
        (line,) = wait_for_lines(caplog)
    timing = line["request_time"]
    assert list(timing) == [*_TEXT, "send"]
    assert timing["tokenise"] > 0 and timing["encode"] > 0
    assert sum(timing.values()) == pytest.approx(line["milliseconds"], abs=0.5)


def test_a_picture_has_the_vector_of_the_whole_although_it_is_framed_where_it_is_decoded(real: Service) -> None:
    motif(3, 90).crop((0, 0, 90, 50)).save(file := BytesIO(), "PNG")
    assert real.put("framed", file.getvalue()).json()["width"] == 90
    sent = real.admin.post("/v1/embeddings", files={"picture": ("x", file.getvalue())}).json()["data"][0]["embedding"]
    whole = real.context.encoder.encode_pictures([read_rgb(file.getvalue())])[0]
    assert np.array_equal(np.array(sent, dtype=np.float32), whole)
    assert np.allclose(real.context.live.current.find_picture_vector("framed"), whole, atol=1e-3)  # halved, as stored


def test_above_debug_the_log_has_them_not(real: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pictoglot.access"):
        real.search("a green apple")
        assert "request_time" not in wait_for_lines(caplog)[0]


def test_a_vector_from_the_cache_was_neither_tokenised_nor_encoded(real: Service) -> None:
    before = count_parts(real)
    for _ in range(3):
        assert real.search("sent three times", language="en").status_code == 200
    wait_until(lambda: count_parts(real)["json"] == before.get("json", 0) + 3)
    after = count_parts(real)
    assert {part: after[part] - before.get(part, 0) for part in after} == {
        **dict.fromkeys(("read", "wait", "words", *_ALWAYS, "send"), 3),
        "tokenise": 1,
        "encode": 1,
    }


def test_searches_by_picture_and_for_captions_have_parts_and_a_refused_one_has_none(
    real: Service, caplog: pytest.LogCaptureFixture
) -> None:
    before = count_parts(real).get("json", 0)
    with caplog.at_level(logging.DEBUG, "pictoglot.access"):
        real.search_by_picture(picture(1))
        wait_for_lines(caplog)
        real.admin.post("/v1/search/captions", json={"picture": "a"})
        wait_for_lines(caplog, 2)
        real.admin.post("/v1/search/captions", files={"picture": ("x", picture(1))})
        parts = [list(line["request_time"]) for line in wait_for_lines(caplog, 3)]
    found = ["thread", "scan", "json", "send"]
    assert parts == [["read", "picture", *_ALWAYS, "send"], ["read", *found], ["read", "picture", *found]]
    wait_until(lambda: count_parts(real)["json"] == before + 3)
    counted = count_parts(real)
    assert real.search_by_picture(b"no picture").status_code == 415
    assert count_parts(real) == counted


def test_the_wait_in_the_queue_is_not_part_of_the_encoding(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG, "pictoglot.access"),
        running(tmp_path, encoder := StalledEncoder(), batch_size=1) as service,
        ThreadPoolExecutor(2) as pool,
    ):
        encoder.stall()
        started = time.monotonic()
        searches = [pool.submit(service.search, "query 0")]
        wait_until(lambda: encoder.seen == ["query 0"])
        held = max(0.3, 3 * (time.monotonic() - started))  # longer than all that this machine needs for a search
        searches.append(pool.submit(service.search, "query 1"))
        wait_until(lambda: service.context.text_queue.depth == 1)
        time.sleep(held)
        encoder.cue.set()
        for search in searches:
            search.result()
        lines = [line["request_time"] for line in wait_for_lines(caplog, 2)]
    first, second = sorted(lines, key=lambda line: line["wait"])  # the first query may be answered last
    assert first["encode"] >= 1_000 * held > first["wait"]
    assert second["wait"] >= 1_000 * held > second["encode"]
