"""Keeps the page's texts in step with its modules: each language has a file, in which a text stands by its English.

`python -m scripts.texts` takes out what the page no longer says, and tells how many texts each language lacks;
`--missing TAG` prints those as JSON, to be translated, and `--add FILE` joins a file of `{TAG: {English: text}}`.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

PAGES = Path(__file__).parents[1] / "service" / "pages" / "static"
LANGUAGES = ("ar", "de", "es", "fr", "hi", "pt", "sw")
_CALL = re.compile(r"""\bt\(\s*("(?:[^"\\\n]|\\.)*")""")
_COMMENT = re.compile(r"/\*.*?\*/|(?<![:\"'])//[^\n]*", re.DOTALL)
_STRING = re.compile(r"""(\bt\(\s*)?("(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`)""")
_CHILD = re.compile(
    r"""(?<!"code", \{)\}, "([a-z]{3,}(?: [a-z]+)*)"(?=[,)])"""
)  # what an element holds, also a single word
_HOLE = re.compile(r"\$\{(?:[^{}]|\{[^{}]*\})*\}")
_WORDS = re.compile(r"^[A-Z][a-z]+(?:[ .,:;!?…]|$)|[a-z]{2,},? [a-z]{2,},? [a-z]{2,}")
_TOLD = ("aria-label", "placeholder", "title", "label")
# Names that look like words, and are none: of keys, headers, events, elements, kinds of files.
_NAMES = re.compile(
    r"^(?:image/.*|(?:input|fieldset|button|select),? .*|Arrow\w+|Enter|Escape|Tab|Accept|Authorization|Bearer .*|"
    r"AbortError|[A-Z]\w*-\w+|Event|Infinity|UTC)$"
)


def list_texts() -> list[str]:
    """List all texts that the page says, in English."""
    said = set[str]()
    for file in sorted(PAGES.glob("*.js")):
        said |= {json.loads(text) for text in _CALL.findall(file.read_text(encoding="utf-8"))}
    for file in sorted(PAGES.glob("*.html")):
        said |= set(_Document.read(file))
    return sorted(said)


def list_unmarked(text: str) -> list[str]:
    """List what a module seems to say without looking it up: sentences, and words that begin with a capital."""
    code = _COMMENT.sub("", text)
    found = [each[1:-1] for call, each in _STRING.findall(code) if not call]
    plain = [(each, _HOLE.sub("it", each)) for each in found]
    return [each for each, words in plain if _WORDS.search(words) and not _NAMES.match(words)] + _CHILD.findall(code)


def read_texts(tag: str) -> dict[str, str]:
    """Read the file of a language."""
    file = PAGES / f"texts-{tag}.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def write_texts(tag: str, texts: dict[str, str]) -> None:
    """Write the file of a language, in the order of the English texts."""
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(texts[key], ensure_ascii=False)}" for key in sorted(texts))
    (PAGES / f"texts-{tag}.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


class _Document(HTMLParser):
    """The texts of a page: between its elements, and in attributes that are shown or read out."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.untranslated = 0  # depth within an element that stays as it is

    @classmethod
    def read(cls, file: Path) -> Iterator[str]:
        """Yield the texts of a file's body."""
        document = cls()
        document.feed(file.read_text(encoding="utf-8").partition("<body>")[2])
        return iter(document.said)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.untranslated or tag == "code" or ("translate", "no") in attrs:
            self.untranslated += tag not in ("img", "input", "br")
        if ("translate", "no") not in attrs:
            self.said += [value for name, value in attrs if name in _TOLD and value]

    def handle_endtag(self, tag: str) -> None:
        self.untranslated -= self.untranslated > 0

    def handle_data(self, data: str) -> None:
        words = " ".join(data.split())
        if re.search(r"[^\W\d_]", words) and not self.untranslated:
            self.said.append(words)


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--missing", metavar="TAG")
    parser.add_argument("--add", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    said = list_texts()
    if chosen.missing:
        lacking = [each for each in said if each not in read_texts(chosen.missing)]
        sys.stdout.write(json.dumps(lacking, ensure_ascii=False, indent=0) + "\n")
        return
    added = json.loads(chosen.add.read_text(encoding="utf-8")) if chosen.add else {}
    for tag in LANGUAGES:
        texts = {**read_texts(tag), **added.get(tag, {})}
        write_texts(tag, {each: texts[each] for each in said if each in texts})
        sys.stdout.write(f"{tag}: {len(said) - len(read_texts(tag))} of {len(said)} are missing\n")


if __name__ == "__main__":
    main()
