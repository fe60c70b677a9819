"""Which scenes are shown and what is said of them: alike everywhere, and never asked as it was taught."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import pytest
from babel.lists import format_list

from benchmarks.emoji36 import lexicon, scenes
from benchmarks.emoji36.lexicon import Lexicon, Word, convert_tag, strip_selector
from demo.gallery import Outline
from demo.scenes import is_held_out, sort_names
from tests.benchmarks.emoji_folder import EMOJIS, SHARED, UNDRAWN, own_keyword, write_npm

TAUGHT, ASKED = 3_000, 60
TOLD = ("en", "de", "quz", "zh")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npm(tmp_path_factory.mktemp("npm"))


@pytest.fixture(scope="module")
def words(folder: Path) -> Lexicon:
    return lexicon.read_cldr(folder)


@pytest.fixture(scope="module")
def taught() -> list[Outline]:
    return scenes.list_training_scenes(SHARED, TAUGHT)


def make_word(words: Lexicon, language: str, scene: Outline, place: int = 0) -> Word:
    return words[language][strip_selector(scene.objects[place].characters)]


def test_only_emoji_that_all_languages_name_and_that_are_drawn_are_shown(words: Lexicon) -> None:
    drawn = {strip_selector(each.characters) for each in EMOJIS if each != UNDRAWN}
    assert scenes.list_shared_emojis(words, drawn) == SHARED
    assert UNDRAWN in scenes.list_shared_emojis(words)


def test_no_combination_that_is_asked_was_taught(taught: list[Outline]) -> None:
    scenes_shown = scenes.test_scenes(SHARED, ASKED)
    shown = {sort_names(scene.objects) for scene in scenes_shown}
    assert len(shown) == ASKED and all(len({each.code for each in scene.objects}) == 3 for scene in scenes_shown)
    assert not shown & {sort_names(scene.objects) for scene in taught}
    assert not any(is_held_out(scene.objects) for scene in taught if len(scene.objects) > 1)
    # Not by chance: so many scenes of three show a good part of all that are not held out.
    triples = {sort_names(scene.objects) for scene in taught if len(scene.objects) == 3}
    assert len(triples) > 0.1 * len([*combinations(SHARED, 3)])


def test_every_emoji_is_taught_and_every_kind_of_scene_in_both_styles(taught: list[Outline]) -> None:
    assert [scene.objects for scene in taught[: len(SHARED)]] == [(each,) for each in SHARED]
    kinds = {(len(scene.objects), scene.drawing_set) for scene in taught}
    assert kinds == {(count, style) for count in (1, 2, 3) for style in ("twemoji", "openmoji")}


def test_lists_are_joined_as_when_the_suite_was_measured() -> None:
    """Babel's releases have other lists: 2.19 has no comma before the last "and" of Hindi, where 2.18 has one.

    Rows of other captions stand in no table together: where this fails, all of docs/reports/methods.json is run again.
    """
    lists = [format_list([*"123"[:count]], locale=convert_tag(tag)) for tag in lexicon.LANGUAGES for count in (2, 3)]
    assert sha256(json.dumps(lists).encode()).hexdigest()[:12] == "68dba1115739"


def list_renamed(words: Lexicon, language: str, scene: Outline, caption: str) -> list[int]:
    """Return the places of objects that the caption does not call by their names; the rest must be in order."""
    parts = caption.replace(", and ", ", ").replace(" and ", ", ").split(", ")
    assert len(parts) == len(scene.objects)
    changed = []
    for place, part in enumerate(parts):
        spoken = make_word(words, language, scene, place)
        assert part == spoken.name or part in spoken.keywords
        changed += [place] if part != spoken.name else []
    return changed


def test_one_caption_in_four_calls_one_object_by_a_keyword(words: Lexicon, taught: list[Outline]) -> None:
    places = {
        tag: [
            list_renamed(words, tag, scene, said)
            for scene, said in zip(taught, scenes.make_captions(taught, words, tag), strict=True)
        ]
        for tag in ("en", "quz")  # that join with commas
    }
    assert max(map(len, places["en"])) == 1
    share = sum(map(bool, places["en"])) / TAUGHT
    assert share == pytest.approx(scenes.KEYWORD_SHARE, abs=0.03) and scenes.KEYWORD_SHARE == 0.25
    assert places["en"] == places["quz"]  # every language calls the same object otherwise
    assert {place for of_scene in places["en"] for place in of_scene} == {0, 1, 2}


def test_singles_ask_by_a_keyword_that_no_other_emoji_bears(words: Lexicon) -> None:
    singles = scenes.list_single_scenes(SHARED, len(SHARED))
    assert [scene.objects for scene in singles] == [(each,) for each in SHARED]
    by_place = dict(scenes.list_by_keyword(singles, words, "en"))
    alone = {place: scene.objects[0] for place, scene in enumerate(singles) if EMOJIS.index(scene.objects[0]) % 5}
    assert by_place == {place: own_keyword("en", each) for place, each in alone.items()} and len(by_place) < len(
        singles
    )


def digest(folder: Path) -> str:
    """Return a digest of all scenes and of what is said of them."""
    words = lexicon.read_cldr(folder)
    shown = [
        scenes.list_training_scenes(SHARED, 600),
        scenes.test_scenes(SHARED, ASKED),
        scenes.list_single_scenes(SHARED, 12),
    ]
    outlines = [(scene.id, scene.drawing_set, sort_names(scene.objects)) for part in shown for scene in part]
    said = [scenes.make_captions(part, words, tag) for part in shown for tag in TOLD]
    keywords = [[*scenes.list_by_keyword(shown[2], words, tag)] for tag in TOLD]
    return sha256(json.dumps([outlines, said, keywords]).encode()).hexdigest()


def test_another_process_shows_and_says_the_same_to_the_bit(folder: Path) -> None:
    """Whatever order its sets have."""
    lines = (
        "import sys",
        "from pathlib import Path",
        f"from {__name__} import digest",
        "sys.exit(digest(Path(sys.argv[1])))",
    )
    command = [sys.executable, "-c", "; ".join(lines), str(folder)]
    environment, root = {**os.environ, "PYTHONHASHSEED": "1"}, Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=root)
    assert done.stderr.strip() == digest(folder)
