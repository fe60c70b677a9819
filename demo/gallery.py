"""The demo gallery: 1,544 single drawings and 2,450 scenes with English captions, the same everywhere."""

import hashlib
import io
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from random import Random

from PIL import Image

from demo.drawings import SETS, load_drawing
from demo.emojis import Emoji, load_catalogue
from demo.scenes import draw_places, hash_text, is_held_out, join_names, list_scene_emojis, sort_names

Cut = Callable[[str, str, int], Image.Image]  # characters, set, side: as `demo.drawings.load_drawing`

SIDE = 256  # pixels a side of a picture
SCENES = 2450
_PAIRS_IN_FIVE = 3  # of five scenes show two objects, the others three


@dataclass(frozen=True)
class Outline:
    """What a picture of the gallery shows, before it is drawn. Scenes are combinations that training never sees."""

    id: str
    objects: tuple[Emoji, ...]
    drawing_set: str

    @property
    def caption(self) -> str:
        return join_names([each.name for each in self.objects])


@dataclass(frozen=True)
class DemoPicture:
    """A picture of the gallery: `content` is a PNG, `captions` by language, `objects` the emoji it shows."""

    id: str
    content: bytes
    captions: dict[str, list[str]]
    objects: tuple[str, ...]
    drawing_set: str


def draw_pictures(without: Container[str] = frozenset()) -> Iterator[DemoPicture]:
    """Yield all pictures of the gallery except the ids in `without`, singles first, drawn one at a time."""
    for outline in list_outlines():
        if outline.id not in without:
            content = io.BytesIO()
            draw(outline).save(content, "PNG", compress_level=4)
            objects = tuple(each.characters for each in outline.objects)
            captions = {"en": [outline.caption]}
            yield DemoPicture(outline.id, content.getvalue(), captions, objects, outline.drawing_set)


@cache
def list_outlines() -> tuple[Outline, ...]:
    """Return what is in the gallery, singles first; draws nothing."""
    singles = [Outline(f"emoji-{each.code}", (each,), _set_of(each.code)) for each in load_catalogue()]
    return (*singles, *_list_scenes())


def draw(outline: Outline, cut: Cut = load_drawing) -> Image.Image:
    """Return the picture in RGB, the same pixels on every machine; `cut` may supply drawings of another set."""
    random = Random(outline.id)
    picture = _draw_ground(random)
    for each, place in zip(outline.objects, draw_places(len(outline.objects), random), strict=True):
        drawn = cut(each.characters, outline.drawing_set, round(place.side * SIDE))
        corner = (round(place.x * SIDE) - drawn.width // 2, round(place.y * SIDE) - drawn.height // 2)
        picture.paste(drawn, corner, drawn)
    return picture


def digest(chosen: Iterable[Outline]) -> str:
    """Return sha256 over ids, captions and pixels: equal on two machines exactly when they have the same gallery."""
    total = hashlib.sha256()
    for outline in chosen:
        total.update(f"{outline.id}\n{outline.caption}\n".encode())
        total.update(draw(outline).tobytes())
    return total.hexdigest()


def _list_scenes() -> list[Outline]:
    emojis, seen, scenes = list_scene_emojis(), set[str](), list[Outline]()
    random = Random("scenes")
    while len(scenes) < SCENES:
        objects = tuple(random.sample(emojis, 2 if len(scenes) % 5 < _PAIRS_IN_FIVE else 3))
        if is_held_out(objects) and sort_names(objects) not in seen:
            seen.add(sort_names(objects))
            id_ = f"scene-{len(scenes) + 1:04}"
            scenes.append(Outline(id_, objects, _set_of(id_)))
    return scenes


def _set_of(text: str) -> str:
    return SETS[hash_text(text) % len(SETS)]


def _draw_ground(random: Random) -> Image.Image:
    """Return a plain, graded or clouded background in two light colours, from integer arithmetic only."""
    first, second = (Image.new("RGB", (SIDE, SIDE), _draw_light_colour(random)) for _ in range(2))
    kind = random.randrange(4)
    if kind == 0:
        return first
    if kind == 1:
        mask = Image.linear_gradient("L").transpose(random.choice(list(Image.Transpose)))
    elif kind == 2:
        mask = Image.radial_gradient("L")
    else:
        mask = Image.frombytes("L", (6, 6), random.randbytes(36)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return Image.composite(first, second, mask)


def _draw_light_colour(random: Random) -> tuple[int, int, int]:
    return random.randrange(186, 256), random.randrange(186, 256), random.randrange(186, 256)
