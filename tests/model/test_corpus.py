"""A corpus's tokens are made once; what was kept is used only for the very corpus and parent it was made of."""

from pathlib import Path

import numpy as np
import pytest

from model.objectives import CorpusTokens, tokenize_corpus
from model.tokenizer import Tokenizer

CAPTIONS = [f"{a} a {b}" for a in ("afal", "môr", "भाषा") for b in ("coch", "haul", "शिशु")]


def same(one: CorpusTokens, other: CorpusTokens) -> bool:
    return one.tokenizer.sha256 == other.tokenizer.sha256 and all(
        np.array_equal(a, b) for a, b in zip(one.ids, other.ids, strict=True)
    )


def test_what_was_kept_is_what_was_made_and_nothing_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tokenize_corpus(Tokenizer(), CAPTIONS, 300, tmp_path / "t")
    assert [ids.tolist() for ids in first.ids] == Tokenizer().grow(CAPTIONS, 300).encode(CAPTIONS)
    monkeypatch.setattr(Tokenizer, "grow", None)  # to call it would fail
    again = tokenize_corpus(Tokenizer(), CAPTIONS, 300, tmp_path / "t")
    assert same(first, again)
    assert again.tokenizer.encode(CAPTIONS) == [ids.tolist() for ids in first.ids]


@pytest.mark.parametrize("other", ["captions", "vocabulary", "parent"])
def test_of_anything_else_it_is_made_anew(tmp_path: Path, other: str) -> None:
    tokenize_corpus(Tokenizer(), CAPTIONS, 300, tmp_path / "t")
    parent = Tokenizer().grow(["llong fawr"] * 5, 300) if other == "parent" else Tokenizer()
    captions = [*CAPTIONS, "seren"] if other == "captions" else CAPTIONS
    vocabulary = 2 if other == "vocabulary" else 300
    made = tokenize_corpus(parent, captions, vocabulary, tmp_path / "t")
    assert same(made, tokenize_corpus(parent, captions, vocabulary, tmp_path / "elsewhere"))


def test_what_is_damaged_is_made_anew(tmp_path: Path) -> None:
    first = tokenize_corpus(Tokenizer(), CAPTIONS, 300, tmp_path / "t")
    file = tmp_path / "t" / "kept.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    assert same(first, tokenize_corpus(Tokenizer(), CAPTIONS, 300, tmp_path / "t"))
