"""Golden answers: what a service with five taught languages answers, to see that a change of the code changed none.

`python -m benchmarks.golden record FILE` fills a service with a seventh of the demo gallery, teaches it five languages
with fixed seeds, asks it some hundred questions and writes the answers. `compare BEFORE AFTER` prints what differs and
ends with 1 if anything does. Trainings round differently on another processor: record both on one machine. To record
at an earlier commit, call this file from a checkout of that commit; it needs HTTP, `pictoglot up` and `demo` alone.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from benchmarks.process import run_service
from demo import dataset
from demo.gallery import DemoPicture, draw_pictures, list_outlines

LANGUAGES = ("de", "ru", "ja", "ar", "tr")
_KEY = "golden-answers-0123456789-abcdef"
_EACH = 7  # every seventh picture
_ASKED = 12  # captions of each language
_PATIENCE = 900.0  # seconds for one expansion, or until every language has its chances of a hit
_TIMES = {
    "timing_ms",
    "examined",
    "created",
    "created_at",
    "shown_at",
    "learned_at",
    "started_at",
    "finished_at",
    "eta_seconds",
    "usage",
}
_NAMES = {"etag", "generation", "generations", "next_cursor", "expansion", "request_id", "url", "thumbnail_url"}
_OF_THE_MOMENT = frozenset(_TIMES | _NAMES | {"fingerprint", "digest", "digests", "files", "sha256", "manifest_sha256"})
_EXACT = 1e-5  # two floats that differ by less are equal: scores are printed with more digits than they have
# Of the same code in two runs these differ by up to two thirds of this: they are fitted to what has arrived by then.
_CHANCE, _CONFIDENCE = 0.03, 0.01
_SETTINGS = {"epochs": 8, "seed": 1}


def main() -> int:
    """Record answers, or compare two recordings; exit status 1 if they differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.golden", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="start a service, teach it, and write what it answers")
    recording.add_argument("file", type=Path)
    comparison = commands.add_parser("compare", help="print what differs between two recordings")
    comparison.add_argument("before", type=Path)
    comparison.add_argument("after", type=Path)
    comparison.add_argument("--renamed", nargs="*", default=[], metavar="OLD=NEW", help="keys, or values that are text")
    comparison.add_argument("--without", nargs="*", default=[], metavar="KEY", help="keys that are not compared")
    comparison.add_argument("--match", type=float, default=_CHANCE, help="by how much two chances of a hit may differ")
    arguments = parser.parse_args()
    if arguments.command == "record":
        arguments.file.write_text(json.dumps(record(), indent=1, ensure_ascii=False, sort_keys=True), encoding="utf-8")
        return 0
    names = dict(pair.split("=", 1) for pair in arguments.renamed)
    before, after = (json.loads(file.read_text(encoding="utf-8")) for file in (arguments.before, arguments.after))
    before = _prepare(before, names, frozenset(arguments.without))
    after = _prepare(after, {}, frozenset(arguments.without))
    found = list(list_differences(before, after, arguments.match))
    sys.stdout.writelines(f"{line}\n" for line in found)
    sys.stdout.write(f"{len(before)} answers compared, {len(found)} differences\n")
    return 1 if found else 0


def record() -> dict[str, Any]:
    """Return the answers by question, of a service that was started, filled and taught for it."""
    chosen = {outline.id for outline in list_outlines()[::_EACH]}
    left_out = {outline.id for outline in list_outlines()} - chosen
    shown = list(draw_pictures(without=left_out))
    with (
        run_service(_KEY, BASE="bundled") as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {_KEY}"}, timeout=120, trust_env=False) as client,
    ):
        for number, picture in enumerate(shown):
            _put(client, picture, number)
        rows = {tag: [row for row in dataset.build_rows(tag) if row["picture"] in chosen] for tag in LANGUAGES}
        for tag in LANGUAGES:
            _teach(client, tag, rows[tag])
        _wait_for_chances(client)
        answers = dict(_ask(client, shown, rows))
        client.post("/v1/admin/languages/ru/rollback", json={"reason": "golden"}).raise_for_status()
        again = _Questions(client)
        for tag in LANGUAGES:
            again.ask(f"after rollback: {tag}", "/v1/search/pictures", {"text": rows[tag][0]["caption"]})
        return answers | again.answers


def list_differences(before: Any, after: Any, match: float, place: str = "") -> Iterator[str]:
    """Yield a line for each place where two values differ, floats by more than their last digits."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            if key not in after:
                yield f"{place}/{key}: only before: {json.dumps(before[key], ensure_ascii=False)[:100]}"
            elif key not in before:
                yield f"{place}/{key}: only after: {json.dumps(after[key], ensure_ascii=False)[:100]}"
            else:
                yield from list_differences(before[key], after[key], match, f"{place}/{key}")
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield f"{place}: {len(before)} before, {len(after)} after"
        for number, (one, other) in enumerate(zip(before, after, strict=False)):
            yield from list_differences(one, other, match, f"{place}/{number}")
    elif isinstance(before, float) and isinstance(after, float):
        bounds = {"match": match, "confidence": _CONFIDENCE}
        if abs(before - after) > bounds.get(place.rpartition("/")[2], _EXACT):
            yield f"{place}: {before} → {after}"
    elif before != after:
        yield f"{place}: {json.dumps(before, ensure_ascii=False)} → {json.dumps(after, ensure_ascii=False)}"


class _Questions:
    """Asks the service, and keeps the answers without what belongs to the moment."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.answers: dict[str, Any] = {}

    def ask(self, name: str, path: str, question: Any = None, **more: Any) -> Any:
        """Ask by POST if there is a question or a form, otherwise by GET; a refusal is an answer too."""
        if question is None and "files" not in more:
            response = self._client.get(path, **more)
        else:
            response = self._client.post(path, json=question, **more)
        assert response.status_code < 500, response.text
        body = response.json()
        self.answers[name] = {"status": response.status_code, "body": _drop_keys(body, _OF_THE_MOMENT)}
        return body


def _put(client: httpx.Client, picture: DemoPicture, number: int) -> None:
    metadata = {"things": len(picture.objects), "drawn_by": picture.drawing_set, "year": 1900 + number % 100}
    record = {
        "captions": picture.captions,
        "collection": ("harbour", "meadow", "default")[number % 3],
        "tags": [name for name, each in (("even", 2), ("third", 3), ("tenth", 10)) if number % each == 0],
        "metadata": metadata,
    }
    data = {key: value if isinstance(value, str) else json.dumps(value) for key, value in record.items()}
    files = {"picture": (f"{picture.id}.png", picture.content, "image/png")}
    client.put(f"/v1/pictures/{picture.id}", files=files, data=data).raise_for_status()


def _teach(client: httpx.Client, tag: str, rows: list[dict[str, str]]) -> None:
    lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()
    answer = client.post(
        "/v1/languages",
        data={"language": tag, "settings": json.dumps(_SETTINGS)},
        files={"dataset": (f"{tag}.jsonl", lines)},
    )
    address, until = answer.raise_for_status().headers["Location"], time.monotonic() + _PATIENCE
    while (expansion := client.get(address).json())["state"] in ("queued", "running"):
        assert time.monotonic() < until, expansion
        time.sleep(1)
    assert expansion["state"] == "succeeded", expansion
    release = expansion["release"]
    while client.get("/v1/languages").json()["release"] < release:
        time.sleep(0.2)
    sys.stderr.write(f"{tag} is taught\n")


def _wait_for_chances(client: httpx.Client) -> None:
    until = time.monotonic() + _PATIENCE
    for tag in ("en", *LANGUAGES):
        question = {"text": "apple", "language": tag}
        while client.post("/v1/search/pictures", json=question).json()["items"][0].get("match") is None:
            assert time.monotonic() < until, f"{tag} has no chances of a hit"
            time.sleep(2)


def _ask(client: httpx.Client, shown: list[DemoPicture], rows: dict[str, list[dict[str, str]]]) -> Iterator[Any]:
    questions = _Questions(client)
    ask, search = questions.ask, "/v1/search/pictures"
    texts = {"en": [picture.captions["en"][0] for picture in shown]}
    texts |= {tag: [row["caption"] for row in rows[tag]] for tag in LANGUAGES}
    for tag, captions in texts.items():
        for number, text in enumerate(captions[:: max(1, len(captions) // _ASKED)]):
            for language in ("auto", tag, "shared"):
                ask(f"text {tag} {number} {language}", search, {"text": text, "language": language})
            for mode in ("meaning", "words", "both"):
                asked = {"text": text, "mode": mode, "captions": [tag, "en"], "limit": 20}
                ask(f"mode {tag} {number} {mode}", search, asked)
    even = {"must": [{"key": "tags", "match": {"value": "even"}}], "must_not": [_of("collection", "meadow")]}
    old = {"must": [{"key": "year", "range": {"lt": 1930}}], "should": [_of("things", 2), _of("things", 3)]}
    some = [picture.id for picture in shown[:: len(shown) // _ASKED]]
    facets = ["tags", "collection", "drawn_by", "things"]
    for name, filtered in (("even", even), ("old", old)):
        for tag in texts:
            question: dict[str, Any] = {"text": texts[tag][3], "filter": filtered, "facets": facets, "limit": 30}
            ask(f"filter {name} {tag}", search, question)
        ask(f"listing {name}", "/v1/pictures", params={"filter": json.dumps(filtered), "sort": "-created_at"})
    for id in some:
        ask(f"like {id}", search, {"picture": id})
        minus = {"text": "red", "picture": some[0]}
        question = {"picture": id, "text": "tree", "minus": minus, "weights": {"text": 2.0}}
        ask(f"like and unlike {id}", search, question)
        ask(f"captions {id}", "/v1/search/captions", {"picture": id, "limit": 5})
        ask(f"captions in two {id}", "/v1/search/captions", {"picture": id, "languages": ["de", "ja"], "filter": even})
        ask(f"record {id}", f"/v1/pictures/{id}")
    for picture in shown[5 :: len(shown) // 6]:
        file = {"picture": ("p.png", picture.content, "image/png")}
        ask(f"upload {picture.id}", search, files=file)
        ask(f"upload and text {picture.id}", search, files=file, data={"text": "ein Baum", "language": "de"})
        ask(f"upload captions {picture.id}", "/v1/search/captions", files=file, data={"languages": "tr,ar"})
    page = ask("page 1", search, {"text": "house", "limit": 15})
    ask("page 2", search, {"text": "house", "limit": 15, "cursor": page["next_cursor"]})
    many = [{"text": captions[7]} for captions in texts.values()] + [{"text": ""}, {"text": "x", "language": "xx"}]
    ask("batch", "/v1/search/batch", {"searches": many})
    words = [captions[1] for captions in texts.values()]
    ask("embeddings", "/v1/embeddings", {"input": words, "language": "auto"})
    ask("min_score", search, {"text": "apple", "min_score": 0.2, "limit": 100})
    ask("min_match", search, {"text": "apple", "min_match": 0.5, "limit": 100})
    for path in ("languages", "versions", "collections", "models", "pictures", "duplicates", "admin/releases"):
        ask(path, f"/v1/{path}")
    for number in range(1, len(LANGUAGES) + 1):
        ask(f"version {number}", f"/v1/versions/{number}")
    yield from questions.answers.items()


def _of(key: str, value: Any) -> dict[str, Any]:
    return {"key": key, "match": {"value": value}}


def _drop_keys(value: Any, keys: frozenset[str]) -> Any:
    """Return the value without these keys, at any depth."""
    if isinstance(value, dict):
        return {key: _drop_keys(each, keys) for key, each in value.items() if key not in keys}
    return [_drop_keys(each, keys) for each in value] if isinstance(value, list) else value


def _prepare(value: Any, names: dict[str, str], keys: frozenset[str]) -> Any:
    """Return the value without these keys, with keys and texts by their new names, at any depth."""
    if isinstance(value, dict):
        kept = {names.get(key, key): each for key, each in value.items() if key not in keys}
        return {key: _prepare(each, names, keys) for key, each in kept.items()}
    if isinstance(value, list):
        return [_prepare(each, names, keys) for each in value]
    return names.get(value, value) if isinstance(value, str) else value


if __name__ == "__main__":
    sys.exit(main())
