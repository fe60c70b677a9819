"""`terms`: whose a language is, what is allowed with it, and the labels of its community."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..client import open_service
from ..output import FILE, REFUSED, AsJson, print_json, say, stop

Tag = Annotated[str, typer.Argument(help="BCP 47 tag, such as cy or pt-BR.")]
_TEXTS = ("owner", "contact", "licence", "statement")
_LABELS = ("tk_labels", "bc_labels", "labels")
TermsFile = Annotated[
    Path | None,
    typer.Option(
        "--terms",
        help="JSON with `owner`, `contact`, `licence`, `statement`, `labels`; or a project of Local Contexts' hub.",
        **FILE,
    ),
]


def show_terms(
    tag: Tag,
    owner: Annotated[str | None, typer.Option(help="Whose language it is.")] = None,
    contact: Annotated[str | None, typer.Option(help="Whom to ask.")] = None,
    licence: Annotated[
        str | None, typer.Option(help="What is allowed: an SPDX identifier, a name, an address.")
    ] = None,
    statement: Annotated[str | None, typer.Option(help="What the community says.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A project of Local Contexts' hub, downloaded as JSON.", **FILE)
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take all terms away.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the terms of a language, or change those that are given; an option without text takes its one away."""
    texts = {"owner": owner, "contact": contact, "licence": licence, "statement": statement}
    changes: dict[str, Any] = {name: text for name, text in texts.items() if text is not None}
    changes |= {} if labels is None else read_terms(labels, only_labels=True)
    with open_service() as client:
        terms: Any = client.get_language(tag)["terms"]
        if changes or clear:
            before: Any = {} if clear else {name: terms[name] for name in (*_TEXTS, "labels")} if terms else {}
            if before and {*changes} & {*_LABELS}:
                del before["labels"]
            terms = client.set_terms(tag, before | changes)
    if as_json:
        print_json(terms)
        return
    say("\n".join(describe_terms(terms)) if terms else "Nothing is said of this language.")


def read_terms(file: Path, *, only_labels: bool = False) -> dict[str, Any]:
    """Return the terms in a file, without what else a project of Local Contexts has; exits if it holds none."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        document = None
    names = _LABELS if only_labels else (*_TEXTS, *_LABELS)
    terms = {name: document[name] for name in names if name in document} if isinstance(document, dict) else {}
    if not terms:
        stop(f"{file} has no terms: it is JSON with {', '.join(names)}.", REFUSED)
    return terms


def describe_terms(terms: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines that say all of it."""
    for name in _TEXTS:
        if terms[name]:
            yield f"{name}: {terms[name]}"
    for label in terms["labels"]:
        community = f" ({label['community']})" if label.get("community") else ""
        yield f"{label['name']}{community}: {label['text']}" if label.get("text") else f"{label['name']}{community}"


def summarize_terms(terms: Mapping[str, Any]) -> str:
    """Return owner, licence and the names of labels in one line."""
    labels = [label["name"] for label in terms["labels"]]
    return " · ".join(filter(None, (terms["owner"], terms["licence"], *labels, terms["statement"])))
