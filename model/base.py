"""Bases: a bundled one, or a model of open_clip whose text tower is read here. Nothing ever trains one.

A base is named `bundled`, `photos`, `NAME/PRETRAINED` (from open_clip's own list, downloaded) or
`NAME@/path/to/checkpoint.safetensors`; an architecture that open_clip does not know, and how its pictures are prepared,
are read from `NAME.json` beside it, a tokenizer that is not CLIP's from `tokenizer.json`. Which text towers are read is
in `model/reading.py`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from model.languages import ENGLISH
from model.match import Curves
from model.pictures import SHORTEST, Frame
from model.reading import Reading, list_languages, make_reading, open_tokenizer, require_supported
from model.tokenizer import BEGIN, END, ClipPieces, Tokenizer
from model.towers import choose_device, compute_text_features
from store.errors import BaseNotFound, BaseNotSupported, CheckpointUnfit

BUNDLED = {"bundled": "pictoglot-emoji", "photos": "pictoglot-photos"}
_BUNDLE = Path(__file__).parent / "bundled"
TOKENIZER, SETTINGS, CONFIGURATION = "tokenizer.json", "tokenizer_config.json", "open_clip_config.json"
PREPARATION = "preprocess_cfg"  # of `NAME.json`, as of open_clip's own `open_clip_config.json`
_LARGE = 512 * 2**20  # bytes in float32 from which on a table is memory-mapped; CLIP's own have at most 253 MB
_BLOCK = 8_192  # rows that are compared at a time
_CONTEXTS, _TABLES = (
    [f"{tower}{name}" for tower in ("", "text.")] for name in ("positional_embedding", "token_embedding.weight")
)
_AWAY = (OSError, ValueError, HfHubHTTPError, RepositoryNotFoundError, EntryNotFoundError)


@dataclass(frozen=True)
class Base:
    """A frozen CLIP: an image tower, a text tower, its table (vocabulary, width) of token rows, and how it reads text.

    `compute_text_features(embedded, last)` reads off each text at `last`, since CLIP's own search for the largest id
    would be wrong once learned ids lie above it. A large table is the file itself, memory-mapped, in whatever precision
    it has. `make_tokenizer()` is that of version 0: a new one for each encoder, since those that grow from one share
    their merges. The fingerprints are hex sha256 over configuration and weights of each half; the second over
    `tokenizer.json` too, if there is one. `languages` are those that it reads untaught. `things` and
    `unseen` are files beside the weights, if there are such: English words, one a line, gzip, for what the base knows
    the look of, and for people, places and events, which it does not know. `curves` tell the chance of a hit in a
    gallery without captions of its own, from a file `NAME.match.json`.
    """

    name: str
    model: nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    table: Tensor
    make_tokenizer: Callable[[], Tokenizer]
    reading: Reading
    dimension: int
    image_fingerprint: str
    text_fingerprint: str
    device: torch.device
    compute_text_features: Callable[[Tensor, Tensor], Tensor]
    frame: Frame  # in which `preprocess` sees a picture
    languages: tuple[str, ...] = (ENGLISH,)
    things: Path | None = None
    unseen: Path | None = None
    curves: Curves | None = None

    @property
    def picture_size(self) -> tuple[int, int]:
        """Return the height and width in pixels that the image tower takes."""
        return self.frame.height, self.frame.width

    def copy_without_towers(self, on_cpu: bool = False) -> "Base":
        """Return this base without its modules, whose memory is freed, for compiled towers."""
        device = torch.device("cpu") if on_cpu else self.device
        return replace(self, model=nn.Module(), compute_text_features=_refuse_tower, device=device)


def _refuse_tower(embedded: Tensor, last: Tensor) -> Tensor:
    raise RuntimeError("this base was opened for encoding with compiled towers only")


def open_base(spec: str, device: str | None = None) -> Base:
    """Open a base by name; raises `BaseNotSupported`, or `BaseNotFound` or one of its kinds."""
    name, pretrained, config = _find(spec)
    where = torch.device(device) if device else choose_device()
    tokenizer, reading = _open_tokenizer(name, config["text_cfg"], pretrained)
    # OpenAI's weights were trained with QuickGELU; open_clip only warns when the plain name is opened with them
    quick_gelu = bool((open_clip.get_pretrained_cfg(name, pretrained) or {}).get("quick_gelu", False))
    preparation = find_preparation(name, pretrained)
    model = _load_model(name, pretrained, reading, force_quick_gelu=quick_gelu, force_preprocess_cfg=preparation)
    architecture = json.dumps({**config, "quick_gelu": quick_gelu or config.get("quick_gelu", False)}, sort_keys=True)
    languages = list_languages(name, read_declared_languages(pretrained))
    things, unseen, match = (
        Path(pretrained).with_suffix(f".{kind}") for kind in ("things.gz", "unseen.gz", "match.json")
    )
    return replace(
        _describe(name, pretrained, architecture, model, where, tokenizer, reading),
        languages=languages,
        things=things if things.is_file() else None,
        unseen=unseen if unseen.is_file() else None,
        curves=Curves(**json.loads(match.read_bytes())["curves"]) if match.is_file() else None,
    )


def measure_base(spec: str) -> tuple[int, int]:
    """Return the dimension of a base's vectors, and the bytes of its checkpoint if it is local; read no weights."""
    _, pretrained, config = _find(spec)
    local = Path(pretrained)
    return int(config["embed_dim"]), local.stat().st_size if local.is_file() else 0


def _find(spec: str) -> tuple[str, str, dict[str, Any]]:
    """Return the open_clip name of a base, its weights and its configuration, which is one that is read here."""
    name, pretrained = _parse(spec)
    config = open_clip.get_model_config(name)
    if config is None:
        raise BaseNotFound(f"open_clip has no model named {name}")
    require_supported(name, config)
    return name, pretrained, config


def _open_tokenizer(name: str, text: Mapping[str, Any], pretrained: str) -> tuple[Tokenizer, Reading]:
    """Return the base's tokenizer, and how its tower reads what that gives."""
    if text.get("hf_tokenizer_name"):
        pieces, reading = open_tokenizer(name, text, *read_tokenizer_files(name, text["hf_tokenizer_name"], pretrained))
        return Tokenizer(pieces), reading
    # open_clip fills up CLIP's texts with 0, which is an exclamation mark
    return Tokenizer(), make_reading(name, text, (BEGIN,), (END,), 0)


def _load_model(name: str, pretrained: str, reading: Reading, **options: Any) -> nn.Module:
    """Load open_clip's model with its weights, in float32; `options` are those of its `create_model`."""
    if local := Path(pretrained).is_file():
        require_own_context(name, Path(pretrained), reading.context)
    try:
        model = open_clip.create_model(name, pretrained=pretrained, require_pretrained=True, **options)
    except (OSError, RuntimeError, ValueError, KeyError, AssertionError, SafetensorError) as error:
        if local and not isinstance(error, OSError | SafetensorError):  # the file is whole
            raise CheckpointUnfit(
                f"the checkpoint is not one of {name}: its weights have other names or sizes"
            ) from error
        raise BaseNotFound(f"the weights of {name} cannot be loaded") from error
    frozen: nn.Module = model.float().eval().requires_grad_(False)
    return frozen


def _parse(spec: str) -> tuple[str, str]:
    """Return the open_clip name and its weights: a tag of open_clip's list or a local file."""
    if bundled := BUNDLED.get(spec):
        spec = f"{bundled}@{_BUNDLE / bundled}.safetensors"
    name, at, path = spec.partition("@")
    if at:
        if not path.endswith(".safetensors"):
            raise BaseNotSupported(
                "a local checkpoint must be a .safetensors file: other formats can run code when read"
            )
        if not Path(path).is_file():
            raise BaseNotFound("the checkpoint file does not exist")
        if (config := Path(path).parent / f"{name}.json").is_file():
            add_architecture(config)
        return name, path
    if ":" in spec:
        raise BaseNotSupported(
            f"{spec.partition(':')[0]}: a model is named as in open_clip; names of a model hub are not supported"
        )
    name, slash, tag = spec.partition("/")
    if not slash:
        raise BaseNotFound("a base is `bundled`, `photos`, NAME/PRETRAINED or NAME@/path/to/checkpoint.safetensors")
    if open_clip.get_model_config(name) is not None and tag not in open_clip.list_pretrained_tags_by_model(name):
        raise BaseNotFound(f"open_clip has no weights {tag} for {name}")
    return name, tag


def _describe(
    name: str,
    pretrained: str,
    architecture: str,
    model: nn.Module,
    device: torch.device,
    tokenizer: Tokenizer,
    reading: Reading,
) -> Base:
    tower: Any = getattr(model, "text", model)
    visual: Any = model.visual
    image_part = {key: value for key, value in model.state_dict().items() if key.startswith("visual.")}
    text_part = {
        key: value
        for key, value in model.state_dict().items()
        if not key.startswith("visual.") and key not in {"logit_scale", "logit_bias"}
    }
    # CLIP's own tokenizer is in this code: its base has the fingerprint that the reports of benchmarks name
    read_by = "" if isinstance(tokenizer.pieces, ClipPieces) else json.dumps([tokenizer.sha256, reading.describe()])
    text_fingerprint = _hash_tensors(text_part, architecture + read_by)
    image_fingerprint = _hash_tensors(
        image_part, architecture + json.dumps(visual.preprocess_cfg, sort_keys=True, default=list)
    )
    del image_part, text_part
    table = map_table(name, pretrained, tower.token_embedding.weight.detach())
    tower.token_embedding.weight = nn.Parameter(table, requires_grad=False)  # not a second time in memory
    model.to(device)
    return Base(
        name=name,
        model=model,
        preprocess=image_transform_v2(PreprocessCfg(**visual.preprocess_cfg), is_train=False),
        table=table,
        make_tokenizer=tokenizer.copy_without_merges,
        reading=reading,
        dimension=_find_dimension(tower),
        image_fingerprint=image_fingerprint,
        text_fingerprint=text_fingerprint,
        device=device,
        compute_text_features=partial(compute_text_features, tower),
        frame=_make_frame(PreprocessCfg(**visual.preprocess_cfg)),
    )


def _make_frame(how: PreprocessCfg) -> Frame:
    """Return the part of open_clip's transform that works on pixels, for processes without it."""
    _, height, width = how.input_size
    interpolation = "bilinear" if how.interpolation == "bilinear" else "bicubic"  # as open_clip reads others
    return Frame(height, width, how.resize_mode or SHORTEST, interpolation, how.fill_color)


def _find_dimension(tower: Any) -> int:
    projection = tower.text_projection
    if projection is None:
        return int(tower.ln_final.weight.shape[0])
    return int(projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1])


def _hash_tensors(tensors: dict[str, Tensor], extra: str) -> str:
    digest = hashlib.sha256(extra.encode())
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


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
