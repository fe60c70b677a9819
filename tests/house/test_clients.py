"""What clients know of the API is what the document says; the client's package asks for what the service's does."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from scripts.clients import FILES, PYTHON, TYPESCRIPT
from tests.house.source import ROOT


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_clients_know_is_what_the_document_says(file: Path) -> None:
    contract = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    assert file.read_text(encoding="utf-8") == FILES[file](contract), "run `python -m scripts.openapi`"


def test_a_type_is_written_in_both_languages() -> None:
    schema: dict[str, Any] = {
        "anyOf": [
            {"type": "array", "items": {"enum": ["a", "b"]}},
            {"type": "object", "additionalProperties": {"$ref": "#/x/Picture"}},
            {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        ]
    }
    assert PYTHON.write(schema) == 'list[Literal["a", "b"]] | dict[str, Picture] | int | None'
    assert TYPESCRIPT.write(schema) == 'Array<"a" | "b"> | Record<string, Picture> | number | null'


def test_the_client_asks_for_the_versions_that_the_service_asks_for() -> None:
    whole, client = (
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for folder in ("", "client")
    )
    assert client["version"] == whole["version"] and client["dependencies"] == ["httpx >= 0.28"]
    known = {*whole["dependencies"], *(each for some in whole["optional-dependencies"].values() for each in some)}
    asked = {*client["dependencies"], *(each for some in client["optional-dependencies"].values() for each in some)}
    assert asked - known == set()
