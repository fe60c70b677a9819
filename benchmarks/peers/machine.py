"""The processor, as far as it decides the figures. Measures nothing."""

import os
import platform
from pathlib import Path
from typing import Any

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8")


def describe_cpu() -> dict[str, Any]:
    """Name, cores, which wide instructions it has, what oneDNN must not use, and the load before."""
    info = Path("/proc/cpuinfo")
    facts = dict(_read_fields(info.read_text())) if info.exists() else {}
    flags = facts.get("flags", "").split()
    return {
        "name": facts.get("model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "onednn_max_cpu_isa": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _read_fields(text: str) -> list[tuple[str, str]]:
    """Return the fields of the first processor."""
    lines = [line.partition(":") for line in text.split("\n\n")[0].splitlines()]
    return [(name.strip(), value.strip()) for name, _, value in lines]
