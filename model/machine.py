"""What this machine can compute with, by torch's word. Imports no model: it is asked before one is opened."""

import os
from collections.abc import Mapping
from typing import Any

import torch


def default_device() -> torch.device:
    """Return a GPU if there is one; `CUDA_VISIBLE_DEVICES` chooses among several, and hides all when it is empty."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def supports_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 in hardware: then a training step is faster in it, elsewhere far slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    return cpu_has("avx512_bf16") or cpu_has("amx_bf16")


def cpu_has(instructions: str) -> bool:
    """Whether this processor has them, by torch's name."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases of torch lack it
    return bool(capabilities.get(instructions))


def allowed(*instructions: str) -> bool:
    """Whether oneDNN, which torch and OpenVINO call, may use one of these: its own variable can rule them out."""
    most = os.environ.get("ONEDNN_MAX_CPU_ISA", "DEFAULT").upper()
    return most in ("DEFAULT", "ALL") or any(name in most for name in instructions)
