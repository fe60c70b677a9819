"""A report's page: words that somebody wrote, and between two marks the tables that a command writes."""

import re
from collections.abc import Iterable
from pathlib import Path

from store import files

_MARKS = re.compile(r"(<!-- tables -->\n).*?(<!-- /tables -->)", re.DOTALL)


def place(page: Path, title: str, tables: Iterable[str]) -> str:
    """Put tables between the marks of a page, which is begun if it is not there; returns what was put."""
    empty = f"# {title}\n\n<!-- tables -->\n<!-- /tables -->\n"
    text, written = (
        page.read_text(encoding="utf-8") if page.is_file() else empty,
        "\n".join(f"{each}\n" for each in tables),
    )
    filled, places = _MARKS.subn(lambda marks: marks[1] + written + marks[2], text)
    if places != 1:
        raise ValueError(f"{page} has no place for tables: one line <!-- tables -->, and behind it <!-- /tables -->")
    files.write_bytes(page, filled.encode())
    return written
