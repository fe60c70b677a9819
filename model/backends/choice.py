"""Chooses the encoding of a data root and opens the base's towers for it: what both API and worker start with.

A data root has one encoding, recorded in its registry when the first process opens it. `auto` means the recorded one;
on a new root, the fastest that this machine has. Another is refused until `pictoglot reencode` has made new vectors.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from model.backends import BFLOAT16, FIRST, FLOAT32, OPENVINO, TORCH, Encoding, Towers
from model.errors import BackendFailed, BackendNotAvailable, EncodingMismatch

if TYPE_CHECKING:
    import torch

    from model.base import Base
    from model.encoder import Encoder
    from model.registry import Registry
    from model.settings import CommonSettings

AUTO = "auto"
_CACHE = "compiled"  # folder under the data root; every machine has its own


def open_encoder(settings: "CommonSettings", registry: "Registry", *, training: bool = False) -> "Encoder":
    """The base of the settings with towers in the encoding of this data root, which is recorded if it is new.

    Unless it is for training, the base's own modules are dropped. Raises what `open_base` raises, `BaseMismatch`,
    `EncodingMismatch`, `BackendNotAvailable`, `BackendFailed`.
    """
    from model.base import open_base
    from model.encoder import Encoder

    base = open_base(settings.base, settings.device or None)
    registry.initialise(base.text_fingerprint, {})
    encoding, reason = wanted(settings, base.device, recorded(registry)), ""
    try:
        towers = open_towers(base, encoding, settings)
    except BackendFailed as error:
        given = settings.backend != AUTO or settings.precision not in (AUTO, FLOAT32)
        if recorded(registry) is not None or given:
            raise
        encoding, reason = FIRST, error.detail
        towers = open_towers(base, encoding, settings)
    first = registry.encodings.first(encoding.backend, encoding.precision, reason)
    if (first.backend, first.precision) != (encoding.backend, encoding.precision):  # another process was first
        return open_encoder(settings, registry, training=training)
    return Encoder(base if training else base.without_towers(encoding.backend == OPENVINO), towers)


def recorded(registry: "Registry") -> Encoding | None:
    """The encoding of the vectors that a registry has; None of a new one."""
    current = registry.encodings.current()
    return None if current is None else Encoding(current.backend, current.precision)


def wanted(settings: "CommonSettings", device: "torch.device", recorded: Encoding | None) -> Encoding:
    """The encoding to open a data root with; raises `EncodingMismatch` or `BackendNotAvailable`."""
    encoding = fastest(settings, device) if recorded is None else agreed(settings, recorded)
    _require_installed(encoding)
    if encoding.precision == BFLOAT16 and not multiplies_bfloat16(encoding.backend, device):
        raise BackendNotAvailable(
            "bfloat16 is needed, for the setting or the vectors of this data root, but torch knows of no instructions "
            "for it on this machine",
            setting="PRECISION",
        )
    return encoding


def agreed(settings: "CommonSettings", recorded: Encoding) -> Encoding:
    """The recorded encoding; `EncodingMismatch` when the settings ask for another. Imports nothing heavy."""
    for setting, asked, have in (
        ("BACKEND", settings.backend, recorded.backend),
        ("PRECISION", settings.precision, recorded.precision),
    ):
        if asked not in (AUTO, have):
            raise EncodingMismatch(
                f"PICTOGLOT_{setting}: the vectors of this data root were made with {recorded}: set `auto`, or have "
                f"other ones made with `pictoglot reencode`"
            )
    _require_installed(recorded)
    return recorded


def _require_installed(encoding: Encoding) -> None:
    if encoding.backend == OPENVINO and not find_spec(OPENVINO):
        raise BackendNotAvailable(
            "OpenVINO is needed, for the setting or the vectors of this data root, but is not installed: "
            "pip install 'pictoglot[openvino]'",
            setting="BACKEND",
        )


def fastest(settings: "CommonSettings", device: "torch.device") -> Encoding:
    """The encoding that the settings ask for, with the fastest of this machine where they say `auto`."""
    backend: str = settings.backend
    if backend == AUTO:
        backend = OPENVINO if device.type == "cpu" and find_spec(OPENVINO) else TORCH
    precision: str = settings.precision
    if precision == AUTO:
        precision = BFLOAT16 if gains_by_bfloat16(backend, device) else FLOAT32
    return Encoding(backend, precision)


def gains_by_bfloat16(backend: str, device: "torch.device") -> bool:
    """Whether bfloat16 is clearly faster: with OpenVINO where the processor has AMX, with torch on a GPU."""
    from model.tower import allowed, cpu_has, supports_bfloat16

    if backend == OPENVINO:
        return cpu_has("amx_bf16") and allowed("AMX")
    return device.type != "cpu" and supports_bfloat16(device)


def multiplies_bfloat16(backend: str, device: "torch.device") -> bool:
    """Whether there are instructions for bfloat16; without them it is emulated, thirty times slower."""
    import torch

    from model.tower import allowed, supports_bfloat16

    if backend == OPENVINO:
        return supports_bfloat16(torch.device("cpu")) and allowed("BF16", "FP16", "AMX", "AVX10")
    return supports_bfloat16(device)


def open_towers(base: "Base", encoding: Encoding, settings: "CommonSettings") -> Towers:
    """The towers of a base in an encoding that this machine has; raises `BackendFailed`."""
    if encoding.backend == TORCH:
        from model.tower import TorchTowers

        return TorchTowers(base, encoding.precision)
    try:
        from model.backends.openvino_backend import OpenVinoTowers
    except (ImportError, OSError) as error:  # installed, but a library of the system is missing
        raise BackendFailed("OpenVINO is installed, but cannot be imported") from error
    return OpenVinoTowers(base, encoding.precision, settings.home / _CACHE, settings.threads)
