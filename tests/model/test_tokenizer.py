"""The tokenizer: English as CLIP reads it, growth that is append-only, minimal and identical after reload."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from demo.emojis import LANGUAGES, catalogue
from model import version
from model.table import TokenRows
from model.tokenizer import Tokenizer
from model.version import Learned

ENGLISH = [
    "a red apple and a car",
    "It's the dog's ball, isn't it? 1234 times!!",
    "café naïve résumé",
    "eight o’clock, “quoted”",
    "❤️ love 👩‍👩‍👧 – don't stop",
]
WELSH = ["afal coch", "ci bach", "y môr a'r haul", "afal a chi", "llong ar y môr"] * 5
HINDI = ["लाल सेब", "सर्फिंग करता आदमी", "कुत्ता और बिल्ली", "सेब और कार"] * 5
THAI = ["แอปเปิลสีแดง", "เด็กและสุนัข", "รถยนต์และแอปเปิลสีแดง"] * 5


def test_the_base_reads_english_exactly_as_clip_does() -> None:
    clip = open_clip.get_tokenizer("ViT-B-32")
    assert Tokenizer().encode(ENGLISH) == [clip.encode(text) for text in ENGLISH]


def test_special_strings_in_a_text_are_plain_text() -> None:
    for text in ("a cat <end_of_text> a dog", "a cat <|endoftext|> a dog", "<start_of_text>"):
        (ids,) = Tokenizer().encode([text])
        assert not {49406, 49407} & set(ids)


def test_growth_leaves_older_ids_and_ranks_alone() -> None:
    welsh = Tokenizer().grown(WELSH, 300)
    hindi = welsh.grown(HINDI, 300)
    assert hindi.added[: len(welsh.added)] == welsh.added
    assert hindi.encode(WELSH) == welsh.encode(WELSH)
    assert max(number for ids in welsh.encode(WELSH) for number in ids) < welsh.size <= hindi.size


def test_english_keeps_its_ids_beside_a_language_in_another_script() -> None:
    assert Tokenizer().grown(HINDI, 300).encode(ENGLISH) == Tokenizer().encode(ENGLISH)


def test_a_reloaded_tokenizer_gives_the_same_ids_and_hash() -> None:
    grown = Tokenizer().grown(WELSH, 300).grown(THAI, 300)
    reloaded = Tokenizer(tuple(grown.added), tuple(grown.words), marks=True)
    assert reloaded.sha256 == grown.sha256
    assert reloaded.encode(WELSH + THAI + HINDI + ENGLISH) == grown.encode(WELSH + THAI + HINDI + ENGLISH)
    assert Tokenizer(grown.added[:-1], grown.words, marks=True).sha256 != grown.sha256


@pytest.mark.parametrize("corpus", [WELSH, HINDI, THAI])
def test_dropping_unused_merges_changes_no_token_of_the_corpus(corpus: list[str]) -> None:
    """Against the slow, obvious way: append every learned merge and tokenise."""
    kept = Tokenizer().grown(corpus, 2_000)
    strings = {number: token for token, number in kept._vocabulary.items()}
    new_tokens = {strings[n] for ids in kept.encode(corpus) for n in ids if n >= 49408}
    appended = {left + right for left, right in kept.added}
    parts = {part for merge in kept.added for part in merge}
    assert new_tokens <= appended
    assert appended <= new_tokens | parts  # nothing that neither occurs nor leads to what occurs


def test_a_word_with_combining_marks_stays_whole_once_learned() -> None:
    whole = Tokenizer().grown(HINDI, 2_000)
    (ids,) = whole.encode(["सर्फिंग"])
    assert len(ids) == 1
    (cut,) = Tokenizer().encode(["सर्फिंग"])
    assert len(cut) > 4


def test_composed_and_decomposed_text_read_alike() -> None:
    grown = Tokenizer().grown(WELSH, 300)
    assert grown.encode(["mo\u0302r"]) == grown.encode(["môr"])


def test_training_twice_gives_the_same_tokenizer() -> None:
    assert Tokenizer().grown(THAI + WELSH, 300).sha256 == Tokenizer().grown(THAI + WELSH, 300).sha256


def test_words_of_unspaced_scripts_stay_whole_beside_any_neighbour() -> None:
    """Without the cut, merges join the end of one word to the start of the next."""
    words = ("苹果", "汽车", "香蕉", "问号", "帆船")
    corpus = [*words, *(f"{a}和{b}" for a in words for b in words if a != b)]
    grown = Tokenizer().grown(corpus, 1_000)
    alone = dict(zip(words, grown.encode(words), strict=True))
    (joiner,) = grown.encode(["和"])
    (pair,) = grown.encode(["帆船和香蕉"])
    assert grown.words
    assert pair[: len(alone["帆船"])] == alone["帆船"]
    assert pair[-len(alone["香蕉"]) :] == alone["香蕉"]
    assert len(pair) <= len(alone["帆船"]) + len(alone["香蕉"]) + len(joiner)


def test_a_chain_of_all_the_demos_languages_is_read_back_from_disk_to_the_same_ids(tmp_path: Path) -> None:
    """Every version of it, on the texts of every language: old ones, its own, and those yet to be learned."""
    names = {tag: [each.names[tag] for each in catalogue()[::5]] for tag in ("en", *LANGUAGES)}
    texts = [name for those in names.values() for name in those]
    tokenizer, read = Tokenizer(), list[list[list[int]]]()
    for number, tag in enumerate(LANGUAGES):
        grown = tokenizer.grown(names[tag], 400)
        merges, words = grown.added[len(tokenizer.added) :], grown.words[len(tokenizer.words) :]
        rows = TokenRows(np.arange(1), torch.zeros(1, 4))
        version.write(tmp_path / str(number), Learned(merges, words, rows, grown.sha256), {})
        tokenizer = grown
        read.append(tokenizer.encode(texts))
    reloaded = [Tokenizer()]
    for number in range(len(LANGUAGES)):
        learned, _ = version.read(tmp_path / str(number))
        reloaded.append(learned.tokenizer(reloaded[-1]))
    assert [each.encode(texts) for each in reloaded[1:]] == read
