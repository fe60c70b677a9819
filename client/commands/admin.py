"""`keys`: create, list and revoke API keys. `base`: another base for everything that a service has, and back."""

from time import monotonic, sleep
from typing import Annotated, Any, Literal

import typer

from ..api import Client
from ..terminal import (
    JsonCommand,
    Limit,
    Yes,
    answer,
    carry_out,
    format_share,
    format_size,
    format_time,
    is_json_wanted,
    may_ask,
    note,
    open_service,
    print_table,
    say,
)
from .versions import DryRun, Expected, Reason, Tag

keys = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
base = typer.Typer(help="Show which base serves, move to another one, and back.", no_args_is_help=True)
_SHOWN_TARGETS = 4
_OPENING = 900.0  # seconds to wait until the service has opened a base
_PAUSE = 1.0


@keys.command("list", cls=JsonCommand)
def list_keys() -> None:
    """List the keys, without their secrets."""
    with open_service() as client:
        listing: Any = client.list_keys()
    rows = []
    for item in listing["items"]:
        times = [format_time(item[f"{name}_at"]) for name in ("created", "expires", "revoked")]
        rows.append([item["id"], item["scope"], item["label"], *times, ", ".join(item["collections"] or ())])
    answer(listing)
    print_table(("id", "scope", "label", "created (UTC)", "expires", "revoked", "bound to"), rows)


@keys.command("create", cls=JsonCommand)
def create_key(
    scope: Annotated[str, typer.Argument(help="search, write or admin; each includes the ones before it.")],
    label: Annotated[str, typer.Option(help="What the key is for.")] = "",
    expires_at: Annotated[
        str | None, typer.Option(help="ISO 8601, with a time zone, such as 2030-01-31T12:00:00Z.")
    ] = None,
    collection: Annotated[
        list[str] | None, typer.Option(help="Bind the key to this collection; may be repeated.")
    ] = None,
) -> None:
    """Create a key; it is shown only this once."""
    body: Any = {"scope": scope, "label": label, "expires_at": expires_at, "collections": collection or None}
    with open_service() as client:
        created = client.create_key(body)
    answer(created, created["key"])


@keys.command("revoke", cls=JsonCommand)
def revoke_key(id: Annotated[str, typer.Argument(help="Of the key or session.")]) -> None:
    """Revoke a key, or end a session; requests with it are refused from then on."""
    with open_service() as client:
        client.revoke_key(id)
    answer({"id": id, "revoked": True}, f"{id} is revoked.")


def list_acts(
    limit: Limit = 20,
    actor: Annotated[str, typer.Option(help="Of this key or person: the id, which stands after the name.")] = "",
    act: Annotated[str, typer.Option(help="Of this act, such as `DELETE /v1/pictures/{id}`.")] = "",
    target: Annotated[str, typer.Option(help="Of this picture, language, key or expansion.")] = "",
    since: Annotated[str, typer.Option(help="ISO 8601, with a time zone, such as 2030-01-31T12:00:00Z.")] = "",
    until: Annotated[str, typer.Option(help="As --since: acts before that moment.")] = "",
) -> None:
    """List who changed what, newest first."""
    query: Any = {"actor": actor, "act": act, "target": target, "since": since, "until": until}
    with open_service() as client:
        items = [*client.iterate_acts(limit=limit, **{name: text for name, text in query.items() if text})]
    rows = []
    for item in items:
        targets = [f"{name} {became}".strip() for name, became in item["targets"].items()]
        what = ", ".join(targets[:_SHOWN_TARGETS] + ["…"] * (len(targets) > _SHOWN_TARGETS))
        who = f"{item['label']} ({item['actor']})" if item["label"] else item["actor"]
        rows.append((format_time(item["at"]), who, item["act"], what))
    answer({"items": items})
    print_table(("when (UTC)", "who", "act", "what"), rows)


def delete_contributions(
    tag: Tag,
    actor: Annotated[str, typer.Argument(help="Id of a key or person, as `pictoglot audit` shows it.")],
    yes: Yes = False,
) -> None:
    """Delete for good what a key or person gave to a language: answers, rows that wait, proposed captions."""
    if may_ask(yes) and not typer.confirm(f"Delete for good what {actor} gave to {tag}?"):
        return
    with open_service() as client:
        client.delete_contributions(tag, actor=actor)
    answer({"language": tag, "actor": actor, "deleted": True}, f"What {actor} gave to {tag} is deleted.")


@base.command("move", cls=JsonCommand)
def move_base(
    name: Annotated[
        str | None, typer.Argument(help="The base, as in PICTOGLOT_BASE; without it, the one that serves.")
    ] = None,
    backend: Annotated[
        Literal["auto", "torch", "openvino"] | None,
        typer.Option(help="What computes the vectors; by default what computes them now."),
    ] = None,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "int8"] | None,
        typer.Option(help="In which precision; by default that of now."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Move even if a language loses more than the forgetting budget.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Have the worker compute everything again for another base or encoding; what serves goes on serving meanwhile."""
    body = {"base": name, "backend": backend, "precision": precision, "force": force}
    with open_service() as client:
        done = carry_out(client, "/v1/admin/base", body, _show_move_plan, "Move?", yes=yes, pin=False)
    if done is not None:
        id = done["expansion"]["id"]
        say(f"The worker has begun: expansion {id}. Searches go on.")
        say(f"`pictoglot expansions {id} --watch` shows the progress, `pictoglot base status` all.")


@base.command("status", cls=JsonCommand)
def show_status() -> None:
    """Show which base serves, how far a move is, and what it did to each language."""
    with open_service() as client:
        found: Any = client.get_base()
    answer(found)
    say(f"Base {found['base']} serves, as version {found['version']} in release {found['release']}.")
    say(f"Its vectors are made by {found['encoding']}.")
    opened = found["open"]
    if (opened["version"], opened["encoding"]) != (found["version"], found["encoding"]):
        say(f"This service still has {opened['base']} with {opened['encoding']} open, and opens the other beside it.")
    if found["move"] is not None:
        show_move(found["move"])
    if (undo := found["undo"]) is not None:
        say(f"`pictoglot base undo` goes back to {_name_target(undo)}.")


@base.command("undo", cls=JsonCommand)
def undo_move(expected: Expected = None, reason: Reason = "", dry_run: DryRun = False, yes: Yes = False) -> None:
    """Serve the earlier base or encoding again, as its last release did; done twice, it leads back."""
    path, body = "/v1/admin/base/undo", {"reason": reason, "expected": expected}
    with open_service() as client:
        done = carry_out(client, path, body, _show_undo, "Go back?", dry_run=dry_run, yes=yes)
        if done is not None and not is_json_wanted():
            opened = _wait_until_open(client, done["release"])
            serves = "serves." if opened else f"is published; the service is still opening {_name_target(done)}."
            say(f"Release {done['release']} {serves}")


def show_move(expansion: dict[str, Any]) -> None:
    """Print state and comparison of one move."""
    state = expansion["state"]
    progress = f", {expansion['phase']}, {expansion['progress']:.0%}" if state == "running" else ""
    say(f"Move {expansion['id']}: {state}{progress}.")
    if expansion["error"]:
        note(expansion["error"]["detail"] or expansion["error"]["code"])
    report = expansion["report"] or {}
    if not report.get("languages"):
        return
    rows = [(tag, *_format_figures(figures)) for tag, figures in report["languages"].items()]
    columns = ("language", "R@1 before", "after", "R@10 before", "after", "pairs", "")
    print_table(columns, rows, columns[1:6])
    for sentence in report.get("without_gain", ()):
        say(sentence)
    if lacks := report.get("shared_lacks"):  # the comparison is of texts whose language is known
        say(f"Text of unknown language is read without what was taught of: {', '.join(lacks)}.")


def _format_figures(figures: dict[str, Any]) -> tuple[str, ...]:
    if not figures.get("before"):
        why = f"not taught: {figures['left_out']}" if "left_out" in figures else "not measured"
        return ("–", "–", "–", "–", "–", why)
    recalls = (format_share(figures[side]["t2i"][f"R@{at}"]) for at in (1, 10) for side in ("before", "after"))
    return (*recalls, str(figures["pairs"]), "")


def _show_move_plan(plan: dict[str, Any]) -> None:
    taught = ", ".join(plan["languages"]) or "nothing"
    say(f"To {plan['base']}: all pictures and captions are encoded again; taught again: {taught}.")
    say(f"It takes about {format_size(plan['needed'])} of disk; {format_size(plan['free'])} are free.")


def _show_undo(plan: dict[str, Any]) -> None:
    say(f"From {plan['from_base']} to {_name_target(plan)}.")
    for name, what in (
        ("lost", "no longer served"),
        ("returned", "served again"),
        ("changed", "in an earlier version"),
    ):
        if plan[name]:
            say(f"{what}: {', '.join(plan[name])}")


def _name_target(undo: dict[str, Any]) -> str:
    encoding = f"with vectors made by {undo['encoding']}"
    if undo["from_base"] == undo["to_base"]:
        return f"{undo['to_base']} {encoding}"
    return f"{undo['to_base']}, as release {undo['restored']} had it" + (f", {encoding}" if undo["encoding"] else "")


def _wait_until_open(client: Client, release: int) -> bool:
    """Whether the service serves this release or a newer one, as soon as it does."""
    until = monotonic() + _OPENING
    while monotonic() < until:
        if (client.get_base()["open"]["release"] or 0) >= release:
            return True
        sleep(_PAUSE)
    return False
