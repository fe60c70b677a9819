"""A collector of traces: a server that takes OTLP over HTTP and keeps the spans."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.http_server import QuietHandler, serve


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it was sent; ids in hex, times in nanoseconds."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    attributes: dict[str, Any]
    has_failed: bool


class Receiver(ThreadingHTTPServer):
    """The server; `spans` are in the order in which they ended."""

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        super().__init__(("127.0.0.1", 0), _Take)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def find(self, name: str, **attributes: object) -> list[ReceivedSpan]:
        """Return the spans of a name with these attributes of ours."""
        wanted = {f"pictoglot.{key}": value for key, value in attributes.items()}
        return [span for span in self.spans if span.name == name and wanted.items() <= span.attributes.items()]

    def list_below(self, span: ReceivedSpan) -> list[ReceivedSpan]:
        """Return the spans right below one, by their start."""
        return sorted((each for each in self.spans if each.parent == span.id), key=lambda each: each.start)


class _Take(QuietHandler):
    server: Receiver

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/v1/traces" or self.headers["Content-Type"] != "application/x-protobuf":
            return self.send_error(404)
        for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
            service = _read(resource.resource.attributes)["service.name"]
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                times, has_failed = (span.start_time_unix_nano, span.end_time_unix_nano), span.status.code == 2
                facts = (_read(span.attributes), has_failed)
                self.server.spans.append(ReceivedSpan(service, span.name, *ids, *times, *facts))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.end_headers()
        self.wfile.write(ExportTraceServiceResponse().SerializeToString())


def _read(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextmanager
def receive_spans() -> Iterator[Receiver]:
    """Run a receiver during the block."""
    with serve(Receiver()) as server:
        yield server
