"""What this machine can compute with, by torch's word. Imports no model: it is asked before one is opened."""

import os
from collections.abc import Mapping
from typing import Any

import torch

from store.errors import BackendNotAvailable


def device_of(name: str | None) -> torch.device:
    """The device with this name, by default a GPU if there is one; raises `BackendNotAvailable`."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # builds of torch differ
        raise BackendNotAvailable(f"torch has no device {name} on this machine", setting="DEVICE") from error
    return device


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
