"""Log lines of every process: JSON, on a terminal words; without keys, queries, captions or file paths."""

import json
import logging
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType

from store.traces import find_parent

_FIELDS = (
    "request_id",
    "method",
    "route",
    "status",
    "milliseconds",
    "request_time",
    "key",
    "label",
    "target",
    "refused",
    "code",
    "release",
    "count",
    "reason",
)
_log = logging.getLogger("pictoglot")


class JsonFormatter(logging.Formatter):
    """The formatter of files: a record as one line of JSON, with known fields of `extra` alone."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
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
