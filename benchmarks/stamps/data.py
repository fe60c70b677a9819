"""The stamps of Tux Paint: pictures, each with an English description and translations by people.

Debian's package `tuxpaint-stamps-default` has them (GPL-2+, public domain, some CC: its copyright file names each). It
is fetched into a cache, never into this repository. Pictures fall into two halves by a hash: *dev*, on which things are
chosen, and *test*, which only a report asks.
"""

import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import Literal

from PIL import Image

from model.languages import canonicalize

Half = Literal["dev", "test"]
PACKAGE = "tuxpaint-stamps-default"
STAMPS = Path("usr/share/tuxpaint/stamps")
KEPT_AWAY = frozenset({"ach", "iu", "son", "zu"})  # languages that nobody here looks at: for checks from outside
# Every language with captions that Debian has a dictionary into English of; of Hindi, one from English is turned round
CODES = {
    "af": "afr", "ar": "ara", "ca": "cat", "cs": "ces", "cy": "cym", "da": "dan", "de": "deu", "el": "ell", "eo": "epo",
    "es": "spa", "fi": "fin", "fr": "fra", "ga": "gle", "hi": "hin", "hr": "hrv", "hu": "hun", "is": "isl", "it": "ita",
    "ja": "jpn", "ku": "kur", "lt": "lit", "nl": "nld", "pl": "pol", "pt": "por", "ru": "rus", "sk": "slk", "sl": "slv",
    "sr": "srp", "sv": "swe", "tr": "tur",
}  # fmt: skip
_MODIFIERS = {"latin": "Latn", "valencia": "valencia"}  # of POSIX locales, as BCP 47 has them
_SEED = "stamps-1"
_MARGIN = 0.1  # of the longer side, half of it on each side


@dataclass(frozen=True)
class Stamp:
    """One picture. `name` is its path without suffix; `captions` by BCP 47 tag, "en" among them."""

    name: str
    path: Path
    captions: Mapping[str, str]

    @property
    def english(self) -> str:
        return self.captions["en"]

    @property
    def kind(self) -> str:
        """The folder: animals, food, …"""
        return self.name.partition("/")[0]

    @property
    def is_photograph(self) -> bool:
        """Whether it is none of the cartoons and symbols."""
        return self.kind != "symbols" and "cartoon" not in self.name

    @cached_property
    def half(self) -> Half:
        """Half of the pictures each."""
        return choose_half(self.name)

    def read_picture(self) -> Image.Image:
        """Return RGB, on white with a margin."""
        with Image.open(self.path) as file:
            cut = file.convert("RGBA")
        margin = round(max(cut.size) * _MARGIN / 2)
        white = Image.new("RGB", (cut.width + 2 * margin, cut.height + 2 * margin), "white")
        white.paste(cut, (margin, margin), cut.getchannel("A"))
        return white


def choose_half(name: str) -> Half:
    """Return the half of the picture with this name."""
    return "dev" if sha256(f"{_SEED} {name}.png".encode()).digest()[0] & 1 else "test"


def fetch(folder: Path) -> Path:
    """Return the folder of stamps below `folder`, fetched with Debian's package manager unless it is there.

    Raises `SystemExit` on another system: there, name the folder of an installed Tux Paint.
    """
    root = folder / STAMPS
    if not root.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["apt-get", "download", "-qq", PACKAGE], cwd=folder, check=True)
            (package,) = folder.glob(f"{PACKAGE}_*.deb")
            subprocess.run(["dpkg-deb", "-x", str(package.resolve()), str(folder.resolve())], check=True)
            package.unlink()
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"{PACKAGE} cannot be fetched here: give --root, the stamps of a Tux Paint") from error
    return root


def read_stamps(root: Path, away: Collection[str] = KEPT_AWAY) -> list[Stamp]:
    """Return all pictures that have a description, by name; without the languages that are kept `away`."""
    found = []
    for path in sorted(root.rglob("*.txt")):
        first, *lines = path.read_text("utf-8").splitlines()
        if not path.with_suffix(".png").is_file():
            continue
        said = {"en": first.strip()}
        for line in lines:
            locale, marked, caption = line.partition(".utf8=")
            if marked and caption.strip() and (tag := _convert_tag(locale)) not in away:
                said[tag] = caption.strip()
        found.append(Stamp(path.relative_to(root).with_suffix("").as_posix(), path.with_suffix(".png"), said))
    return found


@cache
def _convert_tag(locale: str) -> str:
    """Return the tag of a POSIX locale such as `pt_BR` or `sr@latin`."""
    place, _, modifier = locale.partition("@")
    return canonicalize("-".join(filter(None, (place.replace("_", "-"), _MODIFIERS.get(modifier)))))
