"""What processes tell: log lines, JSON, on a terminal words; and spans by OpenTelemetry (the extra `otel`).

Spans say what a request, and an expansion that it queued, spent its time on. They are sent by OTLP over HTTP to where
the standard variables say; without these nothing is imported and no span is made. No line and no span has a key, a
query, a caption or the name of a file that somebody sent, and no span the text of an error.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_FIELDS = (
    *("request_id", "method", "route", "status", "milliseconds", "request_time", "key", "label", "target"),
    *("refused", "code", "release", "count", "reason", "content", "file", "kind", "mended"),
)
_log = logging.getLogger("pictoglot")
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOL = "http/protobuf"
_LAST_SECONDS = 3.0  # at the end of a process, for the spans that were not sent yet
tracer: "Tracer | None" = None  # of this process, while `export_spans` has found where spans go


class JsonFormatter(logging.Formatter):
    """The formatter of files: a record as one line of JSON, with known fields of `extra` alone."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if (parent := find_parent()) is not None:
            line["trace_id"] = parent.split("-")[1]
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """The formatter of terminals: a record as a line of text, with the local time and the same fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a stack follows it."""
        at = self.formatTime(record, "%H:%M:%S")
        fields = "".join(f" {name}={_escape(getattr(record, name))}" for name in _FIELDS if hasattr(record, name))
        line = f"{at} {record.levelname.lower()} {record.name}: {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _escape(value: object) -> str:
    """Return `value` as text of one line, whatever a client put into it."""
    text = str(value)
    return text if text.isprintable() else repr(text)


def configure(level: str) -> None:
    """Send our lines of at least `level`, and warnings of others, to standard error: JSON, or text on a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if sys.stderr.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)  # for other packages: open_clip, for example, logs paths at INFO
    for name in ("pictoglot", "service", "worker", "index", "model"):
        logging.getLogger(name).setLevel(level.upper())
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of each malformed body
    # what Python itself would print, in many lines
    logging.captureWarnings(True)
    sys.excepthook = _log_error
    threading.excepthook = lambda given: _log_error(given.exc_type, given.exc_value, given.exc_traceback)
    sys.unraisablehook = lambda given: _log_error(given.exc_type, given.exc_value, given.exc_traceback)


def _log_error(kind: type[BaseException], error: BaseException | None, stack: TracebackType | None) -> None:
    """Log what nobody has caught; who pressed Ctrl-C knows it."""
    if not issubclass(kind, KeyboardInterrupt | SystemExit):
        _log.critical("unexpected error", exc_info=(kind, error or kind(), stack))


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
