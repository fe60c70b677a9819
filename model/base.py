"""Opens a base: any open_clip model with CLIP's BPE tokenizer, or the bundled one. It is frozen; nothing here trains.

A base is named `bundled`, `NAME/PRETRAINED` (from open_clip's own list, downloaded) or
`NAME@/path/to/checkpoint.safetensors`; an architecture that open_clip does not know is read from `NAME.json` beside it.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
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

from model.errors import BackendNotAvailable, BaseNotFound, BaseNotSupported
from model.tower import text_features

BUNDLED = "pictoglot-emoji"
BOT, EOT = 49406, 49407  # begin and end of text; every row from EOT + 1 on belongs to a learned language
VOCABULARY = 49408  # rows of CLIP's own table
_BUNDLE = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class Base:
    """A frozen CLIP: an image tower, a text tower without its table, and the table (49408, width) of English rows.

    `text_features(embedded, last)` is `model.tower.text_features` of the text tower: `last` is where each text's
    end-of-text token is, since CLIP's own search for the largest id would be wrong once learned ids lie above it.
    `image_fingerprint` and `text_fingerprint` are hex sha256 over configuration and weights of each half.
    """

    name: str
    model: nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    table: Tensor
    context_length: int
    dimension: int
    image_fingerprint: str
    text_fingerprint: str
    device: torch.device
    text_features: Callable[[Tensor, Tensor], Tensor]
    picture_size: tuple[int, int] = (224, 224)  # height and width in pixels that the image tower takes

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB pictures as the image tower takes them, (n, 3, height, width)."""
        return torch.stack([self.preprocess(image) for image in images])

    def without_towers(self, on_cpu: bool = False) -> "Base":
        """This base without its modules, whose memory is freed: for a process that computes with other towers."""
        device = torch.device("cpu") if on_cpu else self.device
        return replace(self, model=nn.Module(), text_features=_no_tower, device=device)


def _no_tower(embedded: Tensor, last: Tensor) -> Tensor:
    raise RuntimeError("this base was opened for encoding with compiled towers only")


def open_base(spec: str, device: str | None = None) -> Base:
    """Open a base by name; raises `BaseNotSupported`, `BaseNotFound` or `BackendNotAvailable`."""
    name, pretrained = _parse(spec)
    where = device_of(device)
    config = open_clip.get_model_config(name)
    if config is None:
        raise BaseNotFound(f"open_clip has no model named {name}")
    _require_clip_text(name, config)
    # OpenAI's weights were trained with QuickGELU; open_clip only warns when the plain name is opened with them
    quick_gelu = bool((open_clip.get_pretrained_cfg(name, pretrained) or {}).get("quick_gelu", False))
    try:
        model = open_clip.create_model(
            name, pretrained=pretrained, require_pretrained=True, force_quick_gelu=quick_gelu
        )
    except (OSError, RuntimeError, ValueError, KeyError, AssertionError, SafetensorError) as error:
        raise BaseNotFound(f"the weights of {spec.partition('@')[0]} cannot be loaded") from error
    model = model.float().eval().requires_grad_(False)
    architecture = json.dumps({**config, "quick_gelu": quick_gelu or config.get("quick_gelu", False)}, sort_keys=True)
    return _describe(name, architecture, model, where)


def _parse(spec: str) -> tuple[str, str]:
    """The open_clip name and its weights: a tag of open_clip's list or a local file."""
    if spec == "bundled":
        spec = f"{BUNDLED}@{_BUNDLE / BUNDLED}.safetensors"
    name, at, path = spec.partition("@")
    if at:
        if not path.endswith(".safetensors"):
            raise BaseNotSupported(
                "a local checkpoint must be a .safetensors file: other formats can run code when read"
            )
        if not Path(path).is_file():
            raise BaseNotFound("the checkpoint file does not exist")
        if (config := Path(path).parent / f"{name}.json").is_file():
            try:
                json.loads(config.read_bytes())  # open_clip would keep a broken one among its own
            except (OSError, ValueError) as error:
                raise BaseNotFound(f"{config.name} beside the checkpoint cannot be read") from error
            open_clip.add_model_config(config)
        return name, path
    if ":" in spec:
        raise BaseNotSupported(
            f"{spec.partition(':')[0]}: a model is named as in open_clip; names of a model hub are not supported"
        )
    name, slash, tag = spec.partition("/")
    if not slash:
        raise BaseNotFound("a base is written `bundled`, NAME/PRETRAINED or NAME@/path/to/checkpoint.safetensors")
    if open_clip.get_model_config(name) is not None and tag not in open_clip.list_pretrained_tags_by_model(name):
        raise BaseNotFound(f"open_clip has no weights {tag} for {name}")
    return name, tag


def _require_clip_text(name: str, config: dict[str, Any]) -> None:
    text = config["text_cfg"]
    foreign = text.get("hf_tokenizer_name") or text.get("hf_model_name")
    if foreign:
        raise BaseNotSupported(f"{name} uses the tokenizer {foreign} instead of CLIP's BPE")
    if text.get("tokenizer_kwargs") or text.get("vocab_size", VOCABULARY) != VOCABULARY:
        raise BaseNotSupported(f"{name} changes CLIP's BPE tokenizer")
    if "multimodal_cfg" in config or text.get("embed_cls") or text.get("pool_type", "argmax") != "argmax":
        raise BaseNotSupported(f"the text tower of {name} does not take its features from the end-of-text token")
    if text.get("no_causal_mask"):
        raise BaseNotSupported(f"the text tower of {name} is not causal")


def device_of(name: str | None) -> torch.device:
    """The device with this name, by default a GPU if there is one; raises `BackendNotAvailable`."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # builds of torch differ
        raise BackendNotAvailable(f"torch has no device {name} on this machine", setting="DEVICE") from error
    return device


def _describe(name: str, architecture: str, model: nn.Module, device: torch.device) -> Base:
    tower: Any = getattr(model, "text", model)
    visual: Any = model.visual
    preprocess_cfg = PreprocessCfg(**visual.preprocess_cfg)
    image_part = {key: value for key, value in model.state_dict().items() if key.startswith("visual.")}
    text_part = {
        key: value
        for key, value in model.state_dict().items()
        if not key.startswith("visual.") and key not in {"logit_scale", "logit_bias"}
    }
    table = tower.token_embedding.weight.detach().clone()
    model.to(device)
    return Base(
        name=name,
        model=model,
        preprocess=image_transform_v2(preprocess_cfg, is_train=False),
        table=table,
        context_length=int(tower.context_length),
        dimension=_dimension(tower),
        image_fingerprint=_fingerprint(
            image_part, architecture + json.dumps(visual.preprocess_cfg, sort_keys=True, default=list)
        ),
        text_fingerprint=_fingerprint(text_part, architecture),
        device=device,
        text_features=partial(text_features, tower),
        picture_size=_height_and_width(visual.image_size),
    )


def _height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _dimension(tower: Any) -> int:
    projection = tower.text_projection
    if projection is None:
        return int(tower.ln_final.weight.shape[0])
    return int(projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1])


def _fingerprint(tensors: dict[str, Tensor], extra: str) -> str:
    digest = hashlib.sha256(extra.encode())
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()
