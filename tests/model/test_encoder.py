"""Versions, views and encoding: nothing of an older version changes, damage is found, batches may mix languages."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model import checkpoint
from model.checkpoint import TokenRows, VersionContent
from model.encoder import NO_ROW, Encoder, VersionFolder, View
from store import files
from store.errors import PictoglotError, VersionCorrupt
from tests.bitrot import flip

WELSH = [
    "afal coch", "ci bach", "y môr a'r haul", "llong ar y môr", "afal coch a chi bach", "haul coch", "ci ar y llong",
]  # fmt: skip
HINDI = ["लाल सेब", "सर्फिंग करता आदमी", "कुत्ता और बिल्ली", "लाल कुत्ता", "आदमी और बिल्ली"]
ENGLISH = ["a red apple", "a small dog", "the sea and the sun"]


def taught(encoder: Encoder, parent: View, corpus: list[str], seed: int) -> VersionContent:
    """What an expansion would leave, with random rows."""
    tokenizer = parent.tokenizer.grow(corpus, 500)
    ids = np.unique(np.concatenate([np.array(line) for line in tokenizer.encode(corpus)]))
    rows = torch.randn((len(ids), encoder.base.table.shape[1]), generator=torch.Generator().manual_seed(seed))
    before = parent.tokenizer
    merges, words = tokenizer.merges[len(before.merges) :], tokenizer.words[len(before.words) :]
    return VersionContent(merges, words, TokenRows(ids, rows * 0.02), tokenizer.sha256)


def stored(
    encoder: Encoder, folder: Path, parent: View, number: int, language: str, corpus: list[str]
) -> VersionFolder:
    learned = taught(encoder, parent, corpus, number)
    return written(folder, learned, encoder.base_fingerprint, number, language)


def written(
    folder: Path, learned: VersionContent, text_fingerprint: str, number: int = 1, language: str = "cy"
) -> VersionFolder:
    """The version on disk, as the registry would name it."""
    path = folder / str(number)
    checkpoint.write_version(path, learned, {"text_fingerprint": text_fingerprint})
    return VersionFolder(number, language, path, files.hash_file(path / files.MANIFEST))


def test_a_later_version_changes_no_bit_of_an_earlier_ones_vectors(encoder: Encoder, tmp_path: Path) -> None:
    welsh = encoder.open([first := stored(encoder, tmp_path, encoder.base_view, 1, "cy", WELSH)])
    before = encoder.encode_texts([(welsh, text) for text in WELSH]).vectors
    english = encoder.encode_texts([(encoder.base_view, text) for text in ENGLISH]).vectors
    hindi = encoder.open([stored(encoder, tmp_path, welsh, 2, "hi", HINDI)], onto=welsh)
    assert np.array_equal(encoder.encode_texts([(welsh, text) for text in WELSH]).vectors, before)
    assert np.array_equal(encoder.encode_texts([(encoder.base_view, text) for text in ENGLISH]).vectors, english)
    by_hindi, by_welsh = (encoder.encode_texts([(view, HINDI[0])]).vectors for view in (hindi, welsh))
    assert not np.allclose(by_hindi, by_welsh)
    fresh = Encoder(encoder.base)
    assert np.array_equal(fresh.encode_texts([(fresh.open([first]), text) for text in WELSH]).vectors, before)


def test_what_is_opened_upon_a_language_taught_again_keeps_no_row_twice(encoder: Encoder, tmp_path: Path) -> None:
    """Only the newest serves. An ancestor that is asked for reads as if it had been opened first."""
    first = stored(encoder, tmp_path, encoder.base_view, 1, "cy", WELSH)
    older = encoder.open([first])
    again = stored(encoder, tmp_path, older, 2, "cy", WELSH)
    newer = encoder.open([again], onto=older)
    texts = [encoder.encode_texts([(view, text) for text in WELSH]).vectors for view in (older, newer)]
    fresh = Encoder(encoder.base)
    opened = fresh.open([first, again])
    count = len(checkpoint.read_version(again.path)[0].rows.ids)
    assert opened.physical.max() + 1 == fresh.base_view.reading.vocabulary + count
    views = fresh.open([first]), opened, fresh.open([first, again])
    read = [fresh.encode_texts([(view, text) for text in WELSH]).vectors for view in views]
    assert all(np.array_equal(*pair) for pair in zip(read, (*texts, texts[1]), strict=True))
    assert max(view.physical.max() for view in views) < fresh.base_view.reading.vocabulary + 2 * count, "each once"


def test_a_mixed_batch_gives_each_text_the_vector_of_its_own_view(encoder: Encoder, tmp_path: Path) -> None:
    welsh = encoder.open([stored(encoder, tmp_path, encoder.base_view, 1, "cy", WELSH)])
    items = [(welsh, WELSH[0]), (encoder.base_view, ENGLISH[2]), (welsh, WELSH[2]), (encoder.base_view, ENGLISH[0])]
    mixed = encoder.encode_texts(items).vectors
    alone = np.concatenate([encoder.encode_texts([item]).vectors for item in items])
    assert np.allclose(mixed, alone, atol=1e-6)
    assert np.allclose(np.linalg.norm(mixed, axis=1), 1, atol=1e-6)


def test_end_of_text_is_read_where_it_stands_though_learned_ids_are_larger(encoder: Encoder, tmp_path: Path) -> None:
    welsh = encoder.open([stored(encoder, tmp_path, encoder.base_view, 1, "cy", WELSH)])
    (ids,) = welsh.tokenize([WELSH[0]])
    assert max(ids) > 49407
    rows, _ = welsh.build_sequence(ids)
    with torch.inference_mode():
        embedded = encoder.table.rows[torch.from_numpy(rows).long()][None]
        expected = encoder.base.compute_text_features(embedded, torch.tensor([len(rows) - 1]))
    unit = torch.nn.functional.normalize(expected, dim=-1).numpy()
    assert np.allclose(encoder.encode_texts([(welsh, WELSH[0])]).vectors, unit, atol=1e-6)


@pytest.mark.row("T15")
def test_a_long_text_is_cut_and_says_so(encoder: Encoder) -> None:
    encoded = encoder.encode_texts([(encoder.base_view, "dog " * 200), (encoder.base_view, "dog")])
    assert encoded.truncated == [True, False]
    assert encoded.tokens == [200, 1]


def test_a_token_that_was_never_trained_is_read_as_its_parts(encoder: Encoder) -> None:
    tokenizer = encoder.base_view.tokenizer.grow(["blodeuyn", "blodeuog", "blodeuged"] * 3, 500)
    (ids,) = tokenizer.encode(["blodeuyn"])
    kept = np.array([n for n in ids if n < 49408] or [320], dtype=np.int64)
    learned = VersionContent(tokenizer.merges, (), TokenRows(kept, torch.zeros(len(kept), 32)), tokenizer.sha256)
    view = encoder.extend(encoder.base_view, 1, "cy", learned)
    (parts,) = view.tokenize(["blodeuyn"])
    assert len(parts) > len(ids)
    assert (view.physical[parts] != NO_ROW).all()


@pytest.mark.row("I2", "R6")
@pytest.mark.parametrize("name", ["rows.safetensors", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("where", [0.1, 0.5, 0.99])
def test_a_flipped_bit_is_found_before_use(encoder: Encoder, tmp_path: Path, name: str, where: float) -> None:
    folder = stored(encoder, tmp_path, encoder.base_view, 1, "cy", WELSH)
    flip(folder.path / name, int(8 * (folder.path / name).stat().st_size * where))
    with pytest.raises(VersionCorrupt):
        encoder.open([folder])


@pytest.mark.parametrize("wrong", ["finite", "another base"])
def test_rows_that_are_not_finite_and_those_of_another_base_are_refused(
    encoder: Encoder, tmp_path: Path, wrong: str
) -> None:
    learned = taught(encoder, encoder.base_view, WELSH, 1)
    if wrong == "finite":
        learned.rows.rows[2, 3] = float("nan")
    folder = written(tmp_path, learned, encoder.base_fingerprint if wrong == "finite" else "0" * 64)
    with pytest.raises(VersionCorrupt, match=wrong):
        encoder.open([folder])


def test_a_version_on_the_wrong_parent_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    welsh = encoder.open([stored(encoder, tmp_path, encoder.base_view, 1, "cy", WELSH)])
    on_welsh = stored(encoder, tmp_path, welsh, 2, "hi", HINDI)
    with pytest.raises(VersionCorrupt, match="tokenizer"):
        encoder.open([on_welsh])


def test_writing_a_version_again_changes_nothing(encoder: Encoder, tmp_path: Path) -> None:
    first = stored(encoder, tmp_path, encoder.base_view, 1, "cy", WELSH)
    assert written(tmp_path, taught(encoder, encoder.base_view, HINDI, 9), "") == first
    assert json.loads((tmp_path / "1" / "manifest.json").read_text())["text_fingerprint"] == encoder.base_fingerprint


@pytest.mark.row("H15")
def test_vectors_that_are_not_finite_are_never_given(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was kept would keep every later generation from being written."""
    base = dataclasses.replace(encoder.base, preprocess=lambda image: torch.full((3, 32, 32), math.nan))
    monkeypatch.setattr(encoder, "base", base)
    with pytest.raises(PictoglotError, match="not finite"):
        encoder.encode_pictures([Image.new("RGB", (50, 40))])
