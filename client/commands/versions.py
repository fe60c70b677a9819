"""`versions`, `releases`, `rollback`, `prune`, `withdraw`, `terms`: what is served, the way back, what speakers say."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..api import Client
from ..contract import ReleaseItem
from ..terminal import (
    FILE,
    REFUSED,
    Limit,
    Yes,
    answer,
    build_path,
    carry_out,
    format_count,
    format_recall,
    format_size,
    format_time,
    is_json_wanted,
    may_ask,
    open_service,
    print_table,
    say,
    stop,
)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]
Expected = Annotated[
    int | None, typer.Option(min=1, help="The release that serves now; refused if another release is serving.")
]
Reason = Annotated[str, typer.Option(help="A note for the list of releases.")]
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


def roll_back(
    tag: Annotated[str, typer.Argument(help="Tag of the language.")],
    expected: Expected = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Then train the shared table again on the languages that it loses.")
    ] = False,
) -> None:
    """Put a language back to its previous version, or remove its only one; no other language changes."""
    body = {"reason": reason, "rebuild": rebuild, "expected": expected}
    with open_service() as client:
        path = f"{build_path('/v1/admin/languages', tag)}/rollback"
        done = carry_out(client, path, body, _show_rollback, "Roll back?", dry_run=dry_run, yes=yes)
    if done is None:
        return
    say(f"Release {done['release']} serves. `pictoglot releases --restore {done['expected']}` undoes this.")
    if done["rebuild_expansion"]:
        say(f"The shared table is taught again: `pictoglot expansions {done['rebuild_expansion']} --watch`.")


def _show_rollback(plan: dict[str, Any]) -> None:
    say(f"{plan['language']}: version {plan['from_version']} → {_name_version(plan['to_version'])}")
    say(f"shared table: version {plan['shared_version']}")
    if plan["replay"]:
        say(f"not in the shared table until it is trained again: {', '.join(plan['replay'])}")
    say(f"unchanged, bit for bit: {', '.join(plan['unchanged']) or 'no other language is served'}")
    say(f"based on: release {plan['release']}, which serves now")


def list_versions(limit: Limit = 20) -> None:
    """List versions, newest first."""
    with open_service() as client:
        items = [*client.iterate_versions(limit=limit)]
    rows = [
        (
            *(item[name] for name in ("number", "parent", "language", "rows")),
            "pruned" if item["pruned_at"] else format_size(item["bytes"]),
            *(format_recall(item["report"], direction) for direction in ("t2i", "i2t")),
            format_time(item["created_at"]),
        )
        for item in items
    ]
    columns = ("version", "parent", "language", "rows", "size", "t2i R@1", "i2t R@1", "created (UTC)")
    answer({"items": items})
    print_table(columns, rows, ("version", "parent", "rows", "size", "t2i R@1", "i2t R@1"))


def list_releases(
    limit: Limit = 20,
    restore: Annotated[int | None, typer.Option(help="Serve this earlier release again.")] = None,
    expected: Annotated[
        int | None,
        typer.Option(help="With --restore: the release that serves now; refused if another one does, and never asked."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="With --restore: do not ask, whichever release serves now.")
    ] = False,
    reason: Annotated[str, typer.Option(help="With --restore: a note for the list of releases.")] = "",
) -> None:
    """List releases, newest first: who, when, why, what changed; or restore an earlier one."""
    if restore is None and expected is not None:
        stop("--expected NUMBER goes with --restore NUMBER.", REFUSED)
    with open_service() as client:
        if restore is None:
            items = [*client.iterate_releases(limit=limit)]
            answer({"items": items})
            _show_releases(items)
            return
        now = expected or _confirm_restore(client, restore, asks=may_ask(yes), yes=yes)
        done = client.restore(restore, {"expected": now, "reason": reason})
    answer(done)
    _show_releases([done])
    say(f"Release {done['number']} serves. `pictoglot releases --restore {now}` undoes this.")


def _show_releases(items: Iterable[ReleaseItem]) -> None:
    rows = [
        (
            item["number"],
            format_time(item["created_at"]),
            ": ".join(filter(None, (_name_change(item["change"], item["pruned"]), item["reason"]))),
            item["actor"],
            " ".join(f"{tag}:{version}" for tag, version in sorted(item["languages"].items())),
            item["shared"],
        )
        for item in items
    ]
    print_table(("release", "when (UTC)", "change", "by", "versions", "shared"), rows, ("release", "shared"))


def _confirm_restore(client: Client, restore: int, *, asks: bool, yes: bool) -> int:
    """Return the release that serves, which a restored one is to replace; exits when somebody says no."""
    releases = {item["number"]: item for item in client.iterate_releases()}
    now = max(releases)
    if asks and restore in releases:
        _show_restoring(releases[now], releases[restore])
        if not typer.confirm("Restore it?"):
            raise typer.Exit
    elif not (asks or yes):
        stop(f"Release {now} serves now: --restore needs `--expected {now}`, or --yes.", REFUSED)
    return now


def _show_restoring(now: ReleaseItem, earlier: ReleaseItem) -> None:
    stays = [tag for tag, version in now["languages"].items() if earlier["languages"].get(tag) == version]
    for tag in sorted({*now["languages"], *earlier["languages"]} - {*stays}):
        old, new = (_name_version(release["languages"].get(tag)) for release in (now, earlier))
        say(f"{tag}: {old} → {new}")
    moved = "" if now["shared"] == earlier["shared"] else f" → version {earlier['shared']}"
    say(f"shared table: version {now['shared']}{moved}")
    say(f"unchanged: {', '.join(sorted(stays)) or 'no language'}")
    say(f"based on: release {now['number']}, which serves now")


def prune(
    keep: Annotated[
        int | None, typer.Option(min=2, help="How many of the newest releases keep all they need; by default 10.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    yes: Yes = False,
) -> None:
    """Delete files and vectors of versions that no recent release needs; the history still lists them."""
    body = {} if keep is None else {"keep": keep}
    question = "Delete all this for good?"
    with open_service(upload=True) as client:  # removing many vectors takes minutes
        done = carry_out(client, "/v1/admin/prune", body, _show_pruning, question, dry_run=dry_run, yes=yes)
    if done is not None:
        say("Done.")


def _show_pruning(plan: dict[str, Any]) -> None:
    if not plan["items"]:
        say(f"There is nothing to remove: releases {plan['oldest']} to {plan['release']} need all that is there.")
        return
    names = ("what", "name", "language", "why")
    rows = [(*(item[name] for name in names), format_size(item["bytes"])) for item in plan["items"]]
    print_table((*names, "size"), rows, ("size",))
    say(f"In all about {format_size(plan['bytes'])}. Releases {plan['oldest']} to {plan['release']} stay in reach.")


def withdraw(
    tag: Annotated[str, typer.Argument(help="Tag of the language.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", dir_okay=False, help="The certificate; by default TAG-withdrawal.json."),
    ] = None,
    expected: Expected = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
) -> None:
    """Take a language away for good, with its datasets and files, and get a signed certificate.

    After an interruption, run the same command again.
    """
    body, question = {"reason": reason, "expected": expected}, "Remove all this for good?"
    with open_service(upload=True) as client:  # removing many vectors takes minutes
        path = f"{build_path('/v1/admin/languages', tag)}/withdraw"
        done = carry_out(client, path, body, _show_withdrawal, question, dry_run=dry_run, yes=yes)
    if done is None or (out is None and is_json_wanted()):
        return
    file = out or Path(f"{done['language']}-withdrawal.json")
    try:
        file.write_text(json.dumps(done["certificate"], ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        stop(f"{file} cannot be written: {error.strerror}. The same command gives the certificate again.")
    say(f"Withdrawn; release {done['release']} serves. The certificate is {file}.")


def _show_withdrawal(plan: dict[str, Any]) -> None:
    size = format_size(sum(each["bytes"] or 0 for each in (*plan["versions"], *plan["datasets"])))
    parts = [
        format_count(len(plan["versions"]), "version"),
        format_count(len(plan["datasets"]), "dataset"),
        format_count(plan["captions"], "taught caption"),
        format_count(plan["answers"], "answer"),
    ]
    say(f"{plan['language']}: {', '.join(parts)}, {size}.")
    say("What remains:")
    print_table(("what", "why"), [(each["name"], each["why"]) for each in plan["remains"]])
    say(f"based on: release {plan['release']}, which serves now")


def _name_version(number: int | None) -> str:
    return "not served" if number is None else f"version {number}"


def _name_change(change: dict[str, Any], pruned: list[int]) -> str:
    parts = [str(change.get("kind", "")), str(change.get("language") or change.get("restored") or "")]
    parts += ["forced"] if change.get("forced") else []
    parts += ["(pruned)"] if pruned else []
    return " ".join(part for part in parts if part) or "first"


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
    answer(terms, "\n".join(describe_terms(terms)) if terms else "Nothing is said of this language.")


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
