"""Growth of a `tokenizer.json`: merges over its pieces, append-only, minimal, for each kind of tokenizer."""

import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from model import version
from model.base import open_base
from model.encoder import Encoder
from model.file_tokenizer import FileTokenizer
from model.learn_settings import LearnSettings
from model.table import TokenRows
from model.training import Trainer
from model.version import Learned
from store.errors import VersionCorrupt
from tests.groups import GROUPS, byte_fallback, unigram, wordpiece, write_base
from tests.model.toy import corpus_for

KINDS = {
    "unigram": lambda: unigram(["<pad>", "</s>", "<unk>"])[0],
    "bytes": lambda: byte_fallback()[0],
    "wordpiece": lambda: wordpiece()[0],
}
WELSH = ["afal coch", "ci bach", "haul uwch y traeth", "afal a chi", "llong ar y traeth", "haul, traeth."] * 5
BRETON = ["pesk bihan", "an noad hag an heol", "lestr war an noad", "haul bras", "ar gador goad"] * 5
SIZE = 300


@cache
def content(kind: str) -> bytes:
    return KINDS[kind]().encode()


def opened(kind: str) -> FileTokenizer:
    """With some rows that are nobody's."""
    return FileTokenizer(content(kind), "whitespace", 1_200)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def strings(tokenizer: FileTokenizer, texts: list[str]) -> list[str]:
    """What the tokens of each text spell."""
    return ["".join(map(tokenizer.decode, ids)) for ids in tokenizer.encode(texts)]


def test_a_language_gets_whole_words_and_older_ids_never_move(kind: str) -> None:
    base = opened(kind)
    welsh = base.grown(WELSH, SIZE)
    breton = welsh.grown(BRETON, SIZE)
    (joined,), (before,) = (each.encode(["haul traeth"]) for each in (welsh, base))
    assert len(joined) == 2 < len(before), "a word is one token"
    assert breton.added[: len(welsh.added)] == welsh.added != breton.added and base.added == ()
    assert base.size == 1_200 < welsh.size < breton.size
    assert [welsh.decode(n) for n in range(welsh.size)] == [breton.decode(n) for n in range(welsh.size)]
    # pieces are joined, nothing else, and what is on the line behind a tokenizer is not its own
    assert strings(welsh, WELSH) == strings(base, WELSH) == strings(breton, WELSH)
    assert max(n for ids in welsh.encode(BRETON) for n in ids) < welsh.size
    assert max(n for ids in base.encode(WELSH) for n in ids) < base.size
    assert len({base.sha256, welsh.sha256, breton.sha256}) == 3


def test_growth_is_deterministic_and_keeps_only_what_the_corpus_uses(kind: str) -> None:
    base = opened(kind)
    first, again = base.grown(WELSH, SIZE), opened(kind).grown(WELSH, SIZE)
    assert (first.sha256, first.encode(BRETON)) == (again.sha256, again.encode(BRETON))
    assert base.grown(WELSH, 0).sha256 == base.sha256
    used = {number for ids in first.encode(WELSH) for number in ids}
    needed = used | {part for number in range(base.size, first.size) for part in first.parts(number)}
    assert {*range(base.size, first.size)} <= needed
    branch = base.grown(BRETON, SIZE)  # beside the other, not behind it
    assert branch.encode(BRETON) == opened(kind).grown(BRETON, SIZE).encode(BRETON)
    assert first.encode(WELSH) == again.encode(WELSH)


def test_a_reloaded_tokenizer_reads_alike_and_another_one_is_refused(kind: str, tmp_path: Path) -> None:
    grown = opened(kind).grown(WELSH, SIZE)
    rows = TokenRows(np.arange(3, 6), torch.zeros(3, 4))
    version.write(tmp_path / "v", Learned(grown.added, (), rows, grown.sha256), {})
    learned, _ = version.read(tmp_path / "v")
    assert learned.tokenizer(opened(kind)).encode(WELSH + BRETON) == grown.encode(WELSH + BRETON)
    with pytest.raises(VersionCorrupt):
        learned.tokenizer(opened(kind).grown(BRETON, SIZE))


def test_words_of_two_languages_join_only_within_words(kind: str) -> None:
    grown = opened(kind).grown(WELSH, SIZE)
    alone = [ids for (ids,) in (grown.encode([word]) for word in ("haul", "traeth"))]
    if kind != "bytes":  # a Gemma puts no space before a text
        assert grown.encode(["haul traeth"])[0] == [*alone[0], *alone[1]]
    punctuated = grown.encode(["haul, traeth."])[0]
    assert len(punctuated) >= len(grown.encode(["haul traeth"])[0]) + 1, "punctuation is no part of a word"


def test_words_of_unspaced_scripts_stay_whole_beside_any_neighbour() -> None:
    """Without the cut, merges join the end of one word to the start of the next."""
    words = ("苹果", "汽车", "香蕉", "问号", "帆船")
    corpus = [*words, *(f"{a}和{b}" for a in words for b in words if a != b)]
    grown = opened("bytes").grown(corpus, 1_000)
    assert grown.words and len(grown.encode(["帆船和香蕉"])[0]) == 3
    (joined,) = grown.encode(["香蕉和问号"])
    assert [joined[0], joined[-1]] == [grown.encode([word])[0][0] for word in ("香蕉", "问号")]
    again = opened("bytes").extend(grown.added, grown.words)
    assert (again.sha256, again.encode(corpus)) == (grown.sha256, grown.encode(corpus))
    assert opened("bytes").extend(grown.added).sha256 != grown.sha256


def test_no_merge_makes_a_special_token_and_a_long_run_takes_no_time(kind: str) -> None:
    special = opened(kind)._specials
    said = ["a </s> b <eos> [SEP] <pad> [CLS]"] * 12 + WELSH
    grown = opened(kind).grown(said, SIZE)
    assert special and all(special.isdisjoint(ids) for ids in grown.encode(said))
    started = time.process_time()
    grown.encode(["traethhaul" * 100, "ᚠᛇᚻ" * 333])
    assert time.process_time() - started < 1.0  # 30 ms


def test_a_new_tokens_row_begins_as_the_mean_of_its_parts(tmp_path: Path) -> None:
    encoder = Encoder(open_base(write_base(tmp_path, GROUPS["siglip2"]), "cpu"))
    base, corpus = encoder.base_view, corpus_for(encoder)
    trainer = Trainer(encoder, base, corpus, tmp_path / "w", LearnSettings(epochs=1, batch_size=16))
    new = [number for number in trainer.used if number >= base.reading.vocabulary]
    assert new
    for number in new:
        parts, place = [number], trainer.used.tolist().index(number)
        while any(part >= base.reading.vocabulary for part in parts):
            parts = [
                each
                for part in parts
                for each in (trainer.tokenizer.parts(part) if part >= base.reading.vocabulary else (part,))
            ]
        torch.testing.assert_close(trainer.rows.detach()[place], encoder.base.table[parts].mean(dim=0))
