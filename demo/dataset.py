"""The learning dataset of a language for the demo gallery: its names joined by its list pattern. Draws nothing."""

import json

from demo.emojis import LANGUAGES
from demo.gallery import Outline, outlines
from demo.scenes import hashed, joined

_HELD_OUT_OF = 5  # one scene in five is held out as `val`


def rows(tag: str) -> list[dict[str, str]]:
    """One row a picture: `caption` in the language, `english`, `picture`, `split`; all single drawings are `train`.

    Raises `ValueError` for a language whose names the `emoji` package lacks.
    """
    if tag not in LANGUAGES:
        raise ValueError(f"the emoji package has no names in {tag!r}; it has them in {', '.join(LANGUAGES)}")
    return [
        {
            "caption": joined([each.names[tag] for each in outline.objects], tag),
            "english": outline.caption,
            "picture": outline.id,
            "split": _split(outline),
        }
        for outline in outlines()
    ]


def lines(tag: str) -> str:
    """`rows` as UTF-8 JSON lines, one row a line, as `POST /v1/languages` takes them."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(tag))


def _split(outline: Outline) -> str:
    held_out = len(outline.objects) > 1 and hashed(outline.id) % _HELD_OUT_OF == 0
    return "val" if held_out else "train"
