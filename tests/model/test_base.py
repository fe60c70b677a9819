"""Opening a base: true-shaped checkpoints by name, and refusals that name the reason."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from model.base import Base, open_base
from model.encoder import Encoder
from model.errors import BackendNotAvailable, BaseNotFound, BaseNotSupported
from tests.tiny import CONFIG, NAME, write_tiny_base


@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-B-32"])
def test_a_real_architecture_opens_from_a_local_checkpoint(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = open_clip.create_model(name)
    weights = {key: tensor.contiguous().half() for key, tensor in model.state_dict().items()}
    save_file(weights, tmp_path / "checkpoint.safetensors")
    base = open_base(f"{name}@{tmp_path / 'checkpoint.safetensors'}")
    assert (base.dimension, base.context_length, tuple(base.table.shape)) == (512, 77, (49408, 512))
    encoder = Encoder(base)
    assert encoder.pictures([Image.new("RGB", (300, 200), "red")]).shape == (1, 512)
    tokens = open_clip.get_tokenizer(name)(["a red apple"])
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(base.model.encode_text(tokens), dim=-1).numpy()  # type: ignore[operator]
    assert np.allclose(encoder.texts([(encoder.base_view, "a red apple")]).vectors, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("ViT-B-16-SigLIP/webli", "tokenizer"),
        ("xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", "tokenizer"),
        ("coca_ViT-B-32/laion2b_s13b_b90k", "end-of-text"),
        ("ViT-B-16@weights.pt", "safetensors"),
        ("hf-hub:somebody/something", "not supported"),
        ("local-dir:/somewhere", "not supported"),
    ],
)
def test_what_cannot_learn_languages_is_refused_by_name(spec: str, reason: str) -> None:
    with pytest.raises(BaseNotSupported, match=reason):
        open_base(spec)


@pytest.mark.parametrize(
    "spec", ["no-such-model/openai", "ViT-B-16/nobody", "ViT-B-16", "ViT-B-16@/not/there.safetensors"]
)
def test_what_does_not_exist_is_said_so(spec: str) -> None:
    with pytest.raises(BaseNotFound):
        open_base(spec)


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_said_so(device: str, tmp_path: Path) -> None:
    with pytest.raises(BackendNotAvailable, match=f"no device {device}"):
        open_base(write_tiny_base(tmp_path), device)


def test_an_architecture_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    spec = write_tiny_base(tmp_path)
    config = tmp_path / f"{NAME}.json"
    config.write_text("{")
    with pytest.raises(BaseNotFound, match=f"{NAME}.json beside the checkpoint"):
        open_base(spec)
    config.write_text(json.dumps(CONFIG))  # which open_clip goes on reading, since the tiny base was made of it


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    write_tiny_base(tmp_path)
    with pytest.raises(BaseNotFound, match="cannot be loaded"):
        open_base(f"ViT-B-32@{tmp_path / NAME}.safetensors")


def test_the_activation_follows_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI's weights need QuickGELU under the plain name too; open_clip itself is called, without the download."""
    passed: dict[str, object] = {}

    def refuse(name: str, **given: object) -> None:
        passed.update(given)
        raise RuntimeError

    monkeypatch.setattr(open_clip, "create_model", refuse)
    for tag, expected in (("openai", True), ("laion2b_s34b_b88k", False)):
        with pytest.raises(BaseNotFound):
            open_base(f"ViT-B-16/{tag}")
        assert passed["force_quick_gelu"] is expected


def test_another_activation_is_another_base(tmp_path: Path) -> None:
    spec = write_tiny_base(tmp_path)
    first = open_base(spec)
    config = tmp_path / f"{NAME}.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "quick_gelu": True}))
    second = open_base(spec)
    config.write_text(json.dumps(CONFIG))
    open_base(spec)  # open_clip keeps configurations by name: put the usual one back
    assert first.text_fingerprint != second.text_fingerprint
    assert first.image_fingerprint != second.image_fingerprint


def test_fingerprints_name_each_tower_alone(tmp_path: Path) -> None:
    def opened(folder: str, seed: int = 0) -> Base:
        (tmp_path / folder).mkdir()
        return open_base(write_tiny_base(tmp_path / folder, seed))

    first, again, other = opened("a"), opened("b"), opened("c", seed=1)
    assert first.image_fingerprint == again.image_fingerprint
    assert first.text_fingerprint == again.text_fingerprint
    assert first.image_fingerprint != other.image_fingerprint
    assert first.text_fingerprint != other.text_fingerprint


def test_every_supported_name_of_open_clip_is_decided_without_loading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each known architecture is either accepted or refused with a sentence; none trips over an unknown field."""

    def accept(name: str, **_: object) -> None:
        accepted.add(name)
        raise RuntimeError

    monkeypatch.setattr(open_clip, "create_model", accept)
    weights = tmp_path / "weights.safetensors"
    weights.touch()
    accepted: set[str] = set()
    for name in open_clip.list_models():
        with pytest.raises((BaseNotFound, BaseNotSupported)) as refusal:
            open_base(f"{name}@{weights}")
        assert name in refusal.value.detail
        assert isinstance(refusal.value, BaseNotFound) == (name in accepted)
    assert {"ViT-B-16", "ViT-B-32", "ViT-L-14", "RN50"} <= accepted
    assert not [name for name in accepted if "SigLIP" in name or "roberta" in name]
