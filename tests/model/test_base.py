"""Opening a base: true-shaped checkpoints by name, and refusals that name the reason."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import model.base
from model.base import Base, open_base
from model.encoder import Encoder
from model.languages import MANY
from model.reading import list_languages, require_supported
from store.errors import BaseNotFound, BaseNotSupported, CheckpointUnfit
from tests.house.source import ROOT
from tests.tiny import CONFIG, NAME, write_tiny_base


def test_a_real_architecture_opens_from_a_local_checkpoint(tmp_path: Path) -> None:
    name = "ViT-B-32"
    torch.manual_seed(0)
    model = open_clip.create_model(name)
    weights = {key: tensor.contiguous().half() for key, tensor in model.state_dict().items()}
    save_file(weights, tmp_path / "checkpoint.safetensors")
    base = open_base(f"{name}@{tmp_path / 'checkpoint.safetensors'}")
    assert (base.dimension, base.reading.context, tuple(base.table.shape)) == (512, 77, (49408, 512))
    encoder = Encoder(base)
    assert encoder.encode_pictures([Image.new("RGB", (300, 200), "red")]).shape == (1, 512)
    tokens = open_clip.get_tokenizer(name)(["a red apple"])
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(base.model.encode_text(tokens), dim=-1).numpy()  # type: ignore[operator]
    assert np.allclose(encoder.encode_texts([(encoder.base_view, "a red apple")]).vectors, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", "xlm-roberta-base of the package transformers"),
        ("nllb-clip-base/v1", "nllb"),
        ("coca_ViT-B-32/laion2b_s13b_b90k", "CoCa"),
        ("ViT-B-16@weights.pt", "safetensors"),
        ("hf-hub:somebody/something", "not supported"),
        ("local-dir:/somewhere", "not supported"),
    ],
)
def test_what_cannot_learn_languages_is_refused_by_name(spec: str, reason: str) -> None:
    with pytest.raises(BaseNotSupported, match=reason):
        open_base(spec)


def test_what_a_known_base_reads_is_told_by_its_name() -> None:
    for name in ("ViT-B-16", "ViT-B-16-SigLIP", "ViT-L-14-CLIPA"):
        assert list_languages(name, None) == ("en",)
    for name in ("ViT-B-16-SigLIP2-256", "ViT-B-16-SigLIP-i18n-256", "ViT-H-14-worldwide-quickgelu"):
        assert list_languages(name, None) == ("en", MANY)


def test_a_base_declares_its_languages_without_becoming_another_base(tmp_path: Path) -> None:
    spec = write_tiny_base(tmp_path)
    plain = open_base(spec)
    write_tiny_base(tmp_path, languages=["DE", "iw", "en"])
    declared = open_base(spec)
    assert (plain.languages, declared.languages) == (("en",), ("en", "de", "he"))
    assert (declared.text_fingerprint, declared.image_fingerprint) == (plain.text_fingerprint, plain.image_fingerprint)
    assert Encoder(declared.copy_without_towers()).languages == declared.languages


@pytest.mark.parametrize("declared", ["de", ["german"], [5], {"de": 1}])
def test_a_declaration_that_is_no_list_of_tags_is_refused(tmp_path: Path, declared: object) -> None:
    spec = write_tiny_base(tmp_path)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"languages": declared}))
    with pytest.raises(BaseNotFound, match="not a list of language tags"):
        open_base(spec)


@pytest.mark.parametrize(
    "spec", ["no-such-model/openai", "ViT-B-16/nobody", "ViT-B-16", "ViT-B-16@/not/there.safetensors"]
)
def test_what_does_not_exist_is_said_so(spec: str) -> None:
    with pytest.raises(BaseNotFound):
        open_base(spec)


def test_an_architecture_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    spec = write_tiny_base(tmp_path)
    config = tmp_path / f"{NAME}.json"
    config.write_text("{")
    with pytest.raises(BaseNotFound, match=f"{NAME}.json beside the checkpoint"):
        open_base(spec)
    config.write_text(json.dumps(CONFIG))  # which open_clip goes on reading, since the tiny base was made of it


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    write_tiny_base(tmp_path)
    with pytest.raises(CheckpointUnfit, match="not one of ViT-B-32"):
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


def test_every_configuration_of_open_clip_is_decided_without_loading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each known architecture is either accepted or refused with a sentence; none trips over an unknown field."""

    def accept(name: str, *_: object, **__: object) -> None:
        accepted.add(name)
        raise BaseNotFound(name)

    monkeypatch.setattr(model.base, "_open_tokenizer", accept)
    weights = tmp_path / "weights.safetensors"
    weights.touch()
    accepted: set[str] = set()
    for name in open_clip.list_models():
        with pytest.raises((BaseNotFound, BaseNotSupported)) as refusal:
            open_base(f"{name}@{weights}")
        assert name in refusal.value.detail
        assert isinstance(refusal.value, BaseNotFound) == (name in accepted)
    refused = {*open_clip.list_models()} - accepted
    assert {name.split("-")[0].split("_")[0] for name in refused} == {"coca", "mt5", "nllb", "roberta", "xlm"}
    assert len(accepted) >= 131


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pool_type": "first"}, "neither the end of a text nor the last place"),
        ({"hf_tokenizer_name": "some/tokenizer"}, "neither the end of a text nor the last place"),
        ({"tokenizer_kwargs": {"clean": "canonicalize"}}, "changes CLIP's BPE tokenizer"),
        ({"vocab_size": 50_000}, "changes CLIP's BPE tokenizer"),
        ({"tokenizer_mode": "clips"}, "changes its tokenizer"),
        (
            {"hf_tokenizer_name": "some/tokenizer", "tokenizer_kwargs": {"language": "eng_Latn"}},
            "changes its tokenizer",
        ),
        ({"use_pad_mask": True, "no_causal_mask": True}, "hides the pads"),
        ({"embed_cls": True}, "CoCa"),
        ({"hf_model_name": "roberta-base"}, "roberta-base of the package transformers"),
    ],
)
def test_a_text_tower_that_is_not_read_here_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    text: Any = CONFIG["text_cfg"]
    config = {**CONFIG, "text_cfg": {**text, **changes}}
    with pytest.raises(BaseNotSupported, match=reason) as refused:
        require_supported(NAME, config)
    assert NAME in refused.value.detail and refused.value.code == "base_not_supported"


def test_the_bundled_base_is_that_of_the_reports() -> None:
    reported = json.loads((ROOT / "docs/reports/emoji36.json").read_text(encoding="utf-8"))
    assert open_base("bundled", "cpu").text_fingerprint == reported["text_fingerprint"]
