"""Log lines of every process: one JSON object each, without keys, queries, captions or file paths."""

import json
import logging
import sys
from datetime import UTC, datetime

_FIELDS = (
    "request_id",
    "method",
    "route",
    "status",
    "milliseconds",
    "request_time",
    "key",
    "code",
    "release",
    "count",
    "reason",
)


class JsonLines(logging.Formatter):
    """A record as one line of JSON; only the fields named here are taken from `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, message, known fields, stack."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(level: str) -> None:
    """Send our lines of at least `level`, and warnings of others, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)  # for other packages: open_clip, for example, logs paths at INFO
    for name in ("pictoglot", "service", "worker", "index", "model"):
        logging.getLogger(name).setLevel(level.upper())
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of each malformed body
