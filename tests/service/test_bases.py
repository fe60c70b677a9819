"""A base that cannot be opened ends the start: status 78, one sentence that names the setting, nothing written."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.groups import GROUPS, write_base
from tests.service.processes import run_module


def other_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["vocab"] += [[f"piece {number}", -9.0] for number in range(9_000)]
    path.write_text(json.dumps(content), encoding="utf-8")


def other_architecture(folder: Path) -> None:
    path = folder / "base.safetensors"
    weights = load_file(path)
    del weights["text.ln_final.weight"]
    save_file(weights, path)


def other_tower(folder: Path) -> None:
    path = folder / f"{GROUPS['siglip']}-small.json"
    config = json.loads(path.read_text())
    config["text_cfg"]["hf_model_name"] = "xlm-roberta-base"
    path.write_text(json.dumps(config))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_tokenizer, "tokens, but the base's table has"),
        pytest.param(other_architecture, "its weights have other names or sizes", marks=pytest.mark.nightly),
        pytest.param(other_tower, "xlm-roberta-base of the package transformers", marks=pytest.mark.nightly),
    ],
)
def test_a_base_that_does_not_fit_ends_the_start(tmp_path: Path, change: object, said: str) -> None:
    spec = write_base(tmp_path / "base", GROUPS["siglip"])
    assert callable(change)
    change(tmp_path / "base")
    status, _, errors = run_module("service", tmp_path / "home", BASE=spec)
    assert status == 78
    (line,) = errors.splitlines()
    assert line.startswith("PICTOGLOT_BASE: ") and said in line and str(tmp_path) not in line
