"""Words for emoji in each language: names and keywords from Unicode's CLDR, or names alone from `emoji`."""

import json
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.emoji36.errors import Refused
from demo.emojis import load_catalogue

# The paper's order ("order222").
# fmt: off
LANGUAGES = (
    "en", "it", "de", "fil", "tr", "uk", "nl", "bn", "he", "fi", "sv", "quz", "fa", "mi", "fr", "el", "zh", "id",
    "sw", "no", "hi", "da", "te", "th", "pt", "ru", "ro", "pl", "hr", "es", "vi", "ar", "cs", "ko", "ja", "hu",
)
# fmt: on
_CLDR_TAG = {"quz": "qu"}
_PACKAGES = {
    "cldr-annotations-full": "annotations",
    "cldr-annotations-derived-full": "annotationsDerived",
    "emoji-datasource-google": "",
}
_VERSIONS = {
    "cldr-annotations-full": "48.2.0",
    "cldr-annotations-derived-full": "48.2.0",
    "emoji-datasource-google": "16.0.0",
}
_FETCH = "`python -m benchmarks.emoji36 data`, with the same --work, fetches them"


@dataclass(frozen=True)
class Word:
    """One emoji in one language: its name, and its keywords, the rarest first."""

    name: str
    keywords: tuple[str, ...] = ()


Lexicon = Mapping[str, Mapping[str, Word]]  # by language, then by emoji without U+FE0F


def fetch(folder: Path) -> None:
    """Install the three npm packages below `folder`; Unicode License V3 (CLDR) and Apache-2.0 (Noto's drawings).

    Raises `Refused` where npm is missing or fails; its own messages are on the terminal.
    """
    packages = [f"{name}@{_VERSIONS[name]}" for name in _PACKAGES]
    folder.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), *packages]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError as error:
        raise Refused("npm: not found on the path; it comes with Node.js") from error
    except subprocess.CalledProcessError as error:
        raise Refused(f"npm: ended with status {error.returncode}; its own messages are above") from error


def find_noto(folder: Path) -> Path:
    """Return the folder with the drawings of the unseen style; raises `Refused` without `fetch`."""
    drawings = folder / "node_modules" / "emoji-datasource-google" / "img" / "google" / "64"
    if not drawings.is_dir():
        raise Refused(f"{drawings}: no drawings here; {_FETCH}")
    return drawings


def read_cldr(folder: Path, languages: Sequence[str] = LANGUAGES) -> Lexicon:
    """Return names and keywords of what `fetch` installed; raises `Refused` for a language without any."""
    lexicon = {language: _read_language(folder / "node_modules", convert_tag(language)) for language in languages}
    for language, words in lexicon.items():
        if not words:
            raise Refused(f"{folder}: no names in {language} here; {_FETCH}")
    return lexicon


def list_tags(folder: Path) -> list[str]:
    """List the languages of what `fetch` installed, and those of their variants that have names of their own."""
    named = sorted((folder / "node_modules" / "cldr-annotations-full" / "annotations").glob("*/annotations.json"))
    return [path.parent.name for path in named if json.loads(path.read_text("utf-8"))["annotations"].get("annotations")]


def read_demo_names(languages: Sequence[str]) -> Lexicon:
    """Return names alone, of languages in the `emoji` package."""
    return {
        tag: {strip_selector(each.characters): Word(each.names[tag]) for each in load_catalogue()} for tag in languages
    }


def strip_selector(characters: str) -> str:
    """Return an emoji as CLDR writes its keys: without the variation selector."""
    return characters.replace("\ufe0f", "")


def convert_tag(language: str) -> str:
    """Return CLDR's tag of a language of the benchmark."""
    return _CLDR_TAG.get(language, language)


def _read_language(modules: Path, tag: str) -> dict[str, Word]:
    annotations: dict[str, dict[str, list[str]]] = {}
    for package, key in _PACKAGES.items():
        path = modules / package / key / tag / "annotations.json"
        if key and path.is_file():
            annotations |= json.loads(path.read_text(encoding="utf-8"))[key]["annotations"]
    uses = Counter(keyword for entry in annotations.values() for keyword in entry.get("default", []))
    words = {}
    for characters, entry in annotations.items():
        if entry.get("tts"):
            name = entry["tts"][0].split(",")[0].strip()  # some names have alternatives after a comma
            spoken = {keyword for keyword in entry.get("default", []) if any(map(str.isalpha, keyword))} - {name}
            keywords = sorted(spoken, key=lambda keyword: (uses[keyword], keyword))
            words[strip_selector(characters)] = Word(name, tuple(keywords))
    return words
