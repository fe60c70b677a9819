"""The tokenizers that the product's own is measured against do what their names say, and are read back alike."""

import numpy as np
import pytest
import torch

from benchmarks.emoji36.tokenizers import BytesFirst, BytesLast, MarksCut, Published, RunsWhole
from model.checkpoint import TokenRows, VersionContent
from model.tokenizer import CLIP_TOKENS, Tokenizer

WELSH = ["y llong fawr", "llong fach a phont", "pont fawr ar afon", "llong ar afon"] * 4
HINDI = ["नीली गाड़ी", "बड़ी नीली नाव", "गाड़ी और नाव", "हिन्दी"] * 4
NOTHING = TokenRows(np.empty(0, dtype=np.int64), torch.empty((0, 1)))
KINDS = (Tokenizer, BytesLast, BytesFirst, MarksCut, RunsWhole, Published)
CHINESE = ["红苹果和小狗", "红苹果", "小狗", "小狗和海"] * 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("corpus", [HINDI, CHINESE], ids=["hi", "zh"])
def test_what_is_read_back_reads_alike_and_loses_nothing(kind: type[Tokenizer], corpus: list[str]) -> None:
    grown = kind().grow(corpus, 500)
    learned = VersionContent(grown.merges, grown.words, NOTHING, grown.sha256)
    again = learned.extend_tokenizer(kind())
    assert type(again) is kind and again.encode(corpus) == grown.encode(corpus)
    assert max(number for ids in grown.encode(corpus) for number in ids) < grown.size


def length(kind: type[Tokenizer], corpus: list[str]) -> int:
    return sum(map(len, kind().grow(corpus, 500).encode(corpus)))


def test_merges_from_bytes_ranked_last_leave_more_pieces_and_ranked_first_none() -> None:
    assert length(Tokenizer, WELSH) == length(BytesFirst, WELSH) < length(BytesLast, WELSH)


def test_only_words_without_marks_stay_whole_when_marks_cut() -> None:
    assert length(MarksCut, WELSH) == length(Tokenizer, WELSH)
    assert length(MarksCut, HINDI) > length(Tokenizer, HINDI)
    assert length(Published, HINDI) >= length(MarksCut, HINDI)


def test_a_run_of_letters_is_cut_into_words_or_stays_whole() -> None:
    assert Tokenizer().grow(CHINESE, 500).words and RunsWhole().grow(CHINESE, 500).words == ()
    assert RunsWhole().grow(WELSH, 500).encode(WELSH) == Tokenizer().grow(WELSH, 500).encode(WELSH)


def test_ranked_first_is_the_languages_own_tokenizer() -> None:
    """A word of English that the language never met is still read by CLIP's merges behind."""
    grown = BytesFirst().grow(WELSH, 500)
    assert all(len(ids) == 1 for ids in grown.encode(["llong", "fawr", "afon"]))
    assert grown.encode(["strawberry"]) == Tokenizer().encode(["strawberry"])
    assert any(number >= CLIP_TOKENS for number in grown.encode(["llong"])[0])
