"""Rules for scenes that gallery and training share: names, places, and which combinations are held out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from babel.lists import format_list

from demo.emojis import Emoji, load_catalogue

_HELD_OUT_OF = 5  # one combination in five is never trained on
_SIDES = {1: (0.62, 0.92), 2: (0.34, 0.56), 3: (0.28, 0.44)}  # of the canvas, by how many objects share it
_MARGIN = 0.05  # of the canvas, both edges together: nothing touches the border
_OVERLAP = 0.82  # least distance of two centres along one axis, as a fraction of the mean side


@dataclass(frozen=True)
class Place:
    """Where an object is: centre and longer side, as fractions of the canvas."""

    x: float
    y: float
    side: float


def draw_places(count: int, random: Random) -> list[Place]:
    """Return places of different sizes for 1 to 3 objects, inside the canvas, without hiding each other."""
    while True:
        sides = [random.uniform(*_SIDES[count]) for _ in range(count)]
        spots = [Place(_draw_inside(side, random), _draw_inside(side, random), side) for side in sides]
        if all(_are_apart(a, b) for index, a in enumerate(spots) for b in spots[:index]):
            return spots


def _draw_inside(side: float, random: Random) -> float:
    reach = (1 - _MARGIN) / 2 - side / 2
    return 0.5 + random.uniform(-reach, reach)


def _are_apart(a: Place, b: Place) -> bool:
    return max(abs(a.x - b.x), abs(a.y - b.y)) >= _OVERLAP * (a.side + b.side) / 2


def join_names(names: Sequence[str], language: str = "en") -> str:
    """Return names joined by the language's CLDR list pattern: "red apple and rocket"; a single name is itself."""
    return format_list(list(names), locale=language)


def sort_names(objects: Sequence[Emoji]) -> str:
    """Return what a scene shows, regardless of order."""
    return " ".join(sorted(each.characters for each in objects))


def is_held_out(objects: Sequence[Emoji]) -> bool:
    """Whether this combination is kept out of base training; gallery and evaluation use only such scenes."""
    return hash_text(sort_names(objects)) % _HELD_OUT_OF == 0


def hash_text(text: str) -> int:
    """Return an integer that depends only on the text, the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def list_scene_emojis() -> tuple[Emoji, ...]:
    """Return emoji whose names can be separated again in a joined caption: no comma and no " and "."""
    return tuple(each for each in load_catalogue() if "," not in each.name and " and " not in each.name)
