"""A real open_clip model small enough for tests: two-layer towers, random weights from a seed, CLIP's tokenizer."""

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

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
