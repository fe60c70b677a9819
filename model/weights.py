"""Files of a base: its architecture, what is done to its pictures, `tokenizer.json`, a table that stays in its file."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from open_clip.transform import PreprocessCfg, image_transform_v2
from safetensors import SafetensorError, safe_open
from torch import Tensor

from store.errors import BaseNotFound, BaseNotSupported, CheckpointUnfit

TOKENIZER, SETTINGS, CONFIGURATION = "tokenizer.json", "tokenizer_config.json", "open_clip_config.json"
PREPARATION = "preprocess_cfg"  # of `NAME.json`, as of open_clip's own `open_clip_config.json`
_LARGE = 512 * 2**20  # bytes in float32 from which on a table is memory-mapped; CLIP's own have at most 253 MB
_BLOCK = 8_192  # rows that are compared at a time
_CONTEXTS, _TABLES = (
    [f"{tower}{name}" for tower in ("", "text.")] for name in ("positional_embedding", "token_embedding.weight")
)
_AWAY = (OSError, ValueError, HfHubHTTPError, RepositoryNotFoundError, EntryNotFoundError)


def read_tokenizer_files(name: str, repository: str, pretrained: str) -> tuple[bytes, Mapping[str, Any]]:
    """Return the content of the base's `tokenizer.json`, and what its `tokenizer_config.json` says, `{}` without one.

    They lie beside a local checkpoint; otherwise the hub has them under the name that open_clip gives, or with the
    weights. Raises `BaseNotFound`.
    """
    if Path(pretrained).is_file():
        folder = Path(pretrained).parent
        if not (folder / TOKENIZER).is_file():
            raise BaseNotFound(f"{name} has a tokenizer of its own: put its {TOKENIZER} beside the checkpoint")
        return (folder / TOKENIZER).read_bytes(), _read_settings(folder / SETTINGS)
    weights = (open_clip.get_pretrained_cfg(name, pretrained) or {}).get("hf_hub", "").rstrip("/")
    hub = _Hub()
    for source in dict.fromkeys((repository, weights)):
        if found := hub.fetch(source, TOKENIZER):
            settings = hub.fetch(source, SETTINGS)
            return found.read_bytes(), _read_settings(settings) if settings else {}
    raise BaseNotFound(f"the hub {'gives no' if hub.answers else 'cannot be reached for the'} {TOKENIZER} of {name}")


class _Hub:
    """Files of the model hub, or of the copies that its client keeps. `answers` until it once did not."""

    answers = True

    def fetch(self, repository: str, name: str) -> Path | None:
        """Return where a file is now; None if there is none, or none is to be had."""
        try:
            return Path(hf_hub_download(repository, name, local_files_only=not self.answers))
        except _AWAY as error:
            # the client has then tried for half a minute: that is enough
            self.answers &= isinstance(error, EntryNotFoundError | RepositoryNotFoundError) and not isinstance(
                error, LocalEntryNotFoundError
            )
            return None


def _read_settings(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError as error:
        raise BaseNotFound(f"{path.name} cannot be read") from error
    return found if isinstance(found, dict) else {}


def add_architecture(config: Path) -> None:
    """Give open_clip the architecture that a `NAME.json` describes; raises `BaseNotFound` if it cannot be read."""
    try:
        architecture = dict(json.loads(config.read_bytes()))
    except (OSError, TypeError, ValueError) as error:
        raise BaseNotFound(f"{config.name} beside the checkpoint cannot be read") from error
    if PREPARATION in architecture:  # open_clip knows this word in another file only
        del architecture[PREPARATION]
        with TemporaryDirectory() as folder:
            plain = Path(folder) / config.name
            plain.write_text(json.dumps(architecture))
            open_clip.add_model_config(plain)
    else:
        open_clip.add_model_config(config)


def find_preparation(name: str, pretrained: str) -> Mapping[str, Any]:
    """Return how pictures are prepared for a local checkpoint, in open_clip's words: it knows its own weights only.

    As `NAME.json` beside it says; else as `open_clip_config.json` does, which the hub has with the weights; or else as
    all weights that open_clip has of this architecture are used. Raises `BaseNotSupported` where `NAME.json` wants what
    open_clip does not do.
    """
    if not Path(pretrained).is_file():
        return {}
    if preparation := _read_settings(Path(pretrained).parent / f"{name}.json").get(PREPARATION):
        _require_known(name, preparation)
        return dict(preparation)
    if preparation := _read_settings(Path(pretrained).parent / CONFIGURATION).get(PREPARATION):
        return dict(preparation)
    known = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    alike = [{key: each.get(key) for key in ("mean", "std", "interpolation", "resize_mode")} for each in known]
    return alike[0] if alike and all(each == alike[0] for each in alike) else {}


def _require_known(name: str, preparation: Any) -> None:
    takes = open_clip.get_model_config(name)["vision_cfg"].get("image_size", 224)
    try:
        config = PreprocessCfg(**{"size": takes, **preparation})
        image_transform_v2(config, is_train=False)
    except (AssertionError, TypeError, ValueError) as error:
        raise BaseNotSupported(f"{name}.json prepares pictures in a way that open_clip does not know") from error
    if config.input_size != PreprocessCfg(size=takes).input_size:
        raise BaseNotSupported(f"{name}.json prepares pictures of another size than the {takes} that its tower takes")


def read_declared_languages(pretrained: str) -> object:
    """Return what `open_clip_config.json` beside a local checkpoint says of languages; no fingerprint has it."""
    path = Path(pretrained)
    return _read_settings(path.parent / CONFIGURATION).get("languages") if path.is_file() else None


def require_own_context(name: str, checkpoint: Path, context: int) -> None:
    """Raise `CheckpointUnfit` unless the checkpoint's texts are as long as the base's: open_clip would stretch them."""
    try:
        with safe_open(checkpoint, framework="pt") as file:
            for key in {*file.keys()} & {*_CONTEXTS}:
                if (places := file.get_slice(key).get_shape()[0]) != context:
                    raise CheckpointUnfit(f"the checkpoint reads texts of {places} places, {name} those of {context}")
    except (OSError, SafetensorError) as error:
        raise BaseNotFound(f"the checkpoint of {name} cannot be read") from error


def map_table(name: str, pretrained: str, rows: Tensor) -> Tensor:
    """Return `rows` (vocabulary, width) of a base; if they are many, as they lie in its file.

    So several processes share one copy, and the file's precision is kept: what is looked up is equal to the last bit.
    """
    if 4 * rows.numel() < _LARGE:
        return rows
    path = Path(pretrained)
    if not path.is_file():
        with suppress(*_AWAY):
            path = Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(name, pretrained)))
    if path.suffix != ".safetensors":
        return rows
    with safe_open(path, framework="pt") as file:
        for key in {*file.keys()} & {*_TABLES}:
            mapped: Tensor = file.get_tensor(key)
            if mapped.shape == rows.shape and all(
                torch.equal(mapped[start : start + _BLOCK].float(), rows[start : start + _BLOCK])
                for start in range(0, len(rows), _BLOCK)
            ):
                return mapped
    return rows
