"""Which emoji the demo uses, their names in 14 languages and their English keywords. Draws nothing."""

import re
from dataclasses import dataclass
from functools import cache

import emoji

from demo.drawings import find_drawing

LANGUAGES = ("ar", "de", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh")  # beside English

# The `emoji` package writes the names of CLDR without colons and quotes. Where CLDR has some, the package does not give
# the full name: flags, keycaps, families, hair, directions, Japanese buttons. These emoji are left out.
_NAMES_LEFT_OUT = re.compile(
    r"family.*|keycap .*|Japanese .*|.* facing right|(kiss|couple with heart) (man|woman) .*"
    r"|(man|woman|person) (bald|beard|(blond|curly|red|white) hair)"
)
_CHARACTERS_LEFT_OUT = re.compile("[\U0001f3fb-\U0001f3ff\U0001f1e6-\U0001f1ff\U000e0020-\U000e007f\u20e3]")
_FULLY_QUALIFIED = emoji.STATUS["fully_qualified"]
_NO_KEYWORD = frozenset({"and", "button", "face", "mark", "not", "sign", "symbol", "the", "with"})


@dataclass(frozen=True)
class Emoji:
    """One emoji with a drawing in every set: `names` by language, "en" included; `keywords` are English."""

    characters: str
    names: dict[str, str]
    keywords: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.names["en"]

    @property
    def code(self) -> str:
        """Its code points, readable in a picture id: `1f34e`."""
        return "-".join(f"{ord(character):x}" for character in self.characters if character != "\ufe0f")


@cache
def load_catalogue() -> tuple[Emoji, ...]:
    """Return all emoji of the demo by code points, so that similar ones (clock faces, runners) are neighbours."""
    emoji.config.load_language(list(LANGUAGES))
    emojis = []
    for characters, data in sorted(emoji.EMOJI_DATA.items()):
        if data["status"] != _FULLY_QUALIFIED or _CHARACTERS_LEFT_OUT.search(characters):
            continue
        if not all(language in data for language in LANGUAGES):
            continue
        names = {language: _strip_selector(data[language]) for language in ("en", *LANGUAGES)}
        if _NAMES_LEFT_OUT.fullmatch(names["en"]) or not _is_drawn(characters):
            continue
        emojis.append(Emoji(characters, names, _read_keywords(names["en"], data.get("alias", []))))
    return tuple(emojis)


def _strip_selector(shortcode: str) -> str:
    return shortcode.strip(":").replace("_", " ")


def _is_drawn(characters: str) -> bool:
    return all(find_drawing(characters, drawing_set) is not None for drawing_set in ("twemoji", "openmoji"))


def _read_keywords(name: str, aliases: list[str]) -> tuple[str, ...]:
    """Return other names and the content words of the name, without the name itself."""
    others = {re.sub(r"[\s_-]*\d+$", "", _strip_selector(other)).replace("-", " ") for other in aliases}
    words = {word for word in re.findall(r"[^\W\d_]{3,}", name.lower()) if word not in _NO_KEYWORD}
    return tuple(sorted((others | words) - {name, name.lower(), ""}))
