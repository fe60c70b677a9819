"""Emoji-36 from made-up packages: what is shown in which style, what is asked, and what names its captions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.emoji36.data import EmojiData, Vectors, load_emoji36
from benchmarks.emoji36.lexicon import LANGUAGES
from benchmarks.emoji36.scenes import Sizes
from model.base import Base, open_base
from model.encoder import Encoder
from tests.benchmarks.emoji_folder import EMOJIS, PINK, SHARED, own_keyword, write_npm

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
def base(tiny_base: str) -> Base:
    return open_base(tiny_base, "cpu")


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
