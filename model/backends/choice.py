"""Chooses the encoding of a data root and opens the base's towers for it: what both API and worker start with.

A data root has one encoding, recorded in its registry when the first process opens it. `auto` means the recorded one;
on a new root, the fastest that this machine has. Another is refused until `pictoglot reencode` has made new vectors.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from model.backends import BFLOAT16, FLOAT32, OPENVINO, TORCH, Encoding, Towers
from model.errors import BackendFailed, BackendNotAvailable, EncodingMismatch

if TYPE_CHECKING:
    from model.base import Base
    from model.encoder import Encoder
    from model.registry import Registry
    from model.settings import CommonSettings

AUTO = "auto"
_CACHE = "compiled"  # folder under the data root; every machine has its own


def open_encoder(settings: "CommonSettings", registry: "Registry") -> "Encoder":
    """The base of the settings with towers in the encoding of this data root, which is recorded if it is new.

    Raises what `open_base` raises, `BaseMismatch`, `EncodingMismatch`, `BackendNotAvailable`, `BackendFailed`.
    """
    from model.base import open_base
    from model.encoder import Encoder

    base = open_base(settings.base, settings.device or None)
    registry.initialise(base.text_fingerprint, {})
    recorded = registry.encodings.current()
    if recorded is not None:
        encoding = agreed(settings, Encoding(recorded.backend, recorded.precision))
        return Encoder(base, open_towers(base, encoding, settings))
    encoding, reason = fastest(settings, base), ""
    try:
        towers = open_towers(base, encoding, settings)
    except BackendFailed as error:
        if settings.backend != AUTO:
            raise
        encoding, reason = Encoding(TORCH, FLOAT32), error.detail
        towers = open_towers(base, encoding, settings)
    first = registry.encodings.first(encoding.backend, encoding.precision, reason)
    if Encoding(first.backend, first.precision) != encoding:  # another process was first
        return open_encoder(settings, registry)
    return Encoder(base, towers)


def agreed(settings: "CommonSettings", recorded: Encoding) -> Encoding:
    """The recorded encoding, unless the settings ask for another: then `EncodingMismatch`."""
    for setting, asked, have in (
        ("BACKEND", settings.backend, recorded.backend),
        ("PRECISION", settings.precision, recorded.precision),
    ):
        if asked not in (AUTO, have):
            raise EncodingMismatch(
                f"PICTOGLOT_{setting}: the vectors of this data root were made with {recorded}; set `auto`, or "
                f"have new ones made with `pictoglot reencode`"
            )
    return recorded


def fastest(settings: "CommonSettings", base: "Base") -> Encoding:
    """The encoding that the settings ask for, with the fastest of this machine where they say `auto`."""
    backend: str = settings.backend
    if backend == AUTO:
        backend = OPENVINO if base.device.type == "cpu" and find_spec(OPENVINO) else TORCH
    precision: str = settings.precision
    if precision == AUTO:
        precision = BFLOAT16 if bfloat16_is_fast(backend, base) else FLOAT32
    return Encoding(backend, precision)


def bfloat16_is_fast(backend: str, base: "Base") -> bool:
    """Whether this machine gains by bfloat16: with OpenVINO where the processor multiplies it, with torch on a GPU."""
    if backend == OPENVINO:
        _require_openvino()
        from model.backends.openvino_backend import multiplies_bfloat16_fast

        return multiplies_bfloat16_fast()
    from model.tower import supports_bfloat16

    return base.device.type != "cpu" and supports_bfloat16(base.device)


def open_towers(base: "Base", encoding: Encoding, settings: "CommonSettings") -> Towers:
    """The towers of a base in an encoding; raises `BackendNotAvailable` or `BackendFailed`."""
    if encoding.backend == TORCH:
        from model.tower import TorchTowers, supports_bfloat16

        if encoding.precision == BFLOAT16 and not supports_bfloat16(base.device):
            raise BackendNotAvailable(_NO_BFLOAT16, setting="PRECISION")
        return TorchTowers(base, encoding.precision)
    _require_openvino()
    from model.backends.openvino_backend import OpenVinoTowers, multiplies_bfloat16

    if encoding.precision == BFLOAT16 and not multiplies_bfloat16():
        raise BackendNotAvailable(_NO_BFLOAT16, setting="PRECISION")
    return OpenVinoTowers(base, encoding.precision, Path(settings.home) / _CACHE, settings.threads)


_NO_BFLOAT16 = "bfloat16 is asked for, but this machine does not multiply it in hardware"


def _require_openvino() -> None:
    if find_spec(OPENVINO) is None:
        raise BackendNotAvailable(
            "openvino is asked for, but not installed: pip install 'pictoglot[openvino]'", setting="BACKEND"
        )
