"""Tests for the demo gallery: what is in it, its captions, and that it is the same everywhere."""

import io
import re
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


def test_ids_are_unique_and_legal() -> None:
    ids = [outline.id for outline in list_outlines()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"(emoji-[0-9a-f-]+|scene-\d{4})", id_) for id_ in ids)
    assert {"emoji-1f34e", "scene-0001"} <= set(ids)


def test_every_emoji_has_a_name_of_its_own_in_every_language() -> None:
    for language in ("en", *LANGUAGES):
        assert all(each.names[language] for each in load_catalogue())
    assert len({each.name for each in load_catalogue()}) == len(load_catalogue())


def test_a_scene_caption_splits_back_into_its_names() -> None:
    for outline in list_outlines():
        names = [each.name for each in outline.objects]
        if len(names) > 1:
            assert re.split(r", and |, | and ", outline.caption) == names


def test_captions_follow_the_english_list_pattern() -> None:
    captions = {len(outline.objects): outline.caption for outline in list_outlines()}
    assert ", " not in captions[2] and captions[2].count(" and ") == 1
    assert captions[3].count(", ") == 2 and captions[3].count(", and ") == 1


def test_scenes_are_distinct_combinations_that_training_never_sees() -> None:
    scenes = [outline.objects for outline in list_outlines() if len(outline.objects) > 1]
    assert len({sort_names(objects) for objects in scenes}) == len(scenes)
    assert all(is_held_out(objects) for objects in scenes)


def test_the_order_of_objects_does_not_change_whether_a_combination_is_held_out() -> None:
    pairs = zip(load_catalogue()[:200], load_catalogue()[200:], strict=False)
    assert all(is_held_out((a, b)) == is_held_out((b, a)) for a, b in pairs)


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
