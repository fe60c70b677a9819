"""The towers on each backend: equal to torch, equal bits in any company, kept between starts, refused with a reason."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model import backend
from model.backend import open_encoder
from model.base import Base, open_base
from model.encoder import Encoder
from model.towers import TorchTowers
from store.bases import BFLOAT16, FIRST_ENCODING, FLOAT32, OPENVINO, TORCH, Encoding
from store.errors import BackendFailed, BackendNotAvailable, EncodingMismatch
from store.registry import Registry, open_registry
from store.settings import CommonSettings

openvino_backend = pytest.importorskip("model.openvino", reason="openvino is not installed")

TEXTS = [
    "a red apple",
    "apple",
    "two small boats on a quiet lake at night",
    "a",
    "dog and cat and bird and fish and horse and cow and hen, " * 3,
    "a green apple",
    "rain over the sea",
]
ROOT = Path(__file__).parents[2]
INT8 = "int8"
ENCODINGS = [Encoding(backend, precision) for backend in (TORCH, OPENVINO) for precision in (FLOAT32, BFLOAT16, INT8)]
ENCODINGS.remove(Encoding(TORCH, INT8))


@pytest.fixture(scope="module")
def base(tiny_base: str) -> Base:
    return open_base(tiny_base, "cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traces that tests share, which do not ask how those are made: it takes seconds."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module", params=ENCODINGS, ids=str)
def encoder(request: pytest.FixtureRequest, base: Base, cache: Path) -> Encoder:
    encoding: Encoding = request.param
    return Encoder(base, towers(base, encoding, cache))


def towers(base: Base, encoding: Encoding, cache: Path) -> Any:
    if encoding.backend == TORCH:
        return TorchTowers(base, encoding.precision)
    lacks_bfloat16 = not backend.has_bfloat16_instructions(OPENVINO, base.device)
    if {BFLOAT16: lacks_bfloat16, INT8: not backend.has_int8_instructions()}.get(encoding.precision):
        pytest.skip(f"this processor does not multiply {encoding.precision}")
    made: Any = openvino_backend.OpenVinoTowers(base, encoding.precision, cache, threads=1)
    return made


def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 255, (40, 50, 3), dtype=np.uint8)) for _ in range(5)]


# --- what is computed -------------------------------------------------------------------------------------------------


def test_every_backend_computes_the_vectors_of_torch(encoder: Encoder, base: Base) -> None:
    plain = Encoder(base)
    least, most = (0.0, 1e-5) if encoder.encoding.precision == FLOAT32 else (1e-5, 0.02)
    ours, theirs = (each.encode_texts([(each.base_view, text) for text in TEXTS]).vectors for each in (encoder, plain))
    assert least <= np.abs(ours - theirs).max() <= most
    assert np.abs(encoder.encode_pictures(pictures()) - plain.encode_pictures(pictures())).max() <= most


def test_equal_text_has_equal_bits_in_every_company(encoder: Encoder) -> None:
    """The promise of a search: whoever else is searching, the vector is the same (decision 25)."""
    view = encoder.base_view

    def encode(texts: list[str]) -> dict[str, bytes]:
        vectors = encoder.encode_texts([(view, text) for text in texts], alone=True).vectors
        return {text: vector.tobytes() for text, vector in zip(texts, vectors, strict=True)}

    alone = {text: encode([text])[text] for text in TEXTS}
    for size in (2, 3, 5, len(TEXTS)):
        for start in range(len(TEXTS)):
            company = [TEXTS[(start + step) % len(TEXTS)] for step in range(size)]
            assert encode(company) == {text: alone[text] for text in company}
    crowd = [f"{text} {number}" for number in range(12) for text in TEXTS] + TEXTS
    assert {text: bits for text, bits in encode(crowd).items() if text in alone} == alone


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny base is taken for a large one."""
    monkeypatch.setattr(openvino_backend, "_SMALL", 0)


@pytest.mark.usefixtures("large")
def test_kernels_that_depend_on_the_batch_encode_searches_one_by_one(
    base: Base, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a processor whose kernels round differently in a larger batch."""
    compiled = openvino_backend.OpenVinoTowers

    def differing(self: Any, rows: torch.Tensor, last: torch.Tensor) -> np.ndarray:
        return np.asarray(plain(self, rows, last) + np.float32(1e-6) * len(rows))

    plain = compiled.encode_texts
    monkeypatch.setattr(compiled, "encode_texts", differing)
    encoder = Encoder(base, compiled(base, FLOAT32, cache, 1))
    items = [(encoder.base_view, text) for text in TEXTS[:2]]
    together = encoder.encode_texts(items, alone=True).vectors
    assert np.array_equal(together[0], encoder.encode_texts(items[:1], alone=True).vectors[0])


def test_a_fingerprint_names_the_encoding_and_that_of_torch_in_float32_is_the_weights_own(base: Base) -> None:
    prints = {encoding.compute_fingerprint(base.image_fingerprint) for encoding in ENCODINGS}
    assert len(prints) == len(ENCODINGS)


def test_a_base_without_its_towers_still_encodes_with_compiled_ones(base: Base, cache: Path) -> None:
    compiled = towers(base, Encoding(OPENVINO, FLOAT32), cache)
    with_towers, without = Encoder(base, compiled), Encoder(base.copy_without_towers(), compiled)
    assert np.array_equal(with_towers.encode_pictures(pictures()), without.encode_pictures(pictures()))
    with pytest.raises(RuntimeError):
        without.base.compute_text_features(base.table[None, :3], torch.tensor([2]))


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_a_tower_is_traced_once_and_a_damaged_trace_is_made_again_and_logging_stays_as_it_was(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO's converter would silence every warning of this process."""
    root, traced = logging.getLogger(), list[object]()
    before = root.level, [*root.filters], [*root.handlers]
    convert = openvino_backend.openvino.convert_model

    def counted(*arguments: Any, **more: Any) -> Any:
        traced.append(0)
        return convert(*arguments, **more)

    monkeypatch.setattr(openvino_backend.openvino, "convert_model", counted)
    for starts in (2, 2, 3):
        if starts == 3:
            weights = next(tmp_path.glob("*/tower.bin"))
            weights.write_bytes(weights.read_bytes()[:-1] + b"?")
        ours, theirs = Encoder(base, towers(base, Encoding(OPENVINO, FLOAT32), tmp_path)), Encoder(base)
        assert len(traced) == starts
        np.testing.assert_allclose(ours.encode_pictures(pictures()), theirs.encode_pictures(pictures()), atol=1e-5)
    assert (root.level, root.filters, root.handlers) == before


def test_a_trace_of_float32_is_not_taken_for_bfloat16_without_comparing(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bfloat16 = Encoding(OPENVINO, BFLOAT16)
    towers(base, Encoding(OPENVINO, FLOAT32), tmp_path)
    with monkeypatch.context() as strict, pytest.raises(BackendFailed, match="bfloat16 changes the features"):
        strict.setattr(openvino_backend, "_NEAR", 1 - 1e-6)  # so near is no bfloat16
        towers(base, bfloat16, tmp_path)
    towers(base, bfloat16, tmp_path)
    monkeypatch.setattr(openvino_backend, "_trace", lambda tower: pytest.fail("is compared already"))
    for precision in (BFLOAT16, FLOAT32):
        towers(base, Encoding(OPENVINO, precision), tmp_path)


def test_without_space_a_tower_is_compiled_and_not_kept(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("no space left on device")

    monkeypatch.setattr(openvino_backend.openvino, "save_model", full)
    towers(base, Encoding(OPENVINO, FLOAT32), tmp_path)
    assert "cannot be kept" in caplog.text and not list(tmp_path.glob("*"))


# --- which encoding ---------------------------------------------------------------------------------------------------


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    opened = open_registry(f"sqlite:///{tmp_path / 'registry.db'}")
    yield opened
    opened.close()


Opening = Callable[..., Encoder]


@pytest.fixture
def opening(tmp_path: Path, tiny_base: str, cache: Path, registry: Registry) -> Opening:
    """Open the base of a data root, whose towers nobody has traced yet if it is `bare`."""

    def open_one(*, bare: bool = False, **more: str) -> Encoder:
        if not (bare or (tmp_path / "compiled").exists()):
            (tmp_path / "compiled").symlink_to(cache)
        given = {"backend": "auto", **more}  # whatever the environment says
        return open_encoder(CommonSettings(home=tmp_path, base=tiny_base, **given), registry)  # type: ignore[arg-type]

    return open_one


def test_a_new_data_root_records_its_encoding_and_auto_keeps_it(opening: Opening, registry: Registry) -> None:
    made = opening().encoding
    assert made.backend == OPENVINO
    recorded = registry.encodings.find_current()
    assert recorded is not None and Encoding(recorded.backend, recorded.precision) == made and recorded.reason == ""
    assert opening().encoding == made


def test_an_old_data_root_stays_with_torch_under_auto(opening: Opening, registry: Registry) -> None:
    registry.encodings.record_first(TORCH, FLOAT32)
    assert opening().encoding == FIRST_ENCODING


@pytest.mark.parametrize(("setting", "value"), [("backend", TORCH), ("precision", BFLOAT16)])
def test_another_encoding_than_the_data_roots_is_refused(
    opening: Opening, registry: Registry, setting: str, value: str
) -> None:
    registry.encodings.record_first(OPENVINO, FLOAT32)
    with pytest.raises(EncodingMismatch, match=f"PICTOGLOT_{setting.upper()}.*pictoglot base move"):
        opening(**{setting: value})


def test_a_compile_that_fails_falls_back_to_torch_and_is_not_tried_again(
    opening: Opening, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []

    def fail(*_: object, **__: object) -> None:
        tried.append(0)
        raise RuntimeError("an operation that is not supported")

    monkeypatch.setattr(openvino_backend.openvino, "convert_model", fail)
    assert opening(bare=True).encoding == FIRST_ENCODING
    first = len(tried)
    assert opening(bare=True).encoding == FIRST_ENCODING
    recorded = registry.encodings.find_current()
    assert len(tried) == first in (1, 2) and recorded is not None and "OpenVINO" in recorded.reason


def test_a_compile_that_was_asked_for_and_fails_is_refused(
    opening: Opening, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_backend.openvino, "save_model", lambda *_, **__: 1)
    monkeypatch.setattr(openvino_backend, "compute_text_features", lambda tower, rows, last: rows.no_such_operation())
    with pytest.raises(BackendFailed):
        opening(bare=True, backend=OPENVINO)
    assert registry.encodings.find_current() is None


def test_a_precision_that_the_processor_lacks_is_refused(
    opening: Opening, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    for by, precision, why in ((OPENVINO, BFLOAT16, "bfloat16"), (OPENVINO, INT8, "VNNI"), (TORCH, INT8, "OpenVINO's")):
        with pytest.raises(BackendNotAvailable, match=why) as refused:
            opening(backend=by, precision=precision)
        assert refused.value.setting == "PRECISION" and registry.encodings.find_current() is None


def test_bfloat16_is_for_processors_that_multiply_it_fast(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers() -> tuple[bool, bool]:
        asked = OPENVINO, base.device
        return backend.is_faster_in_bfloat16(*asked), backend.has_bfloat16_instructions(*asked)

    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    gains = [1.29]
    monkeypatch.setattr(openvino_backend, "measure_bfloat16_gain", lambda: gains[0])
    avx512, amx = {"avx512_bf16": True}, {"avx512_bf16": True, "amx_bf16": True}
    for flags, expected in ((amx, (True, True)), (avx512, (False, True)), ({}, (False, False))):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags)
        assert answers() == expected
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: amx)
    allowed = {"AVX512_CORE": (False, False), "AVX512_CORE_BF16": (False, True), "ALL": (True, True)}
    for limit, expected in allowed.items():
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        assert answers() == expected
    gains[0] = 1.31  # the trial is only asked where there are instructions and no AMX
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert answers() == (False, False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert answers() == (True, True)


def test_nothing_is_reported_to_anybody_and_the_trial_finds_emulated_bfloat16_slow() -> None:
    """In a process of its own: the library reads the limit once."""
    program = (
        "import sys; from model.openvino import measure_bfloat16_gain as gain; "
        "sys.exit(gain(3) > 0.9 or any(name.startswith('openvino_telemetry.') for name in sys.modules))"
    )
    limited = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
    assert subprocess.run([sys.executable, "-c", program], env=limited, cwd=ROOT).returncode == 0


def test_a_base_that_bfloat16_changes_too_much_is_computed_in_float32(
    base: Base, opening: Opening, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not backend.has_bfloat16_instructions(OPENVINO, base.device):
        pytest.skip("this processor does not multiply bfloat16")
    monkeypatch.setattr(backend, "is_faster_in_bfloat16", lambda *_: True)
    monkeypatch.setattr(openvino_backend, "_NEAR", 1 - 1e-6)  # so near is no bfloat16
    assert opening(bare=True).encoding == Encoding(OPENVINO, FLOAT32)
    current = registry.encodings.find_current()
    assert current is not None and current.reason.startswith("bfloat16 changes the features")


def test_without_openvino_a_new_data_root_is_torchs_and_asking_for_it_is_refused(
    opening: Opening, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    with pytest.raises(BackendNotAvailable, match="not installed"):
        opening(backend=OPENVINO)
    assert opening().encoding == FIRST_ENCODING


def test_of_two_first_starts_both_take_what_was_recorded_first(
    opening: Opening, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(*arguments: Any) -> Any:
        registry.encodings.record_first(TORCH, FLOAT32)  # another process, while this one compiles
        return opened(*arguments)

    opened = backend.open_towers
    monkeypatch.setattr(backend, "open_towers", overtaken)
    assert opening().encoding == FIRST_ENCODING
