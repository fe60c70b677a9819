"""The stamps: what is read of them, how they are split, and how a base is asked."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.stamps.data import KEPT_AWAY, read_stamps
from benchmarks.stamps.english import find_known, measure, open_encoder, open_noun_reader
from demo.photos.packages import fetch
from demo.photos.wordnet import WordNet
from tests.demo import small_wordnet
from tests.tiny import write_tiny_base


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, one of them a cartoon, one a symbol, and a description without a picture."""
    folder = tmp_path_factory.mktemp("stamps")
    names = [f"animals/{number}" for number in range(10)] + ["food/cartoon/pear", "symbols/one"]
    for place, name in enumerate(names):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = tuple(np.random.default_rng(place).integers(0, 256, 3).tolist())
        Image.new("RGBA", (100, 50), (*colour, 255 if place else 0)).save(path)
        lines = [
            f"A {small_wordnet.name_class(place)}.",
            "cs.utf8=Pes.",
            "zu.utf8=Isilwane.",
            "ach.utf8=Le",
            "de.utf8= ",
        ]
        path.with_suffix(".txt").write_text("\n".join(lines), "utf-8")
    (folder / "animals" / "nothing.txt").write_text("A thing.")
    return folder


def test_captions_are_read_by_language_and_four_languages_are_not(root: Path) -> None:
    found = read_stamps(root)
    assert [stamp.name for stamp in found] == sorted(stamp.name for stamp in found) and len(found) == 12
    assert all({*stamp.captions} == {"en", "cs"} for stamp in found)
    assert found[3].english == f"A {small_wordnet.name_class(3)}." and found[3].captions["cs"] == "Pes."
    assert {"ach", "iu", "son", "zu"} == KEPT_AWAY


def test_a_base_is_asked_by_one_half_among_the_pictures_of_both(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    work = tmp_path_factory.mktemp("work")
    small_wordnet.write(work / "packages")
    packages = fetch(work / "packages")
    name = small_wordnet.name_class(7)
    assert open_noun_reader(WordNet.read(packages))(f"Two {name}s, and a stranger's idea!") == [name, "idea"]
    assert find_known({f"A {name}.", "A stranger.", "Animals"}, packages) == {
        f"A {name}.": True, "A stranger.": False, "Animals": False,
    }  # fmt: skip
    shown = [stamp for stamp in read_stamps(root) if stamp.is_photograph]
    encoder = open_encoder(write_tiny_base(work), work)
    found = {half: measure(encoder, shown, half, work, packages) for half in ("dev", "test")}
    assert found["dev"]["all"]["captions"] + found["test"]["all"]["captions"] == 10
    for part in found.values():
        assert part["pictures"] == 10 and part["all"]["R@10"] == 100.0 and part["kinds"].keys() == {"animals"}
        assert part["known"]["captions"] == part["all"]["captions"] and part["not known"]["captions"] == 0
