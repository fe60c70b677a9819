"""What a training of a bundled base resumes from, and its weights in the end; each file is replaced in one step."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write all that a resume needs into one file; random numbers depend only on the step."""
    tensors = {f"model/{key}": value for key, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in state.items()}
    _replace(tensors, path, {"step": str(step)})


def resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load model and optimizer, if the file is there; returns the number of steps done."""
    if not path.is_file():
        return 0
    tensors = load_file(path)
    model.load_state_dict({key[6:]: value for key, value in tensors.items() if key.startswith("model/")})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            # The fused step needs moments in the memory format of their parameters (channels last).
            like = torch.empty_like(parameters[int(index)]) if value.ndim else value
            state.setdefault(int(index), {})[name] = like.copy_(value)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])


def export(model: nn.Module, out: Path) -> None:
    """Write the weights as open_clip loads them, converted to fp16."""
    weights = {key: v.half() if v.is_floating_point() else v for key, v in model.state_dict().items()}
    _replace(weights, out, {"format": "pt"})


def _replace(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    new = path.with_suffix(".new")
    save_file({key: value.contiguous() for key, value in tensors.items()}, new, metadata)
    new.chmod(0o644)
    new.replace(path)
