"""Emoji-36 from made-up packages: what is shown in which style, what is asked, and what names its captions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.emoji36 import lexicon
from benchmarks.emoji36.data import EmojiData, Vectors, load_emoji36
from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.lexicon import LANGUAGES
from benchmarks.emoji36.scenes import Sizes
from model.base import Base
from model.encoder import Encoder
from tests.benchmarks.emoji_folder import (
    EMOJIS,
    PINK,
    SHARED,
    UNNAMED,
    name,
    own_keyword,
    write_annotations,
    write_drawing,
    write_npm,
)

SIZES = Sizes(train=60, test=12, singles=37)
GROUND = 186  # every channel of every ground is at least so light


class Looking(Encoder):
    """Makes of a picture the shares of its pixels that are the third style's, the ground's, and of something else."""

    def encode_pictures(self, images: Sequence[Image.Image], batch: int = 64) -> Vectors:
        colours = []
        for image in images:
            pixels = np.asarray(image)
            third, ground = (pixels == PINK).all(axis=2), (pixels >= GROUND).all(axis=2)
            colours.append([third.mean(), ground.mean(), 1 - (third | ground).mean()])
        return np.array(colours, dtype=np.float32)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    write_npm(folder / "npm")
    return folder


@pytest.fixture(scope="module")
def data(base: Base, work: Path) -> EmojiData:
    return load_emoji36(Looking(base), SIZES, work)


def test_the_emoji_are_those_that_all_36_share_however_few_languages_are_asked(
    base: Base, work: Path, data: EmojiData
) -> None:
    assert data.languages == LANGUAGES and data.sizes["emoji"] == len(SHARED) == len(EMOJIS) - 2
    few = load_emoji36(Looking(base), SIZES, work, ["en", "tr"])
    assert few.languages == ["en", "tr"] and [*few.digests()] == ["en", "tr"]
    assert few.sizes == data.sizes and few.fingerprint == data.fingerprint


def test_only_the_gallery_of_unseen_style_shows_it_and_shows_nothing_else(data: EmojiData) -> None:
    third, _, other = data.galleries["unseen"].T
    assert len(third) == SIZES.test and (third > 0.05).all() and (other == 0).all()
    taught = data.build_corpus("en").pictures.numpy()
    for shown in (data.galleries["seen"], data.galleries["singles"], taught):
        third, _, other = shown.T
        assert (third == 0).all() and (other > 0.005).all()
    assert [len(data.galleries[each]) for each in ("seen", "singles")] == [SIZES.test, SIZES.singles]


def test_scenes_are_asked_in_both_styles_and_singles_by_keyword(data: EmojiData) -> None:
    for language in ("en", "quz", "mi"):
        tests = data.tests(language)
        assert {key: test.galleries for key, test in tests.items()} == {
            "scenes": ("seen", "unseen"),
            "keywords": ("singles",),
        }
        keywords = tests["keywords"]
        assert keywords.captions == [own_keyword(language, SHARED[place]) for place in keywords.owner]
        assert len(keywords.captions) == sum(EMOJIS.index(each) % 5 > 0 for each in SHARED)
        assert [*tests["scenes"].owner] == [*range(SIZES.test)]


def test_fewer_pairs_are_some_of_the_same_and_other_data(base: Base, work: Path, data: EmojiData) -> None:
    few, whole = load_emoji36(Looking(base), replace(SIZES, pairs=20), work), data.build_corpus("fi")
    some = few.build_corpus("fi")
    assert (len(some.captions), len(some.pivot_texts), few.sizes["train"]) == (20, 20, 20)
    for caption, picture, text in zip(some.captions, some.pictures, some.pivot_texts, strict=True):
        place = next(at for at, other in enumerate(whole.pictures) if torch.equal(picture, other))
        assert (caption, text) == (whole.captions[place], whole.pivot_texts[place])
    assert few.fingerprint != data.fingerprint
    assert few.digests()["en"] != data.digests()["en"]
    assert few.tests("fi")["scenes"].captions == data.tests("fi")["scenes"].captions


# --- Names and keywords of emoji, as Unicode's npm packages hold them ---


SUN, FIRE, HUNDRED, RUNNER = "\u2600", "\U0001f525", "\U0001f4af", "\U0001f3c3\u200d\u2642"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plainly = {
        SUN: {"tts": ["sun"], "default": ["bright", "weather", "sun"]},
        FIRE: {"tts": ["fire, flame"], "default": ["weather", "hot", "bright", "weather map", "🔥"]},
        HUNDRED: {"tts": ["hundred points"], "default": ["100", "full"]},
        "\u2614": {"default": ["has no name"]},
    }
    derived = {f"{RUNNER}\ufe0f": {"tts": ["man running"], "default": ["man"]}}
    write_annotations(tmp_path, "en", plainly, derived)
    return tmp_path


def test_names_come_from_both_packages_under_keys_without_the_selector(folder: Path) -> None:
    (words,) = lexicon.read_cldr(folder, ["en"]).values()
    assert {key: word.name for key, word in words.items()} == {
        SUN: "sun",
        FIRE: "fire",  # the alternative after the comma is none
        HUNDRED: "hundred points",
        RUNNER: "man running",
    }


def test_all_languages_are_read_in_the_papers_order(tmp_path: Path) -> None:
    words = lexicon.read_cldr(write_npm(tmp_path))
    assert tuple(words) == LANGUAGES and len(words) == 36
    assert {tag: len(names) for tag, names in words.items() if len(names) < len(EMOJIS)} == {"mi": len(EMOJIS) - 1}
    assert words["quz"][lexicon.strip_selector(UNNAMED.characters)].name == name("quz", UNNAMED)


def test_what_was_not_fetched_is_refused_with_the_command_that_fetches_it(folder: Path) -> None:
    for ask in (lambda: lexicon.read_cldr(folder, ["en", "quz"]), lambda: lexicon.find_noto(folder)):
        with pytest.raises(Refused, match=r"python -m benchmarks\.emoji36 data") as refused:
            ask()
        assert str(refused.value).startswith(str(folder)) and "\n" not in str(refused.value)
    with pytest.raises(Refused, match="no names in quz"):
        lexicon.read_cldr(folder, ["en", "quz"])
    write_drawing(folder, "2600")
    assert [path.name for path in lexicon.find_noto(folder).iterdir()] == ["2600.png"]
