"""How far the demo gallery of this machine is filled: a file under the data root, which `learn` waits for."""

import json
from pathlib import Path
from time import sleep, time

from .client import client_settings, proxied
from .output import errors, note
from .sending import progress

FILLING = "demo.filling"  # under the data root while the gallery is being filled; written every second
_STALE = 15.0  # seconds after which a file that is no longer written belongs to a fill that died
_PAUSE = 0.5  # seconds between two looks at it


def write_filling(home: Path, done: int, of: int) -> None:
    """Write how many pictures of how many are in the gallery; replaces the file in one step."""
    new = home / f"{FILLING}.new"
    new.write_text(json.dumps({"done": done, "of": of}))
    new.replace(home / FILLING)


def wait_until_filled(*, quiet: bool) -> None:
    """Wait while the demo on this machine is filling its gallery, with a progress bar unless `quiet`."""
    settings = client_settings()
    if proxied(settings.url) or (state := _read_filling(settings.home)) is None:
        return
    note("The demo gallery is still being filled; teaching starts when it is complete.")
    with progress(errors, quiet=quiet or not errors.is_terminal) as bar:
        task = bar.add_task("Pictures", total=None)
        while state is not None:
            done, of = state
            bar.update(task, completed=done, total=of or None)
            sleep(_PAUSE)
            state = _read_filling(settings.home)


def _read_filling(home: Path) -> tuple[int, int] | None:
    """Return how far the fill is that runs now; None when none does."""
    file = home / FILLING
    try:
        if abs(time() - file.stat().st_mtime) > _STALE:
            return None
        state = json.loads(file.read_text())
        return int(state["done"]), int(state["of"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
