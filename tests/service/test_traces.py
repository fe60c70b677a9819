"""Traces: one leads from a request to the phases of what it queued; without an address there is none."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from service.app import open_encoder
from service.settings import Settings
from store import logs
from tests.launcher import Program
from tests.otlp_receiver import Receiver, receive_spans
from tests.patience import PATIENCE
from tests.registries import make_registry
from tests.service.harness import running, wait_until
from tests.service.processes import clean_environment
from tests.tiny import write_tiny_base
from tests.worker.harness import pairs

CALLER = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")  # a trace, and a span in it
PHASES = ["prepare", "train", "evaluate", "package", "encode", "promote"]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    with receive_spans() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        yield receiver


def test_one_trace_leads_from_a_request_to_the_phases_of_what_it_queued(tmp_path: Path, receiver: Receiver) -> None:
    base, log = write_tiny_base(tmp_path), tmp_path / "worker.log"
    dataset = "".join(json.dumps(row) + "\n" for row in pairs("cy")).encode()
    settings = Settings(home=tmp_path / "home", base=base, precision="float32")
    own = {"HOME": str(settings.home), "BASE": base, "MIN_RECALL": "0", "FORGETTING_BUDGET": "1"}
    variables = clean_environment() | {f"PICTOGLOT_{name}": value for name, value in own.items()}
    make_registry(settings.home / "registry.db")
    with (
        logs.export_spans("pictoglot"),
        running(settings.home, open_encoder(settings), base=base) as service,
        log.open("wb") as output,
    ):
        service.put("p1", en=["a red apple"])
        wait_until(lambda: service.search("a red apple").json()["items"])
        assert service.search("a green apple").is_success  # which no cache knows
        submitted = service.admin.post(
            "/v1/languages",
            data={"language": "cy", "confirmed": "true", "force": "true", "settings": '{"epochs": 4}'},
            files={"dataset": ("cy.jsonl", dataset)},
            headers={"traceparent": f"00-{'-'.join(CALLER)}-01", "X-Request-Id": "teach-welsh"},
        )
        assert submitted.status_code == 202, submitted.text
        id = submitted.json()["expansion"]["id"]
        assert service.admin.get("/v1/pictures/nothing").status_code == 404
        command = [sys.executable, "-m", "worker"]
        worker = Program(command, env=variables, stdout=output, stderr=subprocess.STDOUT, cwd=tmp_path)
        try:
            get = service.context.registry.expansions.get
            wait_until(lambda: get(id).state not in ("queued", "running"))
            assert get(id).state == "succeeded", get(id)
            wait_until(lambda: receiver.find("learn", expansion=id))  # its process sends it when it ends
        finally:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(PATIENCE) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]  # of the worker and its child: all are JSON

    (post,) = receiver.find("POST /v1/languages")
    assert (post.trace, post.parent, post.service) == (*CALLER, "pictoglot")
    assert post.attributes["http.response.status_code"] == 202
    assert post.attributes["pictoglot.request_id"] == "teach-welsh"
    (learn,) = receiver.find("learn", expansion=id, language="cy", attempt=1)
    assert (learn.trace, learn.parent, learn.service) == (post.trace, post.id, "pictoglot-worker")
    assert [span.name for span in receiver.list_below(learn)] == PHASES
    assert {line["trace_id"] for line in lines if line["logger"].startswith("worker.learn")} == {post.trace}

    search = receiver.find("POST /v1/search/pictures")[-1]
    parts = receiver.list_below(search)
    assert [part.name for part in parts][:4] == ["read", "wait", "tokenise", "encode"]
    assert {"scan", "captions", "json", "send"} <= {part.name for part in parts}
    assert search.start <= parts[0].start and parts[-1].end <= search.end
    assert all(before.end <= after.start for before, after in pairwise(parts))
    assert not [span for span in receiver.spans if span.has_failed]
    assert "apple" not in repr(receiver.spans) and "afal" not in repr(receiver.spans)


def test_what_raises_has_failed_and_its_text_is_not_told(receiver: Receiver) -> None:
    with logs.export_spans("x"), pytest.raises(ValueError, match="secret"), logs.open_span("outer"):
        assert logs.find_parent()
        with logs.open_span("inner"):
            raise ValueError("a secret")
    inner, outer = receiver.spans
    assert (inner.parent, inner.has_failed, outer.has_failed) == (outer.id, True, True)
    assert inner.attributes == {"error.type": "ValueError"}
    assert logs.find_parent() is None


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_no_spans_are_made_where_none_are_wanted(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with logs.export_spans("x"), logs.open_span("nothing") as span:
        assert span is None and logs.find_parent() is None
        logs.add_parts({"part": 1.0})
    assert receiver.spans == []
    assert [record.getMessage() for record in caplog.records] == (
        ["no traces: of OTEL_EXPORTER_OTLP_PROTOCOL, http/protobuf alone is spoken here"]
        if "grpc" in variables.values()
        else []
    )


def test_without_the_extra_a_line_says_so(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with logs.export_spans("x"), logs.open_span("nothing") as span:
        assert span is None
    assert caplog.messages == ["no traces: OTEL_EXPORTER_OTLP_ENDPOINT needs the extra otel"]


def test_nothing_of_it_is_imported_where_it_is_not_wanted() -> None:
    code = (
        "import sys; from store import logs\n"
        "with logs.export_spans('x'), logs.open_span('y'): pass\n"
        "sys.exit('opentelemetry' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=clean_environment(), check=False).returncode == 0
