"""Tests for the demo gallery: what is in it, its captions, and that it is the same everywhere."""

import io
from collections import Counter

from PIL import Image, ImageChops

from demo.emojis import LANGUAGES, load_catalogue
from demo.gallery import SIDE, digest, draw, draw_pictures, list_outlines
from demo.scenes import is_held_out, sort_names

# sha256 over ids, captions and pixels of every 16th picture; `python -m demo digest` tells that of all too
SAMPLE = "e6b27ed15b6c0951518780ef39a727f1405fd3aa33e8b38ed7f9689cb10a295c"


def test_the_gallery_has_enough_singles_and_scenes_of_both_drawing_sets() -> None:
    counts = Counter(len(outline.objects) for outline in list_outlines())
    assert counts[1] >= 1500
    assert counts[2] + counts[3] >= 2000
    assert min(counts[2], counts[3]) > 500
    sets = Counter(outline.drawing_set for outline in list_outlines())
    assert min(sets.values()) > 0.4 * len(list_outlines())


def test_every_emoji_has_a_name_of_its_own_in_every_language() -> None:
    for language in ("en", *LANGUAGES):
        assert all(each.names[language] for each in load_catalogue())
    assert len({each.name for each in load_catalogue()}) == len(load_catalogue())


def test_scenes_are_distinct_combinations_that_training_never_sees() -> None:
    scenes = [outline.objects for outline in list_outlines() if len(outline.objects) > 1]
    assert len({sort_names(objects) for objects in scenes}) == len(scenes)
    assert all(is_held_out(objects) for objects in scenes)


def test_pictures_carry_what_their_outlines_say() -> None:
    wanted = {"emoji-1f34e", "scene-0001", "scene-2450"}
    drawn = list(draw_pictures(without={outline.id for outline in list_outlines()} - wanted))
    assert {picture.id for picture in drawn} == wanted
    by_id = {outline.id: outline for outline in list_outlines()}
    for picture in drawn:
        outline = by_id[picture.id]
        assert picture.captions == {"en": [outline.caption]}
        assert picture.objects == tuple(each.characters for each in outline.objects)
        with Image.open(io.BytesIO(picture.content)) as decoded:
            assert (decoded.format, decoded.mode, decoded.size) == ("PNG", "RGB", (SIDE, SIDE))
            assert ImageChops.difference(decoded, draw(outline)).getbbox() is None


def test_a_sample_of_the_gallery_is_the_same_on_every_machine() -> None:
    assert digest(list_outlines()[::16]) == SAMPLE
