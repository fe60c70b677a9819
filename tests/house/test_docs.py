"""The documents name what exists: settings, commands, files, the version; the reference is what the code says."""

import ast
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from client.commands import app
from scripts.clients import FILES, PYTHON, TYPESCRIPT
from scripts.reference import PAGES, SETTINGS
from store.errors import PictoglotError
from store.settings import PREFIX
from tests.house.source import ALL_PYTHON, PACKAGES, ROOT, Module, list_modules

DOCS = ROOT / "docs"
PROSE = [
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
    ROOT / "model/bundled/README.md",
    *sorted(DOCS.rglob("*.md")),
]
TOP = (*PACKAGES, "tests", "docs", "benchmarks", "scripts")
PATH = re.compile(r"`((?:" + "|".join(TOP) + r")/[A-Za-z0-9_./-]*)(?::\w+)?`|\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def list_settings() -> set[str]:
    """Return every variable that a process reads."""
    return {PREFIX + name.upper() for kind in SETTINGS for name in kind.model_fields}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_reference_is_what_the_code_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PAGES[path](), "run `make reference`"


def test_errors_are_defined_where_they_are_looked_for() -> None:
    kinds, defining = [PictoglotError], set[str]()
    for kind in kinds:  # grows
        defining.add(kind.__module__)
        kinds += [each for each in kind.__subclasses__() if not each.__module__.startswith("tests.")]
    assert defining == {"store.errors", "service.problems", "worker.gate"}


def list_missing_paths(text: str, folder: Path) -> list[str]:
    """Return paths and relative links of a document that do not exist."""
    missing = []
    for quoted, linked in PATH.findall(text):
        path = (ROOT / quoted) if quoted else (folder / linked)
        if not path.exists() and not path.with_suffix(".py").exists():
            missing.append(quoted or linked)
    return missing


@pytest.mark.parametrize("file", PROSE, ids=lambda file: str(file.relative_to(ROOT)))
def test_documents_mention_only_what_exists(file: Path) -> None:
    assert list_missing_paths(file.read_text(encoding="utf-8"), file.parent) == []


@pytest.mark.parametrize("file", PROSE, ids=lambda file: str(file.relative_to(ROOT)))
def test_lines_of_prose_are_short(file: Path) -> None:
    prose = re.sub(
        r"^```.*?^```|<!-- tables -->.*?<!-- /tables -->|^\|.*?$",
        "",
        file.read_text(encoding="utf-8"),
        flags=re.M | re.S,
    )
    assert [line for line in prose.splitlines() if len(line) > 120] == []


def test_a_missing_path_is_found() -> None:
    assert list_missing_paths("see `model/nothing.py` and [that](nowhere.md#part)", DOCS) == [
        "model/nothing.py",
        "nowhere.md",
    ]
    assert list_missing_paths("see `model/text.py`, `model/` and [settings](settings.md)", DOCS) == []


def list_unknown_names(text: str) -> list[str]:
    """Return variables, commands and options in a document that do not exist."""
    variables = set(re.findall(rf"{PREFIX}[A-Z_]+[A-Z]", text)) - list_settings()
    called = re.findall(r"(?:`|/|^)pictoglot ([a-z]+)(?: ([a-z]+))?([^`\n#|;&]*)", text, re.MULTILINE)
    root = typer.main.get_command(app)
    assert isinstance(root, typer.core.TyperGroup)
    unknown = sorted(variables)
    for name, inner, rest in called:
        command = root.commands.get(name)
        if isinstance(command, typer.core.TyperGroup) and (inner or not command.invoke_without_command):
            name, command = f"{name} {inner}", command.commands.get(inner)
        if command is None:
            unknown.append(name)
        elif not command.context_settings.get("ignore_unknown_options"):
            options = {option for each in command.params for option in each.opts}
            unknown += [f"{name} {option}" for option in re.findall(r" (--[a-z-]+)", rest) if option not in options]
    return unknown


@pytest.mark.parametrize("file", PROSE, ids=lambda file: str(file.relative_to(ROOT)))
def test_documents_name_only_variables_and_commands_that_exist(file: Path) -> None:
    assert list_unknown_names(file.read_text(encoding="utf-8")) == []


def test_an_unknown_variable_or_command_is_found() -> None:
    text = "`PICTOGLOT_COLOUR`, `PICTOGLOT_HOME`, `pictoglot paint`, `pictoglot demo paint`, `pictoglot learn cy f`"
    text += "\npictoglot learn cy f --watch --paint blue | other --green"
    assert list_unknown_names(text) == ["PICTOGLOT_COLOUR", "paint", "demo paint", "learn --paint"]


def list_calls(module: Module) -> str:
    """Return the command lines of ours in a program: lists that begin with it, arguments of `run_command`."""
    lines = []
    for node in ast.walk(module.tree):
        words = node.elts if isinstance(node, ast.List) else []
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("run_command"):
            words = [ast.Constant("pictoglot"), *node.args]
        if words and re.search(r"(^|/ )'pictoglot'\)?$", ast.unparse(words[0])):
            said = [str(word.value) if isinstance(word, ast.Constant) else "…" for word in words[1:]]
            lines.append(" ".join(["pictoglot", *said]))
    return "\n".join(lines)


def test_programs_call_only_commands_that_exist() -> None:
    called = {module.name: list_calls(module) for module in list_modules("benchmarks", "demo", "scripts")}
    assert len("\n".join(filter(None, called.values())).splitlines()) > 10
    assert {name: unknown for name, text in called.items() if (unknown := list_unknown_names(text))} == {}


def test_the_changelog_begins_with_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    heading = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heading and heading[1] == project["version"]


def test_the_readme_is_short_and_begins_with_how_to_run_it() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert "make demo" in "\n".join(lines[:15]) and "make test" in "\n".join(lines[:15])


DECISIONS = {file.name: file for file in sorted((DOCS / "decisions").glob("[0-9]*.md"))}
PARTS = ["Decision", "Why", "Cost", "How we would know that it was wrong"]


@pytest.mark.parametrize("name", DECISIONS)
def test_a_decision_is_short_and_has_its_parts(name: str) -> None:
    text = DECISIONS[name].read_text(encoding="utf-8")
    assert text.startswith(f"# {int(name[:4])}. ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == PARTS
    assert len(re.findall(r"\S*\w\S*", text)) <= 500
    assert max(map(len, text.splitlines())) <= 120


def test_the_index_names_each_decision_and_nobody_another() -> None:
    index = (DOCS / "decisions" / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\((.+?)\)", index)) == list(DECISIONS)
    texts = [file.read_text(encoding="utf-8") for file in PROSE] + [module.text for module in list_modules(*ALL_PYTHON)]
    named = {number for text in texts for number in re.findall(r"(?:[Dd]ecision |decisions/0*)([1-9]\d*)", text)}
    assert {int(number) for number in named} <= {int(name[:4]) for name in DECISIONS}


# --- What clients know of the API is what the document says ---


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


# --- Every row of docs/reliability.md, and every mended fault, is named by the test that proves it ---

ROWS = re.findall(r"^\| ([A-Z]\d+) \|", (DOCS / "reliability.md").read_text(encoding="utf-8"), re.MULTILINE)
FAULTS = {f"F{number}" for number in range(1, 16)}

EXCUSED = {  # row: why no test proves it, and what does
    "L1": "a rate is a matter of the machine: `make bench` measures it",
    "L3": "a share of a rate is that too: `make bench` has a block of searches while a language is learned; K2's test "
    "sees that the child gives way to it",
}


def list_markers(module: Module) -> Iterator[ast.Call]:
    """Yield every call of `pytest.mark.row` in a file."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.row":
            yield node


def list_named(module: Module) -> Iterator[str]:
    """Yield what the markers of a file name: each once in a marker, and as a text that is written out."""
    for call in list_markers(module):
        ids = [node.value if isinstance(node, ast.Constant) else None for node in call.args]
        place = f"{module.name}, line {call.lineno}: row"
        assert ids and not call.keywords, f"{place} names nothing"
        for id in ids:
            assert isinstance(id, str), f"{place} needs ids as texts"
            assert id in FAULTS or id in ROWS, f"{place} names {id}, which docs/reliability.md does not have"
            yield id


def test_the_tables_have_119_rows_and_none_twice() -> None:
    assert Counter(id[0] for id in ROWS) == {
        "T": 20, "P": 14, "H": 15, "A": 9, "E": 16, "K": 11, "I": 12, "R": 6, "S": 12, "L": 4,
    }  # fmt: skip
    assert len(ROWS) == len(set(ROWS)) == 119


def test_every_row_is_named_by_a_test_or_excused() -> None:
    proven = {id for module in list_modules("tests") for id in list_named(module)}
    assert sorted({*ROWS, *FAULTS} - proven - EXCUSED.keys()) == []
    assert sorted(proven & EXCUSED.keys()) == [], "these have a test, and need no excuse"


@pytest.mark.parametrize("marker", ['row("X1")', "row()", "row(NAME)", 'row(id="T1")', 'row("T1", 2)'])
def test_a_marker_that_names_no_row_is_noticed(marker: str) -> None:
    with pytest.raises(AssertionError, match="line 1: row"):
        list(list_named(Module("made_up", f"@pytest.mark.{marker}\ndef test_x(): ...")))
