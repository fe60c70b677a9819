"""A registry's file with all tables and no row, made once in a process: two thousand tests begin with one."""

import atexit
import shutil
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from store.registry import open_registry


def empty_registry(file: Path) -> str:
    """The URL of this file, which has the tables of today unless it was there before."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_template(), file)
    return f"sqlite:///{file}"


@cache
def _template() -> Path:
    folder = tempfile.mkdtemp(prefix="registry-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Path(folder, "registry.db")
    with closing(open_registry(f"sqlite:///{made}")):
        pass
    return made
