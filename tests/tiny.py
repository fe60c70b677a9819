"""Real parts small enough for tests: an open_clip model of two-layer towers with weights from a seed; a detector."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

from model.lexicon import Detector, count_ngrams

NAME = "pictoglot-tiny"
CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def write_tiny_base(
    folder: Path, seed: int = 0, languages: Sequence[str] = (), name: str = NAME, dimension: int = 32
) -> str:
    """Write configuration and weights under `folder`; returns the spec for `open_base` (or `PICTOGLOT_BASE`).

    It declares that it reads `languages` untaught, whatever its weights are. One of another dimension needs a name of
    its own.
    """
    config, weights = folder / f"{name}.json", folder / f"{name}.safetensors"
    config.write_text(json.dumps(CONFIG | {"embed_dim": dimension}))
    if languages:
        (folder / "open_clip_config.json").write_text(json.dumps({"languages": [*languages]}))
    open_clip.add_model_config(config)
    torch.manual_seed(seed)
    model = open_clip.create_model(name)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    return f"{name}@{weights}"


def make_detector(captions: Mapping[str, Sequence[str]]) -> Detector:
    detector = Detector()
    for language, texts in captions.items():
        detector = detector.replace_counts(language, count_ngrams(texts))
    return detector
