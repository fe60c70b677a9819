"""Golden answers: what counts as a difference between two recordings."""

import json
from pathlib import Path

import pytest

from benchmarks import golden

BEFORE = {
    "search": {"language": {"source": "told", "confidence": 0.9}, "items": [{"id": "a", "score": 0.5, "match": 0.3}]}
}


def compare(folder: Path, monkeypatch: pytest.MonkeyPatch, after: object, *options: str) -> int:
    files = []
    for name, answers in (("before", BEFORE), ("after", after)):
        files.append(folder / name)
        files[-1].write_text(json.dumps(answers))
    monkeypatch.setattr("sys.argv", ["golden", "compare", *map(str, files), *options])
    return golden.main()


def change(old: str, new: str) -> object:
    return json.loads(json.dumps(BEFORE).replace(old, new))


@pytest.mark.parametrize(
    ("after", "options", "status"),
    [
        (BEFORE, (), 0),
        (change("0.5", "0.500001"), (), 0),
        (change("0.5", "0.51"), (), 1),
        (change("0.3", "0.31"), (), 0),
        (change("0.3", "0.4"), (), 1),
        (change('"a"', '"b"'), (), 1),
        (change('"told"', '"requested"'), (), 1),
        (change('"told"', '"requested"'), ("--renamed", "told=requested"), 0),
        (change('"score": 0.5, ', ""), (), 1),
        (change('"score": 0.5, ', ""), ("--without", "score"), 0),
        ({}, (), 1),
    ],
)
def test_what_differs_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: object, options: tuple[str, ...], status: int
) -> None:
    assert compare(tmp_path, monkeypatch, after, *options) == status
