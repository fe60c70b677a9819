"""Bases: a bundled one, or a model of open_clip whose text tower is read here. Nothing ever trains one.

A base is named `bundled`, `photos`, `NAME/PRETRAINED` (from open_clip's own list, downloaded) or
`NAME@/path/to/checkpoint.safetensors`; an architecture that open_clip does not know, and how its pictures are prepared,
are read from `NAME.json` beside it, a tokenizer that is not CLIP's from `tokenizer.json`. Which text towers are read is
in `model/reading.py`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from model.languages import ENGLISH
from model.match import Curves
from model.pictures import SHORTEST, Frame
from model.reading import list_languages, make_reading, open_tokenizer, require_supported
from model.table import Reading
from model.tokenizer import BEGIN, END, ClipPieces, Tokenizer
from model.towers import choose_device, compute_text_features
from model.weights import (
    add_architecture,
    find_preparation,
    map_table,
    read_declared_languages,
    read_tokenizer_files,
    require_own_context,
)
from store.errors import BaseNotFound, BaseNotSupported, CheckpointUnfit

BUNDLED = {"bundled": "pictoglot-emoji", "photos": "pictoglot-photos"}
_BUNDLE = Path(__file__).parent / "bundled"


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

    def prepare_pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Return RGB pictures as the image tower takes them, (n, 3, height, width)."""
        return torch.stack([self.preprocess(image) for image in images])

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
