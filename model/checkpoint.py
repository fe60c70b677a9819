"""Everything that makes a resume exact: table, moments, temperature and step, with hashes of what they belong to.

There is no random state to save: the order of an epoch follows from the seed and the epoch's number.
"""

import logging
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from model import storage
from model.errors import CheckpointMismatch, CorruptFolder

_TENSORS = "state.safetensors"
_KEPT = 2
_log = logging.getLogger(__name__)


def save_step(folder: Path, step: int, tensors: dict[str, Tensor], belongs: dict[str, str]) -> None:
    """Write `step-N` durably and drop all but the newest two whole ones; `belongs` names what it was made from."""
    if not storage.intact(folder / f"step-{step}"):
        storage.remove(folder / f"step-{step}")
    with storage.stage(folder / f"step-{step}") as staged:
        (staged / _TENSORS).write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}))
        storage.write_manifest(staged, {"step": step, "belongs": belongs})
    whole = [path for _, path in _steps(folder) if storage.intact(path)][:_KEPT]
    for _, path in _steps(folder):
        if path not in whole:
            storage.remove(path)


def load_newest(folder: Path, belongs: dict[str, str]) -> tuple[int, dict[str, Tensor]] | None:
    """The newest checkpoint that verifies, or None; a damaged one is passed over with a line in the log.

    Raises `CheckpointMismatch` when anything it was made from is another now.
    """
    for step, path in _steps(folder):
        try:
            manifest: dict[str, Any] = storage.verify(path)
            tensors = load_file(path / _TENSORS)
        except (CorruptFolder, OSError, SafetensorError):
            _log.warning("checkpoint of step %d is damaged, taking an older one", step)
            continue
        if manifest["belongs"] != belongs:
            changed = [name for name in belongs if manifest["belongs"].get(name) != belongs[name]]
            raise CheckpointMismatch(f"changed since the last attempt: {', '.join(changed)}")
        return step, tensors
    return None


def _steps(folder: Path) -> list[tuple[int, Path]]:
    """Checkpoint folders, newest first."""
    if not folder.exists():
        return []
    named = ((re.fullmatch(r"step-(\d+)", path.name), path) for path in folder.iterdir())
    return sorted(((int(match[1]), path) for match, path in named if match), reverse=True)
