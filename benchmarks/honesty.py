"""What a search of photographs says: whether captions are found first, and nonsense is known from what is there.

`python -m benchmarks.honesty` starts a service with the photo base, gives it photographs that took no part in the
making of the base (the half *test* of Stamps, and eleven that anybody may use) and asks it over HTTP: nonsense, people,
places and events, and the things that the photographs show, without any caption; then 200 of the photographs get
captions that are made by a rule, each of which is searched for.
"""

import json
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import product
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from benchmarks.process import run_service
from benchmarks.records.nonsense import draw_nonsense
from benchmarks.stamps import chances
from benchmarks.stamps.data import Stamp, fetch, read_stamps
from demo.photo_screenshots import fetch_photographs
from demo.photos import packages
from demo.photos.wordnet import WordNet

_KEY = "honesty-0123456789-abcdefghijkl"
_NONSENSE, _LITERAL = 200, 200
_WARNINGS = {"nothing_likely", "unknown_words", "not_known_to_base", "language_not_supported"}
_NOT_KNOWN = (
    "children at play", "my grandmother", "a wedding", "sunset", "a man with a beard", "our family", "a birthday party",
    "Paris", "people in the street", "a girl", "the city at night", "a football match", "Christmas", "the beach",
    "two friends", "a baby", "a concert", "dancing", "a school class", "rainy day", "a village", "the president",
    "a storm", "New York", "a soldier", "women", "running", "the sea", "a crowd", "winter in Norway",
)  # fmt: skip
_CAPTIONS = (
    ("a quiet", "the old", "one yellow", "our first", "a broken", "the tallest", "a painted", "some faded"),
    ("lantern", "wheelbarrow", "kettle", "harmonica", "staircase", "bicycle", "quilt", "anchor", "typewriter"),
    ("behind the barn", "near Lake Thun", "on a blue shelf", "after the flood", "in the attic", "before breakfast"),
)
_console = Console()


def main(
    root: Annotated[Path | None, typer.Option(help="The stamps of an installed Tux Paint")] = None,
    out: Annotated[Path | None, typer.Option(help="A file for the figures")] = None,
    work: Path = Path(".cache/stamps"),
) -> None:
    """Fill a service, ask it, print the figures."""
    shown = [stamp for stamp in read_stamps(root or fetch(work)) if stamp.is_photograph and stamp.half == "test"]
    named = chances.list_named(shown, WordNet.read(packages.fetch(Path(".cache/photos"))))
    with run_service(_KEY, None, BASE="photos") as url, _open_client(url) as client:
        ids = _fill(client, shown)
        found: dict[str, Any] = {"photographs": len(ids), "nothing": _ask_nothing(client, [*named])}
        found["not_known"] = _count_told(client, _NOT_KNOWN)
        found["things"] = _ask_things(client, named)
        found["literal"] = _ask_captions(client, ids)
    _console.print_json(data=found)
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _open_client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {_KEY}"}, timeout=60, trust_env=False)


def _fill(client: httpx.Client, shown: Sequence[Stamp]) -> list[str]:
    """Put the photographs without a word, and return their ids; what is too narrow a strip is refused."""
    return [
        id
        for id, content in _list_contents(shown)
        if client.put(f"/v1/pictures/{id}", files={"picture": ("x", content)}).is_success
    ]


def _list_contents(shown: Sequence[Stamp]) -> Iterator[tuple[str, bytes]]:
    """Yield an id that says nothing, and the bytes of each photograph."""
    for number, stamp in enumerate(shown):
        content = BytesIO()
        stamp.read_picture().save(content, "JPEG", quality=92)
        yield f"s{number}", content.getvalue()
    with TemporaryDirectory() as name:
        fetch_photographs(folder := Path(name) / "photographs")
        for number, path in enumerate(sorted(folder.iterdir())):
            yield f"p{number}", path.read_bytes()


def _search(client: httpx.Client, text: str) -> Any:
    return client.post("/v1/search/pictures", json={"text": text, "limit": 24}).raise_for_status().json()


def _ask_nothing(client: httpx.Client, nouns: Sequence[str]) -> dict[str, Any]:
    """Search for nonsense: count answers that show pictures and warn of nothing, and those that call one likely."""
    answers = [_search(client, text) for text in draw_nonsense("en", nouns, _NONSENSE)]
    quiet = sum(not _WARNINGS.intersection(answer["warnings"]) for answer in answers)
    likely = sum(any(hit["likely"] for hit in answer["items"]) for answer in answers)
    return {"searches": len(answers), "without_warning": quiet / len(answers), "likely": likely / len(answers)}


def _count_told(client: httpx.Client, texts: Sequence[str]) -> dict[str, Any]:
    """Search for what the base does not know, and count the answers that say so."""
    count = sum("not_known_to_base" in _search(client, text)["warnings"] for text in texts)
    return {"searches": len(texts), "told": count / len(texts)}


def _ask_things(client: httpx.Client, named: dict[str, set[str]]) -> dict[str, Any]:
    """Search for what the photographs show: count answers that say that the base does not know it, or nobody does."""
    answers = [_search(client, noun) for noun in named]
    count = {code: sum(code in answer["warnings"] for answer in answers) / len(answers) for code in sorted(_WARNINGS)}
    return {"searches": len(answers), **count}


def _ask_captions(client: httpx.Client, ids: Sequence[str]) -> dict[str, Any]:
    """Write captions for 200 photographs, and count those that are the first hit of their own caption."""
    random = Random(0)
    captions = random.sample([" ".join(parts) for parts in product(*_CAPTIONS)], _LITERAL)
    captioned = dict(zip(random.sample(list(ids), _LITERAL), captions, strict=True))
    for id, caption in captioned.items():
        client.patch(f"/v1/pictures/{id}", json={"captions": {"en": [caption]}}).raise_for_status()
    first = [_search(client, caption)["items"][0]["id"] == id for id, caption in captioned.items()]
    return {"searches": len(first), "first": sum(first) / len(first)}


if __name__ == "__main__":
    typer.run(main)
