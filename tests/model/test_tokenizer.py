"""Tokenizers: English as CLIP reads it; growth over pieces of every kind, append-only, minimal, alike after reload."""

import time
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from babel import Locale
from tokenizers import models

from benchmarks.emoji36.lexicon import LANGUAGES, convert_tag
from model import checkpoint
from model.base import open_base
from model.checkpoint import TokenRows, VersionContent
from model.encoder import Encoder
from model.objectives import tokenize_corpus
from model.reading import FilePieces
from model.tokenizer import (
    LANGUAGE_RULE,
    SUFFIX,
    Tokenizer,
    build_clip_engine,
    build_clip_vocabulary,
    read_clip_merges,
)
from model.training import LearnSettings, Trainer
from store.errors import VersionCorrupt
from tests.groups import GROUPS, train_byte_fallback, train_unigram, train_wordpiece, write_base
from tests.model.toy import corpus_for

ENGLISH = [
    "a red apple and a car",
    "It's the dog's ball, isn't it? 1234 times!!",
    "café naïve résumé",
    "eight o’clock, “quoted”",
    "❤️ love 👩‍👩‍👧 – don't stop",
]
WELSH = ["afal coch", "ci bach", "haul uwch y traeth", "afal a chi", "llong ar y traeth", "haul, traeth."] * 5
BRETON = ["pesk bihan", "an noad hag an heol", "lestr war an noad", "haul bras", "ar gador goad"] * 5
HINDI = ["लाल सेब", "सर्फिंग करता आदमी", "कुत्ता और बिल्ली", "सेब और कार"] * 5
THAI = ["แอปเปิลสีแดง", "เด็กและสุนัข", "รถยนต์และแอปเปิลสีแดง"] * 5
SIZE = 300
FILES = {
    "unigram": lambda: train_unigram(["<pad>", "</s>", "<unk>"])[0],
    "bytes": lambda: train_byte_fallback()[0],
    "wordpiece": lambda: train_wordpiece()[0],
}


@cache
def content(kind: str) -> bytes:
    return FILES[kind]().encode()


def opened(kind: str) -> Tokenizer:
    """A base's own; those of files with some rows that are nobody's."""
    return Tokenizer() if kind == "clip" else Tokenizer(FilePieces(content(kind), "whitespace", 1_200))


@pytest.fixture(params=["clip", *FILES])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def spelled(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[str]]:
    return [[*map(tokenizer.decode, ids)] for ids in tokenizer.encode(texts)]


def reference(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[str]]:
    """What one BPE of CLIP's merges and the added ones behind them makes of texts."""
    new = dict.fromkeys(left + right for left, right in tokenizer.merges if left + right not in build_clip_vocabulary())
    vocabulary = {**build_clip_vocabulary(), **{token: 50_000 + place for place, token in enumerate(new)}}
    merges = [*read_clip_merges(), *tokenizer.merges]
    model = models.BPE(vocabulary, merges, end_of_word_suffix=SUFFIX)
    engine = build_clip_engine(model, LANGUAGE_RULE, tokenizer.words)
    return [encoding.tokens for encoding in engine.encode_batch([*texts], add_special_tokens=False)]


def test_the_base_reads_english_exactly_as_clip_does_and_beside_another_script() -> None:
    clip = open_clip.get_tokenizer("ViT-B-32")
    assert Tokenizer().encode(ENGLISH) == [clip.encode(text) for text in ENGLISH]
    assert Tokenizer().grow(HINDI, SIZE).encode(ENGLISH) == Tokenizer().encode(ENGLISH)


@pytest.mark.row("T16")
def test_special_strings_in_a_text_are_plain_text() -> None:
    for text in ("a cat <end_of_text> a dog", "a cat <|endoftext|> a dog", "<start_of_text>"):
        (ids,) = Tokenizer().encode([text])
        assert not {49406, 49407} & set(ids)


def test_a_language_gets_whole_words_and_older_ids_never_move(kind: str) -> None:
    base = opened(kind)
    welsh = base.grow(WELSH, SIZE)
    breton = welsh.grow(BRETON, SIZE)
    (joined,), (before,) = (each.encode(["haul traeth"]) for each in (welsh, base))
    assert len(joined) == 2 < len(before), "a word is one token"
    assert breton.merges[: len(welsh.merges)] == welsh.merges != breton.merges and base.merges == ()
    assert base.size < welsh.size < breton.size
    assert [welsh.decode(n) for n in range(welsh.size)] == [breton.decode(n) for n in range(welsh.size)]
    # pieces are joined, nothing else, and what is on the line behind a tokenizer is not its own
    first, second, third = (["".join(line) for line in spelled(each, WELSH)] for each in (base, welsh, breton))
    assert first == second == third
    assert max(n for ids in welsh.encode(BRETON) for n in ids) < welsh.size
    assert max(n for ids in base.encode(WELSH) for n in ids) < base.size
    assert len({base.sha256, welsh.sha256, breton.sha256}) == 3


def test_growth_is_deterministic_and_a_second_child_has_a_line_of_its_own(kind: str) -> None:
    base = opened(kind)
    first, again = base.grow(WELSH, SIZE), opened(kind).grow(WELSH, SIZE)
    assert (first.sha256, first.encode(BRETON)) == (again.sha256, again.encode(BRETON))
    assert base.grow(WELSH, 0).sha256 == base.sha256
    branch = base.grow(BRETON, SIZE)  # beside the other, not behind it
    assert branch.encode(BRETON) == opened(kind).grow(BRETON, SIZE).encode(BRETON)
    assert first.encode(WELSH) == again.encode(WELSH)


def test_a_reloaded_tokenizer_reads_alike_and_another_one_is_refused(kind: str, tmp_path: Path) -> None:
    grown = opened(kind).grow(WELSH, SIZE)
    rows = TokenRows(np.arange(3, 6), torch.zeros(3, 4))
    checkpoint.write_version(tmp_path / "v", VersionContent(grown.merges, (), rows, grown.sha256), {})
    learned, _ = checkpoint.read_version(tmp_path / "v")
    assert learned.extend_tokenizer(opened(kind)).encode(WELSH + BRETON) == grown.encode(WELSH + BRETON)
    with pytest.raises(VersionCorrupt):
        learned.extend_tokenizer(opened(kind).grow(BRETON, SIZE))
    with pytest.raises(VersionCorrupt):
        VersionContent((("afal", "nothing makes this"),), (), rows, grown.sha256).extend_tokenizer(opened(kind))


class Wasteful(Tokenizer):
    """Learns of other texts too, whose merges its own corpus may have no use for."""

    def learn_merges(self, corpus: Sequence[str], size: int, least: int = 2) -> list[tuple[str, str]]:
        return super().learn_merges([*corpus, *WELSH, *HINDI, *THAI], size)


@pytest.mark.parametrize("corpus", [WELSH, HINDI, THAI], ids=["cy", "hi", "th"])
def test_merges_that_the_corpus_does_not_need_are_dropped_and_change_nothing(corpus: list[str]) -> None:
    """Against the slow, obvious way: append every learned merge and tokenise."""
    kept = Wasteful().grow(corpus, 2_000)
    start = Wasteful().extend([], kept.words)
    whole = start.extend(start.learn_merges(corpus, 2_000))
    read = spelled(whole, corpus)
    assert spelled(kept, corpus) == read != spelled(start, corpus)
    needed = {token for line in read for token in line}
    for left, right in whole.merges[::-1] * 3:  # what leads to a token is needed as well
        needed.update((left, right) if left + right in needed else ())
    assert kept.merges == tuple((left, right) for left, right in whole.merges if left + right in needed) != whole.merges


def test_words_of_two_languages_join_only_within_words(kind: str) -> None:
    grown = opened(kind).grow(WELSH, SIZE)
    alone = [ids for (ids,) in (grown.encode([word]) for word in ("haul", "traeth"))]
    if kind != "bytes":  # a Gemma puts no space before a text
        assert grown.encode(["haul traeth"])[0] == [*alone[0], *alone[1]]
    punctuated = grown.encode(["haul, traeth."])[0]
    assert len(punctuated) >= len(grown.encode(["haul traeth"])[0]) + 1, "punctuation is no part of a word"


@pytest.mark.parametrize("kind", ["clip", "bytes"])
def test_words_of_unspaced_scripts_stay_whole_beside_any_neighbour(kind: str) -> None:
    """Without the cut, merges join the end of one word to the start of the next."""
    words = ("苹果", "汽车", "香蕉", "问号", "帆船")
    corpus = [*words, *(f"{a}和{b}" for a in words for b in words if a != b)]
    grown = opened(kind).grow(corpus, 1_000)
    (joined,) = grown.encode(["香蕉和问号"])
    assert grown.words and len(joined) == 3
    assert [joined[0], joined[-1]] == [grown.encode([word])[0][0] for word in ("香蕉", "问号")]
    again = opened(kind).extend(grown.merges, grown.words)
    assert (again.sha256, again.encode(corpus)) == (grown.sha256, grown.encode(corpus))
    assert opened(kind).extend(grown.merges).sha256 != grown.sha256


def test_a_sentence_without_spaces_is_no_word_and_a_new_one_is_read_by_what_was_taught(tmp_path: Path) -> None:
    """One token for each sentence that is taught would leave none of its parts with a row of its own."""
    things = {
        "苹果树": "apple tree",
        "大象牙": "elephant's tusk",
        "小汽车": "small car",
        "白帆船": "white sailing ship",
    }
    sentences = [(f"{a}在{b}的旁边", f"{things[a]} beside {things[b]}", False) for a, b in pairwise(things)]
    words = [("アクセサリー", "accessory", False), ("カクレクマノミ", "clown anemonefish", True)]
    tokens = tokenize_corpus(Tokenizer(), [*sentences, *words], 1_000, tmp_path)
    assert [len(ids) for ids in tokens.ids[-2:]] == [1, 1] and min(map(len, tokens.ids[:-2])) > 3
    taught = {number for ids in tokens.ids for number in ids.tolist()}
    assert taught.issuperset(*tokens.tokenizer.encode(["白帆船在大象牙的旁边"]))


def test_a_word_with_combining_marks_stays_whole_once_learned() -> None:
    (ids,) = Tokenizer().grow(HINDI, 2_000).encode(["सर्फिंग"])
    assert len(ids) == 1
    (cut,) = Tokenizer().encode(["सर्फिंग"])
    assert len(cut) > 4


def test_every_apostrophe_of_a_learned_language_is_one() -> None:
    """In datasets they are mixed, and a keyboard gives one that may be in none of the captions."""
    quechua = ["huk pʼisqu", "t’anta mikhuq", "qʼellu chʼaska"] * 3
    tokenizer = Tokenizer().grow(quechua, SIZE)
    kinds = "'`´ʹʻʼʽʾʿ׳‘’‚‛′＇"
    read = {kind: tokenizer.encode([f"huk p{kind}isqu", f"t{kind}anta"]) for kind in kinds}
    assert all(ids == read["'"] for ids in read.values())
    english = [f"the bird{kind}s nest" for kind in "'’"]
    assert tokenizer.encode(english) == Tokenizer().encode(english)


def test_composed_and_decomposed_text_read_alike() -> None:
    grown = Tokenizer().grow(["y môr", "ar y môr"], SIZE)
    assert grown.encode(["mo\u0302r"]) == grown.encode(["môr"])


def test_no_merge_makes_a_special_token_and_a_long_run_takes_no_time(kind: str) -> None:
    base = opened(kind)
    special = base.pieces.specials if isinstance(base.pieces, FilePieces) else {49_406, 49_407}
    said = ["a </s> b <eos> [SEP] <pad> [CLS]"] * 12 + WELSH
    grown = base.grow(said, SIZE)
    assert special and all(special.isdisjoint(ids) for ids in grown.encode(said))
    started = time.process_time()
    grown.encode(["traethhaul" * 100, "ᚠᛇᚻ" * 333])
    assert time.process_time() - started < 1.0  # 30 ms


def names_in(tag: str) -> list[str]:
    """What the language calls some countries and languages; Babel knows all 36."""
    known = Locale.parse(convert_tag(tag))
    return [*[*known.territories.values()][::5], *[*known.languages.values()][::10]]


@pytest.mark.slow
@pytest.mark.parametrize("onto", ["chain", "base"])
@pytest.mark.parametrize("tags", [LANGUAGES[::6], pytest.param(LANGUAGES, marks=pytest.mark.nightly)], ids=len)
def test_the_tokenizers_of_many_languages_read_as_one_bpe_and_alike_from_disk(
    onto: str, tags: Sequence[str], tmp_path: Path
) -> None:
    """Each version, on the texts of every language: old ones, its own, and those yet to be learned.

    Asked when it is learned, once all are learned, and read back; the younger ones grew from it, or beside it.
    """
    names = {tag: names_in(tag) for tag in tags}
    texts = [name for those in names.values() for name in those[::3]]
    base, tokenizers, read = Tokenizer(), list[Tokenizer](), list[list[list[int]]]()
    for tag in tags:
        parent = tokenizers[-1] if onto == "chain" and tokenizers else base
        grown = parent.grow(names[tag], 400)
        merges, words = grown.merges[len(parent.merges) :], grown.words[len(parent.words) :]
        assert merges and spelled(grown, names[tag]) == reference(grown, names[tag])
        rows = TokenRows(np.arange(1), torch.zeros(1, 4))
        checkpoint.write_version(tmp_path / tag, VersionContent(merges, words, rows, grown.sha256), {})
        tokenizers.append(grown)
        read.append(grown.encode(texts))
    assert [each.encode(texts) for each in tokenizers] == read
    base, reloaded = Tokenizer(), list[Tokenizer]()
    for tag in tags:
        learned, _ = checkpoint.read_version(tmp_path / tag)
        reloaded.append(learned.extend_tokenizer(reloaded[-1] if onto == "chain" and reloaded else base))
    assert [each.encode(texts) for each in reloaded] == read


def test_a_new_tokens_row_begins_as_the_mean_of_its_parts(tmp_path: Path) -> None:
    encoder = Encoder(open_base(write_base(tmp_path, GROUPS["siglip2"]), "cpu"))
    base, corpus = encoder.base_view, corpus_for(encoder)
    trainer = Trainer(encoder, base, corpus, tmp_path / "w", LearnSettings(epochs=1, batch_size=16))
    vocabulary, used = base.reading.vocabulary, trainer.used.tolist()
    new = [number for number in used if number >= vocabulary]
    assert new
    for number in new:
        parts = [number]
        while any(part >= vocabulary for part in parts):
            parts = [
                each
                for part in parts
                for each in (trainer.tokenizer.get_parts(part) if part >= vocabulary else (part,))
            ]
        torch.testing.assert_close(trainer.rows.detach()[used.index(number)], encoder.base.table[parts].mean(dim=0))
