"""Tags, names and scripts."""

import time
from random import Random
from statistics import median

import pytest

from model.languages import MANY, can_read, canonicalize
from model.lexicon import Detector, count_ngrams, select_ngrams
from store.errors import LanguageTagInvalid
from tests.tiny import make_detector


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
    for number in range(5_000):
        canonicalize(f"en-x-a{number}")
    assert canonicalize.cache_info().currsize < 5_000


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
