"""The tokenizer: English as CLIP reads it, growth that is append-only, minimal and identical after reload."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from babel import Locale

from benchmarks.emoji36.lexicon import LANGUAGES, cldr_tag
from model import version
from model.clip_tokenizer import LANGUAGE_RULE, ClipTokenizer
from model.merges import Merge
from model.segmentation import standalone_words
from model.table import TokenRows
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
    assert ClipTokenizer().encode(ENGLISH) == [clip.encode(text) for text in ENGLISH]


@pytest.mark.row("T16")
def test_special_strings_in_a_text_are_plain_text() -> None:
    for text in ("a cat <end_of_text> a dog", "a cat <|endoftext|> a dog", "<start_of_text>"):
        (ids,) = ClipTokenizer().encode([text])
        assert not {49406, 49407} & set(ids)


def test_growth_leaves_older_ids_and_ranks_alone() -> None:
    welsh = ClipTokenizer().grown(WELSH, 300)
    hindi = welsh.grown(HINDI, 300)
    assert hindi.added[: len(welsh.added)] == welsh.added
    assert hindi.encode(WELSH) == welsh.encode(WELSH)
    assert max(number for ids in welsh.encode(WELSH) for number in ids) < welsh.size <= hindi.size


def test_english_keeps_its_ids_beside_a_language_in_another_script() -> None:
    assert ClipTokenizer().grown(HINDI, 300).encode(ENGLISH) == ClipTokenizer().encode(ENGLISH)


def test_a_reloaded_tokenizer_gives_the_same_ids_and_hash() -> None:
    grown = ClipTokenizer().grown(WELSH, 300).grown(THAI, 300)
    reloaded = ClipTokenizer(tuple(grown.added), tuple(grown.words), LANGUAGE_RULE)
    assert reloaded.sha256 == grown.sha256
    assert reloaded.encode(WELSH + THAI + HINDI + ENGLISH) == grown.encode(WELSH + THAI + HINDI + ENGLISH)
    assert ClipTokenizer(grown.added[:-1], grown.words, LANGUAGE_RULE).sha256 != grown.sha256


class Wasteful(ClipTokenizer):
    """Learns of other texts too, whose merges its own corpus may have no use for."""

    def learned(self, corpus: Sequence[str], size: int) -> list[Merge]:
        return super().learned([*corpus, *WELSH, *HINDI, *THAI], size)


def pieces(tokenizer: ClipTokenizer, texts: list[str]) -> list[list[str]]:
    """The tokens themselves: their ids differ where fewer merges were appended."""
    names = {number: token for token, number in tokenizer.vocabulary.items()}
    return [[names[number] for number in ids] for ids in tokenizer.encode(texts)]


@pytest.mark.parametrize("kind", [ClipTokenizer, Wasteful])
@pytest.mark.parametrize("corpus", [WELSH, HINDI, THAI], ids=["cy", "hi", "th"])
def test_dropping_unused_merges_changes_no_token_of_the_corpus(kind: type[ClipTokenizer], corpus: list[str]) -> None:
    """Against the slow, obvious way: append every learned merge and tokenise."""
    kept = kind().grown(corpus, 2_000)
    start = kind().extend([], standalone_words(corpus))
    whole = start.extend(start.learned(corpus, 2_000))
    read = pieces(whole, corpus)
    assert pieces(kept, corpus) == read != pieces(start, corpus)

    needed = {token for line in read for token in line}
    for left, right in whole.added[::-1] * 3:  # what leads to a token is needed as well
        needed.update((left, right) if left + right in needed else ())
    assert kept.added == tuple((left, right) for left, right in whole.added if left + right in needed)
    assert (kept.added == whole.added) == (kind is ClipTokenizer)


def test_a_word_with_combining_marks_stays_whole_once_learned() -> None:
    whole = ClipTokenizer().grown(HINDI, 2_000)
    (ids,) = whole.encode(["सर्फिंग"])
    assert len(ids) == 1
    (cut,) = ClipTokenizer().encode(["सर्फिंग"])
    assert len(cut) > 4


def test_every_apostrophe_of_a_learned_language_is_one() -> None:
    """In datasets they are mixed, and a keyboard gives one that may be in none of the captions."""
    quechua = ["huk pʼisqu", "t’anta mikhuq", "qʼellu chʼaska"] * 3
    tokenizer = ClipTokenizer().grown(quechua, 300)
    kinds = "'`´ʹʻʼʽʾʿ׳‘’‚‛′＇"
    read = {kind: tokenizer.encode([f"huk p{kind}isqu", f"t{kind}anta"]) for kind in kinds}
    assert all(ids == read["'"] for ids in read.values())
    english = [f"the bird{kind}s nest" for kind in "'’"]
    assert tokenizer.encode(english) == ClipTokenizer().encode(english)


def test_composed_and_decomposed_text_read_alike() -> None:
    grown = ClipTokenizer().grown(WELSH, 300)
    assert grown.encode(["mo\u0302r"]) == grown.encode(["môr"])


def test_training_twice_gives_the_same_tokenizer() -> None:
    assert ClipTokenizer().grown(THAI + WELSH, 300).sha256 == ClipTokenizer().grown(THAI + WELSH, 300).sha256


def test_words_of_unspaced_scripts_stay_whole_beside_any_neighbour() -> None:
    """Without the cut, merges join the end of one word to the start of the next."""
    words = ("苹果", "汽车", "香蕉", "问号", "帆船")
    corpus = [*words, *(f"{a}和{b}" for a in words for b in words if a != b)]
    grown = ClipTokenizer().grown(corpus, 1_000)
    alone = dict(zip(words, grown.encode(words), strict=True))
    (joiner,) = grown.encode(["和"])
    (pair,) = grown.encode(["帆船和香蕉"])
    assert grown.words
    assert pair[: len(alone["帆船"])] == alone["帆船"]
    assert pair[-len(alone["香蕉"]) :] == alone["香蕉"]
    assert len(pair) <= len(alone["帆船"]) + len(alone["香蕉"]) + len(joiner)


def names_in(tag: str) -> list[str]:
    """What the language calls some countries and languages; Babel knows all 36."""
    known = Locale.parse(cldr_tag(tag))
    return [*[*known.territories.values()][::5], *[*known.languages.values()][::10]]


@pytest.mark.slow
@pytest.mark.parametrize("onto", ["chain", "base"])
@pytest.mark.parametrize("tags", [LANGUAGES[::6], pytest.param(LANGUAGES, marks=pytest.mark.nightly)], ids=len)
def test_the_tokenizers_of_many_languages_are_read_back_from_disk_to_the_same_ids(
    onto: str, tags: Sequence[str], tmp_path: Path
) -> None:
    """Each version, on the texts of every language: old ones, its own, and those yet to be learned.

    Asked when it is learned, once all are learned, and read back; the younger ones grew from it, or beside it.
    """
    names = {tag: names_in(tag) for tag in tags}
    texts = [name for those in names.values() for name in those[::3]]
    base, tokenizers, read = ClipTokenizer(), list[ClipTokenizer](), list[list[list[int]]]()
    for tag in tags:
        parent = tokenizers[-1] if onto == "chain" and tokenizers else base
        grown = parent.grown(names[tag], 400)
        merges, words = grown.added[len(parent.added) :], grown.words[len(parent.words) :]
        assert merges
        rows = TokenRows(np.arange(1), torch.zeros(1, 4))
        version.write(tmp_path / tag, Learned(merges, words, rows, grown.sha256), {})
        tokenizers.append(grown)
        read.append(grown.encode(texts))
    assert [each.encode(texts) for each in tokenizers] == read
    base, reloaded = ClipTokenizer(), list[ClipTokenizer]()
    for tag in tags:
        learned, _ = version.read(tmp_path / tag)
        read_back = learned.tokenizer(reloaded[-1] if onto == "chain" and reloaded else base)
        assert isinstance(read_back, ClipTokenizer)
        reloaded.append(read_back)
    assert [each.encode(texts) for each in reloaded] == read
