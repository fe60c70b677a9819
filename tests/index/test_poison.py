"""K11: a pickle that runs code when it is read, put in each place where tensors, ids and tokens are: refused, not run.

The manifests are written anew, so that no hash keeps the readers from the file. Hints of Celery: tests/worker.
"""

import gzip
import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from index import segment
from model import checkpoint
from model.base import open_base
from model.checkpoint import TokenRows, VersionContent
from store import files
from store.data_root import DataRoot
from store.errors import BaseNotFound, BaseNotSupported, IndexUnavailable, PictoglotError
from tests.index.conftest import PICTURES, names, numbered_rows, stored
from tests.tiny import write_tiny_base

pytestmark = pytest.mark.row("K11")
FORMS = ("pickle", "torch", "numpy", "gzip")


def poison(marker: Path, form: str) -> bytes:
    """Bytes that make the folder `marker` when they are unpickled; also in a file of torch or NumPy, or compressed."""
    pickled = f"cos\nmkdir\n(V{marker}\ntR.".encode()
    sink = io.BytesIO()
    if form == "torch":
        with zipfile.ZipFile(sink, "w") as archive:
            for name, data in (("data.pkl", pickled), ("version", b"3\n"), ("byteorder", b"little")):
                archive.writestr(f"archive/{name}", data)
    elif form == "numpy":
        np.lib.format.write_array_header_1_0(sink, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        sink.write(pickled)
    else:
        sink.write(gzip.compress(pickled) if form == "gzip" else pickled)
    return sink.getvalue()


def put(folder: Path, file: str, data: bytes) -> str:
    """Put the data in place of a file, and name it in the folder's manifest; returns the manifest's SHA-256."""
    fields = json.loads((folder / files.MANIFEST).read_bytes())
    (folder / file).write_bytes(data)
    return files.write_manifest(folder, {name: value for name, value in fields.items() if name != "files"})


def test_what_is_put_there_runs_when_it_is_unpickled(tmp_path: Path) -> None:
    """The precondition of the tests below."""
    marker, file = tmp_path / "executed", tmp_path / "file"
    file.write_bytes(poison(marker, "pickle"))
    subprocess.run([sys.executable, "-m", "pickle", str(file)], check=True, capture_output=True)
    assert marker.exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("file", [checkpoint.ROWS, checkpoint.TOKENIZER, checkpoint.NGRAMS])
def test_rows_and_tokenizer_of_a_version(tmp_path: Path, file: str, form: str) -> None:
    marker, folder = tmp_path / "executed", tmp_path / "version"
    rows = TokenRows(np.array([3], dtype=np.int64), torch.ones(1, 4))
    checkpoint.write_version(folder, VersionContent((), (), rows, "0" * 64), {})
    assert checkpoint.read_version(folder)
    manifest = put(folder, file, poison(marker, form))
    with pytest.raises(PictoglotError):
        checkpoint.read_version(folder, manifest)
    assert not marker.exists()


@pytest.mark.parametrize("form", FORMS)
def test_the_optimizers_state_and_what_is_kept(tmp_path: Path, form: str) -> None:
    marker = tmp_path / "executed"
    checkpoint.save_step(tmp_path / "steps", 5, {"moments": torch.ones(2)}, {"corpus": "x"})
    checkpoint.save_result(tmp_path / "kept", "key", checkpoint.CachedResult({"features": torch.ones(2)}))
    assert checkpoint.load_newest(tmp_path / "steps", {"corpus": "x"})
    assert checkpoint.load_result(tmp_path / "kept", "key")
    put(tmp_path / "steps" / "step-5", "state.safetensors", poison(marker, form))
    put(tmp_path / "kept", "kept.safetensors", poison(marker, form))
    assert checkpoint.load_newest(tmp_path / "steps", {"corpus": "x"}) is None
    assert checkpoint.load_result(tmp_path / "kept", "key") is None
    assert not marker.exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("file", ["rows.safetensors", "index.faiss"])
def test_ids_and_vectors_of_a_segment(tmp_path: Path, root: DataRoot, file: str, form: str) -> None:
    marker = tmp_path / "executed"
    written = segment.write(root, PICTURES, numbered_rows(stored(120), names(120), 1_000))
    manifest = put(root.locate(f"segments/{written.id}"), file, poison(marker, form))
    with pytest.raises((PictoglotError, IndexUnavailable)):
        segment.read(root, replace(written, manifest_sha256=manifest), PICTURES)
    assert not marker.exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", ["safetensors", "pt", "bin"])
def test_weights_of_a_base(tmp_path: Path, suffix: str, form: str) -> None:
    marker = tmp_path / "executed"
    name, _, weights = write_tiny_base(tmp_path).partition("@")
    file = Path(weights).with_suffix(f".{suffix}")
    file.write_bytes(poison(marker, form))
    with pytest.raises(BaseNotFound if suffix == "safetensors" else BaseNotSupported):
        open_base(f"{name}@{file}", "cpu")
    assert not marker.exists()
