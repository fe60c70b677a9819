"""The dataset of a language for the demo gallery: emoji names, joined by the list pattern. Draws nothing."""

import json

from demo.emojis import LANGUAGES
from demo.gallery import Outline, list_outlines
from demo.scenes import hash_text, join_names

_HELD_OUT_OF = 5  # one scene in five is held out as `val`


def build_rows(tag: str) -> list[dict[str, str]]:
    """Return a row per picture: `caption` in the language, `english`, `picture`, `split`; single drawings are `train`.

    Raises `ValueError` for a language without names in the `emoji` package.
    """
    if tag not in LANGUAGES:
        raise ValueError(f"The emoji package has no names in {tag!r}. It has them in {', '.join(LANGUAGES)}")
    return [
        {
            "caption": join_names([each.names[tag] for each in outline.objects], tag),
            "english": outline.caption,
            "picture": outline.id,
            "split": _split(outline),
        }
        for outline in list_outlines()
    ]


def format_lines(tag: str) -> str:
    """Return `build_rows` as UTF-8 JSON lines, as `POST /v1/languages` accepts them."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in build_rows(tag))


def _split(outline: Outline) -> str:
    held_out = len(outline.objects) > 1 and hash_text(outline.id) % _HELD_OUT_OF == 0
    return "val" if held_out else "train"
