"""A registry's file with all tables and no row, made once in a process: two thousand tests begin with one.

And what tests do to a registry that no product does: serve a release of their own making.
"""

import atexit
import shutil
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from store import releases
from store.registry import Registry, open_registry
from store.releases import Release
from store.tables import ReleaseRow


def make_registry(file: Path) -> str:
    """Return the URL of this file, which has the tables of today unless it was there before."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_make_template(), file)
    return f"sqlite:///{file}"


def publish_release(
    registry: Registry, *, expected: int, shared: int, languages: dict[str, int], actor: str = "t", **more: Any
) -> Release:
    """Serve this from now on, if `expected` still serves; `more` are a reason and a change."""
    with registry.begin() as session:
        facts = {"reason": "", "change": {}} | more
        row = ReleaseRow(shared=shared, languages=languages, actor=actor, **facts)
        return releases.publish(session, expected, row)


@cache
def _make_template() -> Path:
    folder = tempfile.mkdtemp(prefix="registry-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = Path(folder, "registry.db")
    with closing(open_registry(f"sqlite:///{made}")):
        pass
    return made
