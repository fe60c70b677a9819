"""The encoding of a data root, and the base's towers for it: what both API and worker start with.

A data root has one encoding, recorded in its registry when the first process opens it. `auto` means the recorded one;
on a new root, the fastest that this machine has. Another is refused until `pictoglot base move` has made new vectors.
"""

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING

from store.bases import BFLOAT16, FIRST_ENCODING, FLOAT32, INT8, OPENVINO, TORCH, Encoding
from store.errors import BackendFailed, BackendNotAvailable, BaseMismatch, EncodingMismatch

if TYPE_CHECKING:
    import torch

    from model.base import Base
    from model.encoder import Encoder
    from model.towers import Towers
    from store.registry import Registry
    from store.settings import CommonSettings

AUTO = "auto"
_CLEARLY = 1.3  # times as fast: less is not worth what bfloat16 changes
_CACHE = "compiled"  # folder under the data root; every machine has its own
_log = logging.getLogger(__name__)


def open_encoder(settings: "CommonSettings", registry: "Registry", *, training: bool = False) -> "Encoder":
    """Open the base that serves, with towers in the encoding of this data root; both are recorded if they are new.

    Unless it is for training, the base's own modules are dropped. A refusal of the settings comes before what is slow
    to import.
    """
    known = registry.encodings.find_current()
    if known is not None:
        confirm_encoding(settings, known)
    import torch

    from model.encoder import Encoder
    from model.towers import choose_device

    encoding, reason = resolve_encoding(settings, choose_device(), known), ""
    torch.set_num_threads(settings.threads)
    base, version = open_served_base(settings, registry)
    others = [] if registry.encodings.find_current() is not None else _list_fallbacks(encoding, settings)
    while True:
        try:
            towers = open_towers(base, encoding, settings)
            break
        except BackendFailed as error:
            if not others:
                raise
            encoding, reason = others.pop(0), error.detail
    if registry.encodings.record_first(encoding.backend, encoding.precision, reason) != encoding:  # another was first
        return open_encoder(settings, registry, training=training)
    return Encoder(base if training else base.copy_without_towers(encoding.backend == OPENVINO), towers, version)


def _list_fallbacks(encoding: Encoding, settings: "CommonSettings") -> list[Encoding]:
    """List what a new data root may have instead, the nearest first; nothing where the settings ask for this one."""
    others = []
    if encoding.precision != FLOAT32 and settings.precision == AUTO:
        others.append(Encoding(encoding.backend, FLOAT32))
    if settings.backend == AUTO and settings.precision in (AUTO, FLOAT32):
        others.append(FIRST_ENCODING)
    return [other for other in others if other != encoding]


def open_served_base(settings: "CommonSettings", registry: "Registry") -> "tuple[Base, int]":
    """Open the base that serves and return it with its version; of a new registry, the one that the settings name.

    They may name the base from before a move, or another place of the checkpoint. Raises `BaseMismatch` for any other.
    """
    from model.base import open_base

    served = registry.bases.find_serving()
    if served is not None and settings.base in {base.name for base in registry.bases.list()}:
        if settings.base != served.name:
            _log_other(served.public_name, settings)
        opened = open_base(served.name)
        if not served.has_towers(opened.image_fingerprint, opened.text_fingerprint):
            raise BaseMismatch(f"The files of base {served.public_name} are others than those that serve here.")
        return opened, served.number
    opened = open_base(settings.base)
    registry.initialise(opened.text_fingerprint, settings.base, opened.image_fingerprint)
    served = registry.bases.find_serving()
    assert served is not None
    if served.has_towers(opened.image_fingerprint, opened.text_fingerprint):
        return opened, served.number
    _log_other(served.public_name, settings)
    return open_served_base(settings.model_copy(update={"base": served.name}), registry)


def _log_other(served: str, settings: "CommonSettings") -> None:
    _log.info("base %s serves, not %s, which PICTOGLOT_BASE names", served, settings.base.partition("@")[0])


def resolve_encoding(settings: "CommonSettings", device: "torch.device", recorded: Encoding | None) -> Encoding:
    """Return the encoding to open a data root with; raises `EncodingMismatch` or `BackendNotAvailable`."""
    encoding = find_fastest_encoding(settings, device) if recorded is None else confirm_encoding(settings, recorded)
    _require_installed(encoding)
    if encoding.precision == INT8 and not has_int8_instructions():
        raise BackendNotAvailable(
            "int8 is needed, for the setting or the vectors of this data root, but this machine has no VNNI",
            setting="PRECISION",
        )
    if encoding.precision == BFLOAT16 and not has_bfloat16_instructions(encoding.backend, device):
        raise BackendNotAvailable(
            "bfloat16 is needed, for the setting or the vectors of this data root, but torch knows of no instructions "
            "for it on this machine",
            setting="PRECISION",
        )
    return encoding


def choose_target_encoding(
    settings: "CommonSettings", registry: "Registry", backend: str | None, precision: str | None
) -> Encoding:
    """Return the encoding that a move asks for; None is that of now, and `auto` what is best here.

    Raises `EncodingMismatch` when the settings of this machine name another, `BackendNotAvailable` when it lacks it.
    """
    from model.towers import choose_device

    made_by, chosen = registry.encodings.find_current(), dict[str, str]()
    for name, asked in (("backend", backend), ("precision", precision)):
        setting = getattr(settings, name)
        target = asked or (getattr(made_by, name) if made_by else AUTO)
        chosen[name] = setting if target == AUTO else target
        if setting not in (AUTO, chosen[name]):
            raise EncodingMismatch(
                f"PICTOGLOT_{name.upper()} is {setting} here, and the move is to {target}: set `auto` first"
            )
    return resolve_encoding(settings.model_copy(update=chosen), choose_device(), None)


def confirm_encoding(settings: "CommonSettings", recorded: Encoding) -> Encoding:
    """Return the recorded encoding; raises `EncodingMismatch` when the settings ask for another. Imports little."""
    for setting, asked, have in (
        ("BACKEND", settings.backend, recorded.backend),
        ("PRECISION", settings.precision, recorded.precision),
    ):
        if asked not in (AUTO, have):
            raise EncodingMismatch(
                f"PICTOGLOT_{setting}: the vectors of this data root were made with {recorded}: set `auto`, or have "
                f"other ones made with `pictoglot base move`"
            )
    _require_installed(recorded)
    return recorded


def _require_installed(encoding: Encoding) -> None:
    if encoding.precision == INT8 and encoding.backend != OPENVINO:
        raise BackendNotAvailable("int8 is OpenVINO's: set the backend `openvino` with it", setting="PRECISION")
    if encoding.backend == OPENVINO and not find_spec(OPENVINO):
        raise BackendNotAvailable(
            "OpenVINO is needed, for the setting or the vectors of this data root, but is not installed: "
            "pip install 'pictoglot[openvino]'",
            setting="BACKEND",
        )


def find_fastest_encoding(settings: "CommonSettings", device: "torch.device") -> Encoding:
    """Return the encoding that the settings ask for, with the fastest of this machine where they say `auto`."""
    backend: str = settings.backend
    if backend == AUTO:
        backend = OPENVINO if device.type == "cpu" and find_spec(OPENVINO) else TORCH
    precision: str = settings.precision
    if precision == AUTO:
        precision = BFLOAT16 if is_faster_in_bfloat16(backend, device) else FLOAT32
    return Encoding(backend, precision)


def is_faster_in_bfloat16(backend: str, device: "torch.device") -> bool:
    """Return whether bfloat16 is clearly faster: with OpenVINO by AMX or by a trial, with torch on a GPU."""
    from model.towers import can_multiply_bfloat16, has_instructions, is_any_allowed

    if backend != OPENVINO:
        return device.type != "cpu" and can_multiply_bfloat16(device)
    if has_instructions("amx_bf16") and is_any_allowed("AMX"):
        return True
    # AVX-512 BF16 is twice as fast as float32 on some processors, and slower on others (decision 25)
    try:
        from model.openvino import measure_bfloat16_gain

        return has_bfloat16_instructions(backend, device) and measure_bfloat16_gain() >= _CLEARLY
    except (ImportError, OSError, RuntimeError):  # no import, or OpenVINO compiles nothing: `open_towers` says so
        return False


def has_bfloat16_instructions(backend: str, device: "torch.device") -> bool:
    """Return whether there are instructions for bfloat16; without them it is emulated, thirty times slower."""
    import torch

    from model.towers import can_multiply_bfloat16, is_any_allowed

    if backend == OPENVINO:
        return can_multiply_bfloat16(torch.device("cpu")) and is_any_allowed("BF16", "FP16", "AMX", "AVX10")
    return can_multiply_bfloat16(device)


def has_int8_instructions() -> bool:
    """Return whether there are instructions for products of bytes; without them OpenVINO computes in float32."""
    from model.towers import has_instructions, is_any_allowed

    return any(map(has_instructions, ("avx512_vnni", "avx_vnni"))) and is_any_allowed(
        "VNNI", "BF16", "FP16", "AMX", "AVX10"
    )


def open_towers(base: "Base", encoding: Encoding, settings: "CommonSettings") -> "Towers":
    """Open the towers of a base in an encoding that this machine has; raises `BackendFailed`."""
    if encoding.backend == TORCH:
        from model.towers import TorchTowers

        return TorchTowers(base, encoding.precision)
    try:
        from model.openvino import OpenVinoTowers
    except (ImportError, OSError) as error:  # installed, but a library of the system is missing
        raise BackendFailed("OpenVINO is installed, but cannot be imported") from error
    return OpenVinoTowers(base, encoding.precision, settings.home / _CACHE, settings.threads)
