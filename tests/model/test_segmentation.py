"""Words of unspaced scripts."""

import re
import time

from model.segmentation import build_pattern, find_standalone_words


def test_what_stands_alone_and_in_longer_runs_is_a_word_and_compounds_are_not() -> None:
    corpus = ["苹果", "汽车", "苹果和汽车", "香蕉、苹果", "香蕉和汽车和苹果"]
    assert set(find_standalone_words(corpus)) == {"汽车", "苹果", "香蕉"}


def test_sentences_are_no_words() -> None:
    """They stand alone too, but never inside others; their number must not grow with the corpus."""
    syllables = ["กา", "ขี", "คู", "แง", "โจ", "ไช", "ซำ", "ญะ", "ดี", "ตู", "ถา", "ทำ"]
    sentences = ["".join(syllables[(i * k + k * k) % 12] for k in range(3, 14)) + str(i) for i in range(3_000)]
    assert len(find_standalone_words(sentences)) <= 4_000
    distinct = [text for text in sentences if len(text) > 24]
    assert find_standalone_words(distinct) == ()


def test_the_order_does_not_depend_on_the_corpus_order() -> None:
    corpus = ["苹果", "汽车", "红色问号", "香蕉和汽车", "帆船和海和苹果"]
    assert find_standalone_words(corpus) == find_standalone_words(corpus[::-1])


def test_the_pattern_finds_the_longest_word() -> None:
    expression = re.compile(build_pattern(["苹果", "苹果汁", "汽车", "a.b"]))
    assert expression.findall("苹果汁和苹果a.b汽车axb") == ["苹果汁", "苹果", "a.b", "汽车"]


def test_thousands_of_words_cut_a_long_text_quickly() -> None:
    words = [chr(0x4E00 + i % 800) + chr(0x5E00 + i // 800) for i in range(4_000)]
    expression = re.compile(build_pattern(words))
    text = "".join(words[::9])[:1_000]
    started = time.process_time()
    assert len(expression.findall(text)) >= 400
    assert time.process_time() - started < 2.0  # about a millisecond
