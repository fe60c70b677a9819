"""Spans by OpenTelemetry (the extra `otel`): what a request, and an expansion that it queued, spent its time on.

They are sent by OTLP over HTTP to where the standard variables say. Without these nothing is imported and no span is
made. No span has a query, a caption, the name of a file or the text of an error.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOL = "http/protobuf"
_LAST_SECONDS = 3.0  # at the end of a process, for the spans that were not sent yet
_log = logging.getLogger("pictoglot.traces")
tracer: "Tracer | None" = None  # of this process, while `export_spans` has found where spans go


@contextmanager
def export_spans(process: str) -> Iterator[None]:
    """Make spans during the block if the environment says where they go; `process` is the service's name in them."""
    global tracer
    if not _is_wanted():
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        _log.warning("no traces: %s needs the extra otel", _ENDPOINT)
        yield
        return
    own = Resource.create({"service.name": process, "service.version": version("pictoglot")})
    provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracer = provider.get_tracer("pictoglot")
    try:
        yield
    finally:
        tracer = None
        last = Thread(target=provider.shutdown, daemon=True)  # a collector that is away would hold it for long
        last.start()
        last.join(_LAST_SECONDS)


@contextmanager
def open_span(
    name: str,
    parent: Mapping[str, str] | None = None,
    attributes: Mapping[str, str | int] | None = None,
    *,
    is_server: bool = False,
) -> Iterator["Span | None"]:
    """Measure the block by a span below the one under way, or below the `parent`, whose headers these are.

    It has failed where the block raises; of the error it has the kind alone. None where no spans are made.
    """
    if tracer is None:
        yield None
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind

    with tracer.start_as_current_span(
        name,
        None if parent is None else extract(parent),
        SpanKind.SERVER if is_server else SpanKind.INTERNAL,
        attributes,
        record_exception=False,  # its text may be a caption or the name of a file
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except Exception as error:
            fail(span, type(error).__name__)
            raise


def fail(span: "Span", why: str) -> None:
    """Say that what the span measures has failed; `why` is a code, or the kind of an error."""
    from opentelemetry.trace import StatusCode

    span.set_status(StatusCode.ERROR)
    span.set_attribute("error.type", why)


def add_parts(seconds: Mapping[str, float]) -> None:
    """Add spans below the one under way, one after another until now: the parts, with the seconds that each took."""
    if tracer is None:
        return
    at = time.time_ns() - round(sum(seconds.values()) * 1e9)
    for part, spent in seconds.items():
        span = tracer.start_span(part, start_time=at)
        at += round(spent * 1e9)
        span.end(at)


def find_parent() -> str | None:
    """Find the header `traceparent` of the span under way; None without one."""
    if tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    TraceContextTextMapPropagator().inject(headers := dict[str, str]())
    return headers.get("traceparent")


def _is_wanted() -> bool:
    """Tell whether the variables of OpenTelemetry say where spans go, and nothing against it."""

    def read(name: str) -> str:
        """Read a variable, by preference that of traces alone."""
        return os.environ.get(name.replace("OTLP_", "OTLP_TRACES_"), "") or os.environ.get(name, "")

    switches = {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "none"}
    if not read(_ENDPOINT) or any(read(name).strip().lower() == value for name, value in switches.items()):
        return False
    if read("OTEL_EXPORTER_OTLP_PROTOCOL") in ("", _PROTOCOL):
        return True
    _log.warning("no traces: of OTEL_EXPORTER_OTLP_PROTOCOL, %s alone is spoken here", _PROTOCOL)
    return False
