"""Checkpoints of a training, and results that a later attempt need not compute again.

All of it is verified before it is used. A checkpoint makes a resume exact: rows, Adam's moments, temperature and step,
with hashes of what they were made from. There is no random state to save: the order of an epoch follows from the seed
and the epoch's number.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from store import files
from store.errors import CheckpointMismatch, CorruptFolder

_STATE, _KEPT = "state.safetensors", "kept.safetensors"
_NEWEST = 2  # checkpoints that are left
_MOMENTS = "adam."  # between a parameter's name and those of Adam's own tensors
_log = logging.getLogger(__name__)


def save_step(folder: Path, step: int, tensors: dict[str, Tensor], inputs: dict[str, str]) -> None:
    """Write `step-N` durably and drop all but the newest two whole ones; `inputs` names what it was made from."""
    if not files.is_intact(folder / f"step-{step}"):
        files.remove(folder / f"step-{step}")
    _write(folder / f"step-{step}", _STATE, tensors, {"step": step, "belongs": inputs})
    whole = [path for _, path in _list_steps(folder) if files.is_intact(path)][:_NEWEST]
    for _, path in _list_steps(folder):
        if path not in whole:
            files.remove(path)


def load_newest(folder: Path, inputs: dict[str, str]) -> tuple[int, dict[str, Tensor]] | None:
    """Return the newest checkpoint that verifies, or None; pass over a damaged one with a line in the log.

    Raises `CheckpointMismatch` when it was made from something else.
    """
    for step, path in _list_steps(folder):
        try:
            manifest: dict[str, Any] = files.verify(path)
            tensors = load_file(path / _STATE)
        except (CorruptFolder, OSError, SafetensorError):
            _log.warning("checkpoint of step %d is damaged, taking an older one", step)
            continue
        if manifest["belongs"] != inputs:
            changed = [name for name in inputs if manifest["belongs"].get(name) != inputs[name]]
            raise CheckpointMismatch(f"changed since the last attempt: {', '.join(changed)}")
        return step, tensors
    return None


def hash_tensors(*tensors: Tensor) -> str:
    """Return the hex sha256 of their bytes. Of new rows it would not be the same on another kind of processor."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def collect_state(trained: Mapping[str, nn.Parameter], adam: torch.optim.Adam) -> dict[str, Tensor]:
    """Return what a checkpoint keeps of a training: what is trained, by name, and Adam's own tensors."""
    state = {name: parameter.detach() for name, parameter in trained.items()}
    for name, parameter in trained.items():
        state |= {f"{name}.{_MOMENTS}{key}": value for key, value in adam.state.get(parameter, {}).items()}
    return state


def restore(newest: tuple[int, dict[str, Tensor]], trained: Mapping[str, nn.Parameter], adam: torch.optim.Adam) -> int:
    """Put a checkpoint back; returns its step."""
    step, tensors = newest
    for name, parameter in trained.items():
        parameter.data.copy_(tensors[name])
        start = f"{name}.{_MOMENTS}"
        moments = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        if moments:
            adam.state[parameter] = {key: value.to(parameter.device) for key, value in moments.items()}
    return step


class CachedResult(NamedTuple):
    """A result: tensors by name, and facts that JSON can hold."""

    tensors: Mapping[str, Tensor]
    facts: Any = None


def save_result(folder: Path, key: object, result: CachedResult) -> None:
    """Write a result durably at `folder`, in place of any other; `key` is all that it was computed from, as JSON."""
    files.remove(folder)
    _write(folder, _KEPT, result.tensors, {"key": hash_key(key), "facts": result.facts})


def load_result(folder: Path, key: object) -> CachedResult | None:
    """Return what was saved at `folder` for the same key, if it is whole."""
    try:
        manifest = files.verify(folder)
        return CachedResult(load_file(folder / _KEPT), manifest["facts"]) if manifest["key"] == hash_key(key) else None
    except (CorruptFolder, OSError, SafetensorError):
        return None


def _write(folder: Path, name: str, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
    with files.stage(folder) as staged:
        (staged / name).write_bytes(save({key: tensor.contiguous() for key, tensor in tensors.items()}))
        files.write_manifest(staged, facts)


def hash_key(key: object) -> str:
    """Return a hash that names a key, also as a folder."""
    return hashlib.sha256(json.dumps(key, ensure_ascii=False).encode()).hexdigest()


def _list_steps(folder: Path) -> list[tuple[int, Path]]:
    """List the checkpoint folders, newest first."""
    if not folder.exists():
        return []
    named = ((re.fullmatch(r"step-(\d+)", path.name), path) for path in folder.iterdir())
    return sorted(((int(match[1]), path) for match, path in named if match), reverse=True)
