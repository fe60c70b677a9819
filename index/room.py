"""How much disk a move to another base needs, and whether it is there. Moves nothing."""

import shutil
from pathlib import Path

from sqlalchemy import func, select

from index.sweep import BYTES
from index.tables import CaptionRow, PictureRow
from model.errors import DiskTooSmall
from model.registry import Registry


def needed(registry: Registry, dimension: int, towers: int) -> int:
    """About how many bytes a move takes: vectors of `dimension` of all pictures and captions, and all languages anew.

    `towers` are the bytes of the new base's own files that are made under the data root.
    """
    with registry.read() as session:
        vectors = (session.scalar(select(func.count()).select_from(table)) or 0 for table in (PictureRow, CaptionRow))
        rows = sum(vectors)
    serving = registry.releases.serving()
    versions = sum(registry.versions.get(number).bytes for number in {*serving.languages.values()})
    return rows * dimension * BYTES + versions + towers


def require(home: Path, bytes: int, reserve: int = 0) -> None:
    """Raises `DiskTooSmall`, with both numbers, unless so many bytes, and `reserve` more, are free under `home`."""
    free = max(0, shutil.disk_usage(home).free - reserve)
    if free < bytes:
        raise DiskTooSmall(
            f"The move needs about {_megabytes(bytes)} of disk, and {_megabytes(free)} are free.",
            needed=bytes,
            free=free,
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
