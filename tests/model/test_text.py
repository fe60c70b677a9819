"""Texts: what cleaning refuses and keeps; mistyped words and forms of words; tags, names and scripts."""

import re
import time
from random import Random
from statistics import median

import langcodes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.languages import MANY, can_read, canonicalize
from model.lexicon import NO_WORDS, Detector, Lexicon, Speller, collect_words, count_ngrams, select_ngrams
from model.text import (
    MOST_BYTES,
    MOST_DOCUMENT_TERMS,
    MOST_QUERY_TERMS,
    build_pattern,
    clean,
    extract_query_terms,
    find_standalone_words,
    index_terms,
)
from store.errors import LanguageTagInvalid, PictoglotError
from tests.tiny import make_detector

WORDS = ["apple", "apples", "maple", "giraffe", "house", "mouse", "horse", "two", "cat", "Äpfel", "sailboat"]


def test_what_is_dropped_leaves_composed_letters() -> None:
    assert clean("e\u202a\u0301") == clean(clean("e\u202a\u0301")) == "\u00e9"


def test_the_limit_itself_passes() -> None:
    assert len(clean("a" * 1_000)) == 1_000


def test_composed_white_space_and_controls() -> None:
    assert clean("  e\u0301\t\n a\u2067b\u2069 \ufeff") == "é ab"
    assert clean("\u061cק\u200fט\u200e \u2060Was\u00adser") == "קט Wasser"


@given(st.text())
def test_cleaning_is_idempotent_or_a_refusal(text: str) -> None:
    try:
        once = clean(text)
    except PictoglotError:
        return
    assert clean(once) == once


# --- Words of a text: in every script, without case and accents, and nothing that a query language reads ---


anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


def found(query: str, text: str) -> bool:
    """Whether every term of a query is in the document of a text."""
    return bool(extract_query_terms(query)) and {*extract_query_terms(query)} <= {*index_terms([text])[0].split(" ")}


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("APFEL", "ein roter Äpfel"), ("zürich", "Zurich HB"), ("strasse", "Die Straße"), ("αθηναι", "Ἀθῆναι"),
        ("fine", "ﬁne"), ("猫", "黒猫がいる"), ("黒猫", "黒猫がいる"), ("ケース", "iPhoneケース"),
        ("사과", "사과를 먹다"), ("นก", "นกสีแดง"), ("می‌خواهم", "میخواهم"), ("हिन्दी", "हिन्दी में"),
        ("🍎", "an 🍎"), ("2024", "2024年"), ("p'isqu", "huk pʼisqu"), ("pʼisqu", "huk p’isqu"),
        ("pʻisqu", "huk p´isqu"), ('"fox" NEAR(dog', "near a fox and a dog"),
    ],
)  # fmt: skip
def test_a_text_is_found_by_its_words(query: str, text: str) -> None:
    assert found(query, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [("app", "apple"), ("猫黒", "黒猫"), ("黒白", "黒い白"), ("हि", "हिन्दी"), ("***", "*** a"), ("", "a")],
)
def test_and_by_nothing_else(query: str, text: str) -> None:
    assert not found(query, text)


@given(anything)
def test_terms_hold_nothing_that_a_query_reads_and_find_their_text(text: str) -> None:
    terms = extract_query_terms(text)
    assert all(re.fullmatch(r"[^\s\x00-\x2f\x3a-\x60\x7b-\x7f]{1,64}", term) for term in terms)
    assert len({*terms}) == len(terms) <= MOST_QUERY_TERMS
    stored, length = index_terms([text])
    assert stored.split(" ") == sorted({*stored.split(" ")}) and length == len(stored.split(" ")) * bool(stored)
    assert {*terms} <= {*stored.split(" ")}


def test_a_document_and_a_query_are_bounded() -> None:
    many = " ".join(f"word{number}" for number in range(MOST_DOCUMENT_TERMS + 500))
    assert index_terms([many, "more"])[1] == MOST_DOCUMENT_TERMS and len(extract_query_terms(many)) == MOST_QUERY_TERMS
    long = [f"{number:05}{'𐌰' * 59}" for number in range(5_000)]  # 241 bytes each
    terms, length = index_terms(long)
    assert terms.split() == long[:length]
    assert length == (MOST_BYTES + 1) // 242 and len(terms.encode()) == 242 * length - 1 <= MOST_BYTES
    assert max(map(len, extract_query_terms("x" * 1_000))) == 64 and found("x" * 1_000, "x" * 1_000)


# --- Words of unspaced scripts ---


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
    started = time.thread_time()
    assert len(expression.findall(text)) >= 400
    assert time.thread_time() - started < 0.5  # 0.2 ms


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("aple", ["apple", "maple"]), ("appel", ["apple"]), ("girafe", ["giraffe"]), ("giarffe", ["giraffe"]),
        ("sialbaot", ["sailboat"]), ("hosue", ["house"]), ("cet", ["cat"]), ("dog", []), ("apple", ["apples"]),
        ("xyz", []),
    ],
)  # fmt: skip
def test_a_mistyped_word_has_the_nearest_known_ones(typed: str, meant: list[str]) -> None:
    found = Speller(WORDS).suggest(typed)
    assert found[: len(meant)] == meant and (meant or not found)


def test_a_word_of_too_many_letters_is_not_looked_at() -> None:
    known = Speller(["ab" * 32 + "a", "ab" * 33])
    assert known.suggest("ab" * 32) and not known.suggest("ab" * 32 + "ac")


# --- Unknown words of a text are read by known ones, or left out and named ---


SWEDISH = Lexicon(collect_words(["en groda", "Trana", "korp", "hav", "strand", "fågel", "stad", "park"]))


def is_known(word: str) -> bool:
    return word == "albino"


@pytest.mark.parametrize(
    ("text", "read", "unknown"),
    [
        ("En groda!", "En groda!", ()),
        ("Stadspark", "stad park", ()),  # joined by an s
        ("fågelpark", "fågel park", ()),
        ("Korpar", "korp", ()),  # another form of it
        ("en krontrana", "en trana", ()),  # its head
        ("Parkbänken", "park", ()),  # what it begins with
        ("en albino groda", "en albino groda", ()),  # English that the base knows
        ("en xylofon, en groda", "en , en groda", ("xylofon",)),
        ("xylofon", "xylofon", ("xylofon",)),  # nothing would be left
        ("groda 7", "groda 7", ()),
    ],
)
def test_an_unknown_word_is_read_by_known_ones_or_left_out(text: str, read: str, unknown: tuple[str, ...]) -> None:
    found = SWEDISH.read(text, is_known)
    assert (found.text, found.unknown) == (read, unknown)


def test_of_forms_the_one_with_the_longest_common_beginning_is_read() -> None:
    russian = Lexicon(collect_words(["яблоко", "яблоня", "кошка", "кот"]))
    assert russian.read("яблоки", is_known).text == "яблоко"
    assert russian.read("Кошками", is_known).text == "кошка"
    assert russian.read("коту кошка", is_known).unknown == ("коту",)  # three letters in common are too few


@pytest.mark.parametrize(
    ("known", "text", "read"),
    [
        (["σκύλος", "γάτα"], "Σκυλος γατα", "σκύλος γάτα"),
        (["ёлка", "молоко", "étoile"], "елка молоко́ etoile", "ёлка молоко étoile"),
        (["رمان"], "رُمَّان", "رمان"),
        (["काम"], "कम", "कम"),  # there marks are vowels
        (["كلب", "قطة", "بحر"], "والكلب بالبحر للقطة", "كلب بحر قطة"),  # and the dog, in the sea, to the cat
        (["כלב", "ים"], "והכלב הים", "כלב"),  # two letters are too few
    ],
)
def test_marks_may_be_missing_and_what_is_written_in_one_with_the_next_word_is_taken_off(
    known: list[str], text: str, read: str
) -> None:
    assert Lexicon(collect_words(known)).read(text, is_known).text == read


@pytest.mark.parametrize("kind", "'`´ʹʻʼʽʾʿ׳‘’‚‛′＇")
def test_a_word_is_known_by_any_apostrophe_and_read_as_it_was_taught(kind: str) -> None:
    """Keyboards give another one than the captions have; older versions have words with letters as outer ones."""
    ukrainian = Lexicon(collect_words(["червоний м’яч", "об'єкт"]))
    read = ukrainian.read(f"Червоний м{kind}яч, м{kind}ячі, об{kind}єкт ж{kind}х", is_known)
    assert (read.text, read.unknown) == ("Червоний м’яч, м’яч, об'єкт", (f"ж{kind}х",))
    hawaiian = Lexicon(("hale", "ʻulaʻula"))
    assert hawaiian.read(f"hale {kind}ula{kind}ula", is_known).text == f"hale {kind}ulaʻula"


def test_scripts_without_spaces_and_texts_without_a_lexicon_stay() -> None:
    chinese = Lexicon(collect_words(["苹果", "red apple"]))
    assert chinese.words == ("apple", "red")
    assert chinese.read("绿苹果", is_known).text == "绿苹果"
    assert NO_WORDS.read("anything at all", is_known).text == "anything at all"


def test_a_word_of_a_thousand_letters_takes_no_time() -> None:
    started = time.thread_time()
    assert SWEDISH.read("ab" * 500, is_known).unknown == ("ab" * 500,)
    assert time.thread_time() - started < 0.1  # 0.2 ms


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("iw", "he"),
        ("eng", "en"),
        ("tl", "fil"),
        ("PT-br", "pt-BR"),
        ("zh-hant", "zh-Hant"),
        ("mi", "mi"),
        ("quz", "quz"),
        ("x-Kichwa-Lamas", "x-kichwa-lamas"),  # a community's own
        (" cy ", "cy"),
    ],
)
def test_tags_become_canonical(tag: str, expected: str) -> None:
    assert canonicalize(tag) == expected


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Welsh", "`cy`, Welsh"),
        ("Galés", "`cy`, Welsh"),
        ("runasimi", "`qu`, Quechua"),
        ("日本語", "`ja`, Japanese"),
        ("es_PE", "`es-PE`, Spanish (Peru)"),
        ("de_DE.UTF-8", "`de-DE`, German (Germany)"),
    ],
)
def test_the_name_of_a_language_and_a_locale_are_refused_with_the_tag(text: str, meant: str) -> None:
    with pytest.raises(LanguageTagInvalid) as refused:
        canonicalize(text)
    assert refused.value.detail.endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize("text", ["xx", "e", "../", "und", "multiple languages", "\ud800\ud800\ud800", "a" * 200])
def test_where_no_language_is_known_none_is_suggested(text: str) -> None:
    with pytest.raises(LanguageTagInvalid) as refused:
        canonicalize(text)
    assert refused.value.detail.endswith("`zh-Hant`")


def test_what_clients_name_is_not_remembered_without_end() -> None:
    for number in range(11_000):
        canonicalize(f"en-x-a{number}")
    for number in range(5_000):
        with pytest.raises(LanguageTagInvalid, match=r"`zh-Hant`$"):  # no private tag is suggested
            canonicalize(f"en_x_a{number}")
    assert canonicalize.cache_info().currsize < 5_000
    assert max(len(langcodes.Language._INSTANCES), len(langcodes.Language._PARSE_CACHE)) <= 10_000


@pytest.mark.parametrize(
    ("languages", "tag", "read"),
    [
        (("en",), "cy", False),
        (("en", "de"), "de", True),
        (("en", "de"), "de-AT", True),
        (("en", "zh-Hant"), "zh", False),
        (("en", MANY), "qu", True),
    ],
)
def test_a_list_covers_its_languages_and_their_kinds(languages: tuple[str, ...], tag: str, read: bool) -> None:
    assert can_read(languages, tag) is read


# --- Detection among learned languages: right on their own words, silent on strangers, unmoved by new languages ---


WELSH = ["afal coch a llong", "ci bach ar y môr", "haul a seren", "blodyn coch a chath"] * 3


MAORI = ["he āporo whero me te waka", "he kurī iti", "te rā me te whetū", "he putiputi whero"] * 3


ENGLISH = ["a red apple and a ship", "a small dog on the sea", "the sun and a star", "a red flower and a cat"] * 3


ALL = make_detector({"en": ENGLISH, "cy": WELSH, "mi": MAORI})


def test_texts_of_learned_languages_are_told_apart() -> None:
    for text, language in (("cath ar y llong", "cy"), ("he kurī whero", "mi"), ("the dog and the ship", "en")):
        guess = ALL.guess(text, ["en", "cy", "mi"])
        assert guess.language == language
        assert guess.confidence > 0.65
    assert ALL.guess("cath ar y llong", ["en", "mi"]).language != "cy", "only those asked for are named"


def test_a_stranger_is_not_claimed() -> None:
    for text in ("ⴰⵣⵓⵍ", "ᏣᎳᎩ", "12 34", "ჩემი სახლი"):
        assert ALL.guess(text, ["en", "cy", "mi"]).language is None


def test_equal_evidence_is_a_tie_not_a_guess() -> None:
    twins = make_detector({"da": WELSH, "no": WELSH})
    guess = twins.guess("afal coch", ["da", "no"])
    assert guess.language is None
    assert guess.ties == ("da", "no")


def test_no_more_is_counted_than_a_version_may_store() -> None:
    letters = [chr(code) for code in range(0x4E00, 0x5800)]
    random = Random(0)
    counted = count_ngrams(["".join(random.choices(letters, k=200)) for _ in range(300)])
    assert len(counted) == 50_000
    assert min(counted[letter] for letter in letters) > 1  # the commonest stay


def test_a_new_language_leaves_the_counts_of_the_others() -> None:
    before = make_detector({"en": ENGLISH, "cy": WELSH})
    after = before.replace_counts("mi", count_ngrams(MAORI))
    assert after.counts["cy"] is before.counts["cy"]
    assert before.guess("cath ar y llong", ["en", "cy"]) == after.guess("cath ar y llong", ["en", "cy"])


@pytest.mark.timing
def test_a_language_is_told_among_thirty_six_and_a_long_text_takes_hardly_longer_than_a_sentence() -> None:
    random = Random(0)
    words = [["".join(random.choices(f"abcdefghij{chr(0x430 + n)}", k=6)) for _ in range(300)] for n in range(36)]
    captions = {f"l{n}": [" ".join(random.choices(own, k=6)) for _ in range(600)] for n, own in enumerate(words)}
    detector = make_detector(captions)
    took: dict[int, list[float]] = {1: [], 5: [], 20: [], 140: []}
    for _ in range(60):
        for length, times in took.items():  # in turns: others run beside
            text = " ".join(random.choices(words[7], k=length))[:1_000]
            started = time.thread_time()
            guess = detector.guess(text, captions)
            times.append(time.thread_time() - started)
            assert guess.language == "l7" or (length == 1 and guess.language is None)  # a word may be in two of them
    assert median(took[140]) < 2 * median(took[20])


def test_a_long_text_is_told_by_words_from_all_of_it() -> None:
    for sentence, language in (("afal coch a llong ar y môr", "cy"), ("a red apple and a ship on the sea", "en")):
        guess = ALL.guess("he kurī iti " * 9 + f"{sentence} " * 6, ["cy", "en", "mi"])
        assert guess.language == language


def test_counts_of_what_is_asked_alone_guess_as_all_of_them_do() -> None:
    texts = ["cath ar y llong", "he kurī whero", "afal", "ჩემი სახლი", "a dog on the sea " * 40]
    grams = {gram for text in texts for gram in select_ngrams(text)}
    small = Detector()
    for language, counts in ALL.counts.items():
        small = small.replace_counts(language, counts, grams)
        assert set(small.counts[language]) == set(counts) & grams
    for text in texts:
        assert small.guess(text, ALL.counts) == ALL.guess(text, ALL.counts)
