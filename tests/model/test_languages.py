"""Tags, names and scripts."""

import pytest

from model.languages import MANY, can_read, canonicalize, find_names, find_scripts, is_in_script
from store.errors import LanguageTagInvalid


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


def test_names_in_their_own_script_and_direction() -> None:
    assert find_names("cy").native_name == "Cymraeg"
    assert find_names("zh-TW").native_name == "中文（繁體, 台灣）"
    assert find_names("pa-PK").native_name.startswith("پنجابی")
    assert (find_names("ar").direction, find_names("te").direction) == ("rtl", "ltr")
    assert find_names("he").name == "Hebrew"


def test_scripts_and_majority() -> None:
    assert find_scripts("ja") == {"Hani", "Hira", "Kana"}
    assert is_in_script("सेब iPhone और कार", "hi") is True
    assert is_in_script("a red apple", "hi") is False
    assert is_in_script("りんご と 車", "ja") is True
    assert is_in_script("123", "hi") is None


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
