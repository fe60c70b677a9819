"""A corpus's tokens are made once; what was kept is used only for the very corpus and parent it was made of."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model import storage
from model.clip_tokenizer import ClipTokenizer
from model.corpus import Tokens, tokenized

CAPTIONS = [f"{a} a {b}" for a in ("afal", "môr", "भाषा") for b in ("coch", "haul", "शिशु")]


def same(one: Tokens, other: Tokens) -> bool:
    return one.tokenizer.sha256 == other.tokenizer.sha256 and all(
        np.array_equal(a, b) for a, b in zip(one.ids, other.ids, strict=True)
    )


def test_what_was_kept_is_what_was_made_and_nothing_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tokenized(ClipTokenizer(), CAPTIONS, 300, tmp_path / "t")
    assert [ids.tolist() for ids in first.ids] == ClipTokenizer().grown(CAPTIONS, 300).encode(CAPTIONS)
    monkeypatch.setattr(ClipTokenizer, "grown", None)  # to call it would fail
    again = tokenized(ClipTokenizer(), CAPTIONS, 300, tmp_path / "t")
    assert same(first, again)
    assert again.tokenizer.encode(CAPTIONS) == [ids.tolist() for ids in first.ids]


@pytest.mark.parametrize("other", ["captions", "vocabulary", "parent"])
def test_of_anything_else_it_is_made_anew(tmp_path: Path, other: str) -> None:
    tokenized(ClipTokenizer(), CAPTIONS, 300, tmp_path / "t")
    parent = ClipTokenizer().grown(["llong fawr"] * 5, 300) if other == "parent" else ClipTokenizer()
    captions = [*CAPTIONS, "seren"] if other == "captions" else CAPTIONS
    vocabulary = 2 if other == "vocabulary" else 300
    made = tokenized(parent, captions, vocabulary, tmp_path / "t")
    assert same(made, tokenized(parent, captions, vocabulary, tmp_path / "elsewhere"))


def test_what_is_damaged_is_made_anew(tmp_path: Path) -> None:
    first = tokenized(ClipTokenizer(), CAPTIONS, 300, tmp_path / "t")
    file = tmp_path / "t" / "kept.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    assert same(first, tokenized(ClipTokenizer(), CAPTIONS, 300, tmp_path / "t"))


@pytest.mark.parametrize("noted", [True, False], ids=["with-its-digest", "of-a-release-that-kept-none"])
def test_tokens_of_a_training_in_progress_keep_the_rule_that_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: bool
) -> None:
    """An upgrade meets half-done trainings: their checkpoints name the tokenizer."""
    captions, folder = ["huk pʼisqu", "tʼanta mikhuq", "chʼaska"] * 3, tmp_path / "t"
    with monkeypatch.context() as before:
        before.setattr("model.clip_tokenizer.NEWEST", "marks")
        first = tokenized(ClipTokenizer(), captions, 300, folder)
    if not noted:
        manifest = json.loads((folder / storage.MANIFEST).read_text(encoding="utf-8"))
        assert json.dumps(manifest).count(first.tokenizer.sha256) == 1
        left_out = json.dumps(manifest).replace(f', "sha256": "{first.tokenizer.sha256}"', "")
        storage.write_manifest(folder, json.loads(left_out))
    again = tokenized(ClipTokenizer(), captions, 300, folder)
    assert same(first, again) and again.tokenizer.encode(captions) == [ids.tolist() for ids in first.ids]
    assert not same(again, tokenized(ClipTokenizer(), captions, 300, tmp_path / "new"))


def renamed(folder: Path, facts: dict[str, Any]) -> None:
    """The tensors under another name."""
    (folder / "kept.safetensors").rename(folder / "tokens.safetensors")


def without_a_key(folder: Path, facts: dict[str, Any]) -> None:
    """A manifest of other facts."""
    del facts["key"]


def of_another_format(folder: Path, facts: dict[str, Any]) -> None:
    """The tensors in another format."""
    (folder / "kept.safetensors").write_bytes(b"another format")


@pytest.mark.parametrize("changed", [renamed, without_a_key, of_another_format])
def test_what_another_release_kept_is_made_anew(
    tmp_path: Path, changed: Callable[[Path, dict[str, Any]], None]
) -> None:
    """Its folder is whole, and its manifest fits its files, but they are not those of this release."""
    folder = tmp_path / "t"
    first = tokenized(ClipTokenizer(), CAPTIONS, 300, folder)
    facts = json.loads((folder / storage.MANIFEST).read_text(encoding="utf-8"))
    changed(folder, facts)
    storage.write_manifest(folder, facts)
    assert storage.intact(folder)
    assert same(first, tokenized(ClipTokenizer(), CAPTIONS, 300, folder))
