"""One set of random ViT-B/32 weights in two formats: open_clip's, and a model folder of transformers. Loads no peer."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.peers.home import ARCHITECTURE
from model.tokenizer import BEGIN, END, build_clip_vocabulary, read_clip_merges

_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_NAMES = {
    "logit_scale": "logit_scale",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",  # spelled so in transformers
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_PROJECTIONS = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}
_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"


def draw_weights(architecture: str = ARCHITECTURE, seed: int = 0) -> dict[str, Tensor]:
    """Return the weights with which open_clip begins a training of this architecture."""
    torch.manual_seed(seed)
    logging.disable(logging.WARNING)  # open_clip warns that the weights are random: they shall be
    try:
        model = open_clip.create_model(architecture)
    finally:
        logging.disable(logging.NOTSET)
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


def convert_for_transformers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the numbers under the names of transformers' `CLIPModel`."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if ".resblocks." in name or name.startswith("transformer.resblocks."):
            renamed.update(_block(name, tensor))
        elif name in _PROJECTIONS:
            renamed[_PROJECTIONS[name]] = tensor.T.contiguous()
        else:
            renamed[_NAMES[name]] = tensor
    return renamed


def _block(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield one tensor of a layer; open_clip keeps query, key and value in one, transformers in three."""
    tower, _, rest = name.partition("transformer.resblocks.")
    number, _, part = rest.partition(".")
    place = f"{'vision_model' if tower else 'text_model'}.encoder.layers.{number}"
    if part.startswith("attn.in_proj_"):
        kind = part.removeprefix("attn.in_proj_")
        for letter, third in zip("qkv", tensor.chunk(3), strict=True):
            yield f"{place}.self_attn.{letter}_proj.{kind}", third.contiguous()
    else:
        inner, _, kind = part.rpartition(".")
        yield f"{place}.{_BLOCK[inner]}.{kind}", tensor


def write(checkpoint: Path, folder: Path, architecture: str = ARCHITECTURE) -> None:
    """Write the checkpoint for open_clip, and the folder for transformers."""
    weights = draw_weights(architecture)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(convert_for_transformers(weights), folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in _describe_models(open_clip.get_model_config(architecture)).items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *map(" ".join, read_clip_merges()), ""]), encoding="utf-8"
    )


def _describe_models(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the JSON files beside the weights."""
    text, vision = config["text_cfg"], config["vision_cfg"]
    both = {"hidden_act": "gelu", "projection_dim": config["embed_dim"]}  # transformers' own default is quick_gelu
    text_config = both | _describe_tower(text, text["heads"]) | {"vocab_size": text["vocab_size"], "eos_token_id": END}
    text_config |= {"max_position_embeddings": text["context_length"], "bos_token_id": BEGIN, "pad_token_id": END}
    vision_config = both | _describe_tower(vision, vision["width"] // vision.get("head_width", 64))
    vision_config |= {"image_size": vision["image_size"], "patch_size": vision["patch_size"]}
    size = vision["image_size"]
    return {
        "config.json": {
            "model_type": "clip",
            "architectures": ["CLIPModel"],
            "projection_dim": config["embed_dim"],
            "text_config": {"model_type": "clip_text_model", **text_config},
            "vision_config": {"model_type": "clip_vision_model", **vision_config},
            "torch_dtype": "float32",
        },
        "preprocessor_config.json": {
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": size},
            "resample": 3,  # bicubic
            "do_center_crop": True,
            "crop_size": {"height": size, "width": size},
            "do_normalize": True,
            "image_mean": list(open_clip.OPENAI_DATASET_MEAN),
            "image_std": list(open_clip.OPENAI_DATASET_STD),
            "do_convert_rgb": True,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": text["context_length"],
            **{"bos_token": _BEGIN, "eos_token": _END, "unk_token": _END, "pad_token": _END},
        },
        "vocab.json": {**build_clip_vocabulary(), _BEGIN: BEGIN, _END: END},
    }


def _describe_tower(config: dict[str, Any], heads: int) -> dict[str, int]:
    width, layers = config["width"], config["layers"]
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }
