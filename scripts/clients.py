"""Makes, of docs/openapi.json, what clients know of the API: `python -m scripts.openapi` writes it, a test compares.

client/contract.py has a type for each document and a method for each operation, docs/openapi.d.ts the same for
TypeScript.
"""

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_HEAD = "Written by `python -m scripts.openapi` from docs/openapi.json."
_JSON, _FORM, _EVENTS = "application/json", "multipart/form-data", "text/event-stream"
Schema = dict[str, Any]


@dataclass(frozen=True)
class Notation:
    """How a programming language writes types."""

    scalars: dict[str, str]  # "" is anything
    file: str
    list_of: str
    map_of: str
    tuple_of: str
    literals: str
    separator: str  # of literals

    def write(self, schema: Schema) -> str:
        """Return the type of what a schema describes."""
        if "$ref" in schema:
            return str(schema["$ref"].rpartition("/")[2])
        if "anyOf" in schema:
            several = (inner for each in schema["anyOf"] for inner in each.get("anyOf", [each]))
            return " | ".join(dict.fromkeys(map(self.write, several)))
        if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
            return self.literals.format(self.separator.join(map(json.dumps, values)))
        if "prefixItems" in schema:
            return self.tuple_of.format(", ".join(map(self.write, schema["prefixItems"])))
        kind = schema.get("type", "")
        if kind in ("array", "object"):
            inner = schema.get("items" if kind == "array" else "additionalProperties")
            item = self.write(inner if isinstance(inner, dict) else {})
            return (self.list_of if kind == "array" else self.map_of).format(item)
        return self.file if schema.get("format") == "binary" else self.scalars[kind]

    def write_field(self, schema: Schema) -> str:
        """Return the type of a field of a form: its JSON and its truth are values where a client encodes them."""
        if self is PYTHON and schema.get("description", "").startswith("JSON."):
            return "Any"
        return "bool" if self is PYTHON and schema.get("enum") == ["true", "false"] else self.write(schema)


_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None", "": "Any"}
PYTHON = Notation(_PLAIN, "File", "list[{}]", "dict[str, {}]", "tuple[{}]", "Literal[{}]", ", ")
_PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
TYPESCRIPT = Notation(_PLAIN | {"": "unknown"}, "Blob", "Array<{}>", "Record<string, {}>", "[{}]", "{}", " | ")


class Operation:
    """What one of the API's operations takes and answers."""

    def __init__(self, method: str, path: str, described: Schema) -> None:
        self.key, self.name = f"{method.upper()} {path}", str(described["operationId"])
        self.text = described.get("description") or f"{described['summary']}."
        self.parameters: list[Schema] = described.get("parameters", [])
        contents: dict[str, Schema] = described.get("requestBody", {}).get("content", {})
        self.bodies = [each["schema"] for each in contents.values()]
        self.is_form = [*contents] == [_FORM]
        answers = [each.get("content", {}) for code, each in described["responses"].items() if code[0] == "2"]
        self.kinds = {kind for each in answers for kind in each}
        self.answers = [each[_JSON]["schema"] for each in answers if _JSON in each]

    def list_parameters(self, place: str) -> list[Schema]:
        """List the parameters in the path, the query or the header."""
        return [each for each in self.parameters if each["in"] == place]

    @property
    def has_pages(self) -> bool:
        return any(each["name"] == "cursor" for each in self.parameters)


def list_operations(contract: Schema) -> Iterator[Operation]:
    """Yield the operations; `contract` is the document."""
    for path, methods in contract["paths"].items():
        yield from (Operation(method, path, described) for method, described in methods.items())


def _join_types(notation: Notation, schemas: Iterable[Schema]) -> str:
    return notation.write({"anyOf": [*schemas]})


def _is_form(schema: Schema) -> bool:
    """Whether a document has a file, or several in one field."""
    return any(part.get("items", part).get("format") == "binary" for part in schema["properties"].values())


def _wrap(text: str, indent: str) -> str:
    paragraphs = (textwrap.fill(each, 112 - len(indent)) for each in text.split("\n\n"))
    return textwrap.indent("\n\n".join(paragraphs), indent)


def _quote(text: str, indent: str) -> list[str]:
    """Return the lines of a docstring; none for no text."""
    lines = _wrap(text.replace("\\", r"\\"), indent).strip().splitlines()
    if not lines:
        return []
    return [f'{indent}"""{lines[0]}', *lines[1:], f'{indent}"""'] if lines[1:] else [f'{indent}"""{lines[0]}"""']


# --- Python ----------------------------------------------------------------------------------------------------------

_PYTHON_HEAD = f'''\
"""What the API takes, answers and does. {_HEAD}"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import IO, Any, Literal, NotRequired, TypedDict

File = bytes | IO[bytes] | tuple[str, bytes | IO[bytes]] | tuple[str, bytes | IO[bytes], str]
"""Content; or a name, content and perhaps a media type."""
'''
_CLASS_HEAD = '''

class Operations(ABC):
    """A method for each operation. An argument that is None is not sent. `RefusedError` says why one is refused."""

    @abstractmethod
    def ask(
        self,
        operation: str,
        names: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        form: bool = False,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> Any:
        """Send an operation such as `GET /v1/pictures/{id}`; return the document, text or bytes that it answers."""

    def iterate(self, operation: str, query: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the items of a listing, page after page; `limit` of them at most, if that is not None."""
        cursor, left = None, query["limit"]
        while left is None or left > 0:
            page = self.ask(operation, query={**query, "limit": min(left or 100, 100), "cursor": cursor})
            yield from page["items"][:left]
            left = None if left is None else left - len(page["items"])
            if (cursor := page["next_cursor"]) is None:
                return
'''


def write_python(contract: Schema) -> str:
    """Return the module for Python, formatted as all of ours."""
    schemas: dict[str, Schema] = contract["components"]["schemas"]
    lines = [_PYTHON_HEAD]
    for name, schema in schemas.items():
        lines += _list_type(name, schema)
    lines.append(_CLASS_HEAD)
    for operation in list_operations(contract):
        if _EVENTS not in operation.kinds:  # Client follows these
            lines += _list_method(operation)
        if operation.has_pages:
            item = schemas[PYTHON.write(operation.answers[0])]["properties"]["items"]["items"]
            lines += _list_pages(operation, PYTHON.write(item))
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", "contract.py", "-"]
    done = subprocess.run(command, cwd=ROOT, input="\n".join(lines), capture_output=True, text=True, check=True)
    return done.stdout


def _list_type(name: str, schema: Schema) -> Iterator[str]:
    write = PYTHON.write_field if _is_form(schema) else PYTHON.write
    types = {key: write(each) for key, each in schema["properties"].items()}
    needed = schema.get("required", [])
    types = {key: kind if key in needed else f"NotRequired[{kind}]" for key, kind in types.items()}
    if not all(map(str.isidentifier, types)):
        inside = ", ".join(f'"{key}": {kind}' for key, kind in types.items())
        yield f'\n\n{name} = TypedDict("{name}", {{{inside}}})'
        return
    yield f"\n\nclass {name}(TypedDict):"
    yield from _quote(schema.get("description", ""), "    ")
    for key, kind in types.items():
        yield f"    {key}: {kind}"
        yield from _quote(schema["properties"][key].get("description", ""), "    ")


def _list_method(operation: Operation) -> Iterator[str]:
    takes, args = _list_arguments(operation)
    sent = [json.dumps(operation.key), *([args["path"]] if "path" in args else [])]
    sent += ["body=body"] if operation.bodies else []
    sent += ["form=True"] if operation.is_form else []
    sent += [f"{name}={args[place]}" for place, name in (("query", "query"), ("header", "headers")) if place in args]
    kind = _join_types(PYTHON, operation.answers) or ("None" if not operation.kinds else "bytes")
    kind = "str" if "text/plain" in operation.kinds else kind
    yield f"    def {operation.name}({takes}) -> {kind}:"
    yield from _quote(operation.text, "        ")
    call = f"self.ask({', '.join(sent)})"
    yield f"        {call}\n" if kind == "None" else f"        answer: {kind} = {call}\n        return answer\n"


def _list_pages(operation: Operation, item: str) -> Iterator[str]:
    takes, args = _list_arguments(operation, without="cursor")
    yield f"    def {operation.name.replace('list_', 'iterate_')}({takes}) -> Iterator[{item}]:"
    yield f'        """Yield the items of `{operation.name}`, page after page; `limit` of them at most, or all."""'
    yield f"        return self.iterate({json.dumps(operation.key)}, {args['query']})\n"


def _list_arguments(operation: Operation, without: str = "") -> tuple[str, dict[str, str]]:
    """Return the arguments of a method, and what it hands on as path, query and header, as dictionaries."""
    takes, args = ["self"], dict[str, str]()
    takes += [f"{each['name']}: {PYTHON.write(each['schema'])}" for each in operation.list_parameters("path")]
    takes += [f"body: {_join_types(PYTHON, operation.bodies)}"] if operation.bodies else []
    named = [each for each in operation.parameters if each["in"] != "path" and each["name"] != without]
    takes += ["*"] if named else []
    for each in named:
        kind = _join_types(PYTHON, [each["schema"], *([] if each.get("required") else [{"type": "null"}])])
        takes.append(f"{_name_argument(each)}: {kind}{'' if each.get('required') else ' = None'}")
    for place in ("path", "query", "header"):
        some = [each for each in operation.list_parameters(place) if each["name"] != without]
        if some:
            pairs = ", ".join(f'"{each["name"]}": {_name_argument(each)}' for each in some)
            args[place] = f"{{{pairs}}}"
    return ", ".join(takes), args


def _name_argument(parameter: Schema) -> str:
    return str(parameter["name"]).replace("-", "_").lower()


# --- TypeScript ------------------------------------------------------------------------------------------------------


def write_typescript(contract: Schema) -> str:
    """Return the declarations for TypeScript."""
    lines = [f"// {_HEAD}\n"]
    for name, schema in contract["components"]["schemas"].items():
        lines += [*_list_comment(schema.get("description", ""), ""), f"export interface {name} {{"]
        for key, each in schema["properties"].items():
            lines += _list_comment(each.get("description", ""), "  ")
            lines.append(f"  {_declare(key, TYPESCRIPT.write(each), key in schema.get('required', []))}")
        lines.append("}\n")
    lines += ["/** What each operation takes and answers, by its method and path. */", "export interface Operations {"]
    for operation in list_operations(contract):
        lines += [*_list_comment(operation.text, "  "), f'  "{operation.key}": {{']
        for place in ("path", "query", "header"):
            if some := operation.list_parameters(place):
                inside = [_declare(p["name"], TYPESCRIPT.write(p["schema"]), p.get("required", False)) for p in some]
                is_needed = any(each.get("required") for each in some)
                lines.append(f"    {_declare(place, '{ ' + ' '.join(inside) + ' }', is_needed)}")
        if operation.bodies:
            lines.append(f"    body: {_join_types(TYPESCRIPT, operation.bodies)};")
        kind = "Blob" if operation.kinds else "undefined"
        kind = "string" if {"text/plain", _EVENTS} & operation.kinds else kind
        lines += [f"    answer: {_join_types(TYPESCRIPT, operation.answers) or kind};", "  };"]
    return "\n".join([*lines, "}\n"])


def _declare(key: str, kind: str, is_needed: bool) -> str:
    return f"{key if key.isidentifier() else json.dumps(key)}{'' if is_needed else '?'}: {kind};"


def _list_comment(text: str, indent: str) -> list[str]:
    lines = _wrap(text.replace("*/", "* /"), f"{indent} * ").splitlines()
    if len(lines) < 2:
        return [f"{indent}/** {text} */"] if text else []
    return [f"{indent}/**", *(line or f"{indent} *" for line in lines), f"{indent} */"]


FILES = {ROOT / "client" / "contract.py": write_python, ROOT / "docs" / "openapi.d.ts": write_typescript}


def write_files(contract: Schema) -> None:
    """Write what clients know of the document."""
    for file, write in FILES.items():
        file.write_text(write(contract), encoding="utf-8")
