"""The towers compiled by OpenVINO for this processor: several times faster than torch on a CPU. Needs the extra.

A tower is traced once and kept under the data root, with its weights; every later start only compiles that. Rows of the
token table are looked up by us and go in as they are, so one compiled text tower reads every language.
"""

import logging
import sys
import time
import warnings
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.base import Base
from model.towers import Features, compute_text_features, copy_without_table
from store import files
from store.bases import BFLOAT16, FLOAT32, INT8, OPENVINO, Encoding
from store.errors import BackendFailed, CorruptFolder

# OpenVINO reports every import to its makers if this package is there. We report nothing to anybody.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402
from openvino.tools.ovc.error import Error  # noqa: E402

_LENGTHS = (4, 8, 16, 24, 32, 48, 64)  # a text is filled up to the next of these, or to the context
_MOST = 32  # texts or pictures of one call: larger batches are no faster
_MOST_FILLED = 8  # texts of one call where each is filled up to the context
# Weights of a text tower, up to which getting ready for another shape takes as long as a text itself (decision 25):
# searches are read one at a time, and none is filled up to less than this
_SMALL, _LEAST_OF_SMALL = 8_000_000, 16
_HINTS = {FLOAT32: "f32", BFLOAT16: "bf16", INT8: "f32"}
_GROUP = 64  # inputs of a layer that share one scale in int8
_TRACE = 1  # to be raised when what is traced computes something else
_EQUAL = 0.999  # cosine between torch's features and ours in float32: less, and the trace computes something else
# The same in bfloat16 and int8: transformers have 0.9999, convolutions 0.99, and find as much (decision 25)
_NEAR = 0.98
_log = logging.getLogger(__name__)


class OpenVinoTowers:
    """Both towers of a base, compiled. Keeps nothing of the base's own modules."""

    def __init__(self, base: Base, precision: str, cache: Path, threads: int) -> None:
        """Compile, or read traced towers from the folder `cache`; raises `BackendFailed` when OpenVINO cannot."""
        self.encoding = Encoding(OPENVINO, precision)
        context, filled = base.reading.context, base.reading.pad is not None
        self._most = _MOST_FILLED if filled else _MOST
        try:
            text = _TextTower(base)
            least = _LEAST_OF_SMALL if text.is_small else 0
            self._lengths = (*(length for length in _LENGTHS if least <= length < context and not filled), context)
            self._text = _open_compiled(text, precision, cache, threads)
            self._image = _open_compiled(_ImageTower(base), precision, cache, threads)
            self.independent = not text.is_small and self._measure_independence(base.table)
        except RuntimeError as error:
            raise BackendFailed("OpenVINO cannot compile the towers of this base") from error

    def make_batches(self, lengths: Sequence[int], most: int) -> Iterator[tuple[list[int], int]]:
        """Batch only texts of one shape together, since filling up further changes the last bits."""
        by_shape: dict[int, list[int]] = {}
        for place, length in enumerate(lengths):
            by_shape.setdefault(self._lengths[bisect_left(self._lengths, length)], []).append(place)
        size = min(most, self._most)
        for shape, places in sorted(by_shape.items()):
            for start in range(0, len(places), size):
                yield places[start : start + size], shape

    def encode_texts(self, rows: Tensor, last: Tensor) -> Features:
        return self._text(rows, last)

    def encode_pictures(self, pixels: Tensor) -> Features:
        return np.concatenate([self._image(part) for part in torch.split(pixels, _MOST)])

    def _measure_independence(self, table: Tensor) -> bool:
        """Try whether this machine's kernels give a text the same bits alone and in batches."""
        length, most = self._lengths[0], self._most
        rows = _take_rows(table, most * length).view(most, length, -1)
        last = torch.full((most,), length - 1)
        alone = np.concatenate([self.encode_texts(rows[place : place + 1], last[:1]) for place in range(most)])
        return all(
            np.array_equal(self.encode_texts(rows[:size], last[:size]), alone[:size])
            for size in sorted({2, 3, 8, most})
        )


def measure_bfloat16_gain(rounds: int = 9) -> float:
    """Measure how many times as fast as float32 this processor multiplies matrices of a tower, on one thread.

    The shortest of several in turn, a tenth of a second in all, in time of the processor: who else uses it must not
    decide for a data root. Where bfloat16 would be emulated, it takes ten times as long and is far below one.
    """
    rows, columns = 200, 1_024  # four pictures of a ViT-B/32
    parameter = openvino.opset13.parameter([rows, columns], np.float32)
    by = openvino.opset13.constant(np.full((columns, columns), 0.01, np.float32))
    product = openvino.Model([openvino.opset13.matmul(parameter, by, False, True)], [parameter])
    products = {precision: _CompiledTower(product, precision, 1) for precision in (FLOAT32, BFLOAT16)}
    pixels, seconds = torch.ones(rows, columns), {precision: list[float]() for precision in products}
    for _ in range(rounds):
        for precision, multiply in products.items():
            began = time.process_time()
            multiply(pixels)
            seconds[precision].append(time.process_time() - began)
    return min(seconds[FLOAT32]) / min(seconds[BFLOAT16])


class _CompiledTower:
    """One tower, compiled for this processor; thread-safe, one batch at a time."""

    def __init__(self, traced: openvino.Model, precision: str, threads: int) -> None:
        hints = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        if precision == INT8:
            traced, hints["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = _round_weights(traced), _GROUP
        self._request = openvino.Core().compile_model(traced, "CPU", hints).create_infer_request()
        self._lock = Lock()

    def __call__(self, *inputs: Tensor) -> Features:
        tensors = [openvino.Tensor(each.cpu().contiguous().numpy(), shared_memory=True) for each in inputs]
        with self._lock:
            for place, tensor in enumerate(tensors):
                self._request.set_input_tensor(place, tensor)
            self._request.infer()  # of the tensors that are set: naming them in the call takes as long as a small tower
            features: Features = self._request.get_output_tensor(0).data.copy()  # its memory is used again
        return features


class _TextTower(nn.Module):
    """A text tower as OpenVINO traces it: from token rows and the places to read off to features."""

    def __init__(self, base: Base) -> None:
        super().__init__()
        self.fingerprint = base.text_fingerprint
        width, context = base.table.shape[1], base.reading.context
        filled = base.reading.pad is not None
        lengths = (context, context) if filled else (9, 16)
        self.example = (_take_rows(base.table, 2 * lengths[0]).view(2, lengths[0], width), torch.tensor([3, 8]))
        self.other = (_take_rows(base.table, 3 * lengths[1], 100).view(3, lengths[1], width), torch.tensor([5, 9, 15]))
        self.shapes = ([-1, context if filled else -1, width], [-1])
        self._tower = getattr(_move_to_cpu(base), "text", _move_to_cpu(base))
        others = ("visual.", "token_embedding.")
        weights = [each for name, each in self._tower.named_parameters() if not name.startswith(others)]
        self.is_small = sum(map(Tensor.numel, weights)) <= _SMALL

    def forward(self, rows: Tensor, last: Tensor) -> Tensor:
        return compute_text_features(self._tower, rows, last)


class _ImageTower(nn.Module):
    """An image tower as OpenVINO traces it: from pixels to features."""

    def __init__(self, base: Base) -> None:
        super().__init__()
        self.fingerprint = base.image_fingerprint
        pixels = torch.linspace(-1.5, 1.5, 5 * 3 * base.picture_size[0] * base.picture_size[1])
        pixels = pixels.view(5, 3, *base.picture_size)
        self.example, self.other = (pixels[:2],), (pixels[2:],)
        self.shapes = ([-1, 3, *base.picture_size],)
        self._tower: Any = _move_to_cpu(base).visual

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self._tower(pixels)
        return features


def _take_rows(table: Tensor, count: int, start: int = 0) -> Tensor:
    """Return rows (count, width) of a base's table from `start` on, in float32; round and round in a small one."""
    return table[torch.arange(start, start + count) % len(table)].float()


def _move_to_cpu(base: Base) -> nn.Module:
    return base.model if base.device.type == "cpu" else copy_without_table(base.model).cpu()


def _open_compiled(tower: _TextTower | _ImageTower, precision: str, cache: Path, threads: int) -> _CompiledTower:
    """Open the tower from `cache` if it is whole and was compared in this precision, else trace and keep it."""
    folder = cache / f"{tower.fingerprint[:16]}-{openvino.__version__.split('-')[0]}-{_TRACE}"
    with suppress(CorruptFolder, OSError):
        if precision in files.verify(folder).get("compared", [FLOAT32]):
            return _CompiledTower(openvino.Core().read_model(folder / "tower.xml"), precision, threads)
    model = _trace(tower)
    compiled = _CompiledTower(model, FLOAT32, threads)
    _require_near(compiled, tower, _EQUAL, "OpenVINO computes other features for this base than torch")
    if precision != FLOAT32:
        compiled = _CompiledTower(model, precision, threads)
        _require_near(compiled, tower, _NEAR, f"{precision} changes the features of this base too much")
    for old in cache.glob(f"{tower.fingerprint[:16]}-*"):  # damaged, of another release, or compared in float32 only
        files.remove(old)
    try:
        with files.stage(folder) as staged:
            openvino.save_model(model, staged / "tower.xml", compress_to_fp16=False)
            compared = sorted({FLOAT32, precision})
            files.write_manifest(staged, {"tower": tower.fingerprint, "compared": compared})
    except (OSError, RuntimeError):
        _log.warning("a compiled tower cannot be kept; the next start makes it again")
    return compiled


def _round_weights(traced: openvino.Model) -> openvino.Model:
    """Return a copy with the weights of its linear layers in 8 bits, each output with a scale of its own.

    OpenVINO then quantizes their inputs, too, while it computes. The same by NNCF would bring fifteen packages.
    """
    model = traced.clone()
    for layer in model.get_ordered_ops():
        if layer.get_type_name() != "MatMul" or layer.input_value(1).get_node().get_type_name() != "Constant":
            continue
        how = layer.get_attributes()
        weights = layer.input_value(1).get_node().data
        if weights.ndim != 2:
            continue
        rows = weights if how["transpose_b"] else weights.T
        scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / np.float32(127)
        small = openvino.opset13.convert(openvino.opset13.constant(np.rint(rows / scales).astype(np.int8)), np.float32)
        restored = openvino.opset13.multiply(small, openvino.opset13.constant(scales))
        product = openvino.opset13.matmul(layer.input_value(0), restored, how["transpose_a"], True)
        layer.output(0).replace(product.output(0))
    return model


@torch.inference_mode()
def _require_near(compiled: _CompiledTower, tower: _TextTower | _ImageTower, least: float, otherwise: str) -> None:
    """Compare with torch on inputs of another size than the one example that a trace sees."""
    expected, got = tower(*tower.other), torch.from_numpy(compiled(*tower.other))
    if nn.functional.cosine_similarity(expected, got).min() < least:
        raise BackendFailed(otherwise)


@contextmanager
def _keep_logging() -> Iterator[None]:
    """Take back what OpenVINO's converter does to the root logger: its level is ERROR then, with a filter."""
    root = logging.getLogger()
    level, filters, handlers = root.level, [*root.filters], [*root.handlers]
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters[:], root.handlers[:] = filters, handlers


def _trace(tower: _TextTower | _ImageTower) -> openvino.Model:
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused attention is an operation of torch's own
    try:
        with torch.no_grad(), _keep_logging(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of what it cannot see while tracing
            shapes = [openvino.PartialShape(shape) for shape in tower.shapes]
            return openvino.convert_model(tower.eval(), example_input=tower.example, input=shapes)
    except (AttributeError, RuntimeError, TypeError, ValueError, Error) as error:
        raise BackendFailed("OpenVINO cannot trace the towers of this base") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
