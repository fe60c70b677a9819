"""A folder as `python -m benchmarks.emoji36 data` fetches it, of 39 emoji: names are made up, drawings are squares.

One emoji has no drawing of the third style, one no name in Māori; neither may be shown.
"""

import json
from pathlib import Path

from PIL import Image

from benchmarks.emoji36.lexicon import LANGUAGES, strip_selector
from demo.emojis import Emoji
from demo.scenes import list_scene_emojis

EMOJIS = list_scene_emojis()[::40]  # some with U+FE0F and joiners
UNDRAWN, UNNAMED = EMOJIS[7], EMOJIS[20]
SHARED = tuple(each for each in EMOJIS if each not in (UNDRAWN, UNNAMED))
PINK = (255, 0, 255)  # of every drawing of the third style, and of nothing in the others


def name(language: str, emoji: Emoji) -> str:
    return f"{language} {_spell(EMOJIS.index(emoji))}"


def own_keyword(language: str, emoji: Emoji) -> str:
    """Return one that the emoji alone bears."""
    return f"{name(language, emoji)} alone"


def write_npm(folder: Path) -> Path:
    """Return every second emoji in the package of derived names; Quechua under CLDR's own tag."""
    for language in LANGUAGES:
        named = [each for each in EMOJIS if (language, each) != ("mi", UNNAMED)]
        entries = {strip_selector(each.characters): _build_entry(language, each) for each in named}
        tag = {"quz": "qu"}.get(language, language)
        write_annotations(folder, tag, dict([*entries.items()][::2]), dict([*entries.items()][1::2]))
    for each in EMOJIS:
        if each != UNDRAWN:
            code = "-".join(f"{ord(character):04x}" for character in each.characters)
            write_drawing(folder, code)
    return folder


def write_annotations(folder: Path, tag: str, *parts: dict[str, dict[str, list[str]]]) -> None:
    """Write the names of one language: those of the first package, and those of the second."""
    for package, key, entries in zip(("", "derived-"), ("annotations", "annotationsDerived"), parts, strict=False):
        path = folder / f"node_modules/cldr-annotations-{package}full/{key}/{tag}/annotations.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {key: {"identity": {"language": tag}, "annotations": entries}}
        path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def write_drawing(folder: Path, code: str) -> None:
    path = folder / f"node_modules/emoji-datasource-google/img/google/64/{code}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing = Image.new("RGBA", (64, 64))
    drawing.paste((*PINK, 255), (8, 8, 56, 56))
    drawing.save(path)


def _build_entry(language: str, emoji: Emoji) -> dict[str, list[str]]:
    number = EMOJIS.index(emoji)
    alone = [] if number % 5 == 0 else [own_keyword(language, emoji)]
    kinds = [f"{language} kind {_spell(number // 3)}", f"{language} kind of {_spell(number // 3)}"]
    return {"tts": [name(language, emoji)], "default": [f"{language} any", *kinds, *alone, name(language, emoji)]}


def _spell(number: int) -> str:
    return f"{chr(97 + number // 26)}{chr(97 + number % 26)}"
