"""Real parts small enough for tests: an open_clip model of two-layer towers with weights from a seed; a detector."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

from model.detection import Detector, count

NAME = "pictoglot-tiny"
CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def write_tiny_base(folder: Path, seed: int = 0) -> str:
    """Write configuration and weights under `folder`; returns the spec for `open_base` (or `PICTOGLOT_BASE`)."""
    config, weights = folder / f"{NAME}.json", folder / f"{NAME}.safetensors"
    config.write_text(json.dumps(CONFIG))
    open_clip.add_model_config(config)
    torch.manual_seed(seed)
    model = open_clip.create_model(NAME)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    return f"{NAME}@{weights}"


def counted(captions: Mapping[str, Sequence[str]]) -> Detector:
    """A detector of each language's captions."""
    detector = Detector()
    for language, texts in captions.items():
        detector = detector.with_counts(language, count(texts))
    return detector
