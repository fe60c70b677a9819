"""What a training writes: checkpoints, results that a later attempt need not compute again, and versions.

All of it is verified before it is used. A version is its rows and its tokenizer's additions. A checkpoint makes a
resume exact: rows, Adam's moments, temperature and step, with hashes of what they were made from. There is no random
state to save: the order of an epoch follows from the seed and the epoch's number.
"""

import gzip
import hashlib
import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from model.tokenizer import Merge, Tokenizer
from store import files
from store.errors import CheckpointMismatch, CorruptFolder, VersionCorrupt

_STATE, _KEPT = "state.safetensors", "kept.safetensors"
_NEWEST = 2  # checkpoints that are left
_MOMENTS = "adam."  # between a parameter's name and those of Adam's own tensors
_log = logging.getLogger(__name__)
FORMAT = 2
ROWS, TOKENIZER, NGRAMS, LEXICON = "rows.safetensors", "tokenizer.json", "ngrams.json.gz", "lexicon.json.gz"
PROOF = "proof-"  # before the names of rows, n-grams and words that were learned without what is held out


@dataclass(frozen=True)
class TokenRows:
    """Rows by token id: `ids` (n,) int64, ascending; `rows` (n, width) float32."""

    ids: NDArray[np.int64]
    rows: Tensor


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


@dataclass(frozen=True)
class VersionContent:
    """What one expansion learned: additions to the parent's tokenizer, and rows for the tokens of its corpus."""

    merges: tuple[Merge, ...]
    words: tuple[str, ...]
    rows: TokenRows
    tokenizer_sha256: str
    ngrams: Mapping[str, int] = field(default_factory=dict, repr=False)  # of its captions, for language identification
    lexicon: tuple[str, ...] = field(default=(), repr=False)  # words by which its texts are read; none: as they are

    def extend_tokenizer(self, parent: Tokenizer) -> Tokenizer:
        """Return the parent's tokenizer, extended; `VersionCorrupt` unless it is the one the rows were trained with."""
        with suppress(KeyError):  # of a token that the parent lacks
            extended = parent.extend(self.merges, self.words)
            if extended.sha256 == self.tokenizer_sha256:
                return extended
        raise VersionCorrupt("the tokenizer is not the one this version was trained with")

    @property
    def digest(self) -> str:
        """Return a hex name of these rows and the tokens that they are of."""
        return sha256(self.rows.rows.cpu().contiguous().numpy().tobytes() + self.tokenizer_sha256.encode()).hexdigest()


def write_version(
    folder: Path,
    content: VersionContent,
    facts: dict[str, Any],
    proof: VersionContent | None = None,
    more: Mapping[str, bytes] | None = None,
) -> None:
    """Write a version durably at `folder`, unless the same expansion wrote it before; `facts` go into its manifest.

    `proof` is what it had learned before it was taught what is held out, with the same tokenizer; `more` are files that
    stay beside it.
    """
    if not folder.exists():
        with files.stage(folder) as staged:
            for prefix, each in (("", content), (PROOF, proof)):
                if each is not None:
                    tensors = {"rows": each.rows.rows.cpu().contiguous(), "ids": torch.from_numpy(each.rows.ids)}
                    (staged / f"{prefix}{ROWS}").write_bytes(save(tensors))
                    for name, value in ((NGRAMS, each.ngrams), (LEXICON, each.lexicon)):
                        (staged / f"{prefix}{name}").write_bytes(gzip.compress(json.dumps(value).encode(), mtime=0))
            tokenizer = {"merges": content.merges, "words": content.words, "sha256": content.tokenizer_sha256}
            (staged / TOKENIZER).write_text(json.dumps(tokenizer, ensure_ascii=False, indent=0), encoding="utf-8")
            for name, data in (more or {}).items():
                (staged / name).write_bytes(data)
            described = {**facts, "format": FORMAT, "rows": len(content.rows.ids)}
            files.write_manifest(staged, described)


def read_version(
    folder: Path, manifest_sha256: str | None = None, *, proof: bool = False
) -> tuple[VersionContent, dict[str, Any]]:
    """Return a verified version and its manifest; raises `VersionCorrupt` with a reason.

    With `proof`, as it was before it was taught what is held out: to be measured by that.
    """
    try:
        manifest = files.verify(folder, manifest_sha256)
        if manifest.get("format") != FORMAT:
            raise VersionCorrupt("the version's format is not supported by this release")
        prefix = PROOF if proof and f"{PROOF}{ROWS}" in manifest["files"] else ""
        tensors = load_file(folder / f"{prefix}{ROWS}")
        tokenizer = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
        merges = tuple((left, right) for left, right in tokenizer["merges"])
        ids = tensors["ids"].numpy()
        words = tuple(str(word) for word in tokenizer["words"])
        ngrams, lexicon = (
            json.loads(gzip.decompress((folder / f"{prefix}{name}").read_bytes())) for name in (NGRAMS, LEXICON)
        )
        rows = TokenRows(ids, tensors["rows"].float())
        content = VersionContent(merges, words, rows, tokenizer["sha256"], ngrams, tuple(map(str, lexicon)))
    except VersionCorrupt:
        raise
    except CorruptFolder as error:
        raise VersionCorrupt(error.detail) from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise VersionCorrupt("the version's files cannot be read") from error
    if not bool(torch.isfinite(tensors["rows"]).all()):
        raise VersionCorrupt("the version's rows are not finite")
    if tensors["rows"].ndim != 2 or len(ids) != len(tensors["rows"]) or (np.diff(ids) <= 0).any():
        raise VersionCorrupt("the version's rows and ids do not fit each other")
    return content, manifest
