"""`base move`, `base status`, `base undo`: another base for everything that a running service has, and back."""

import sys
from time import monotonic, sleep
from typing import Annotated, Any

import typer

from ..client import answer, fresh_key, service
from ..output import AsJson, note, percent, say, show_json, size, table

base = typer.Typer(help="Which base serves; move to another one, and back.", no_args_is_help=True)
_OPENING = 900.0  # seconds to wait until the service has opened a base
_PAUSE = 1.0
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Without a terminal, nothing is asked.")]


@base.command()
def move(
    name: Annotated[str, typer.Argument(help="The base, as in PICTOGLOT_BASE.")],
    force: Annotated[
        bool, typer.Option("--force", help="Move even if a language would lose more than the forgetting budget.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Have the worker make everything anew for another base; the one that serves goes on serving meanwhile."""
    asks = not (yes or as_json) and sys.stdin.isatty()
    with service() as client:
        if asks:
            plan = answer(client.post("/v1/admin/base", json={"base": name, "force": force, "dry_run": True}))
            _show_plan(plan)
            if not typer.confirm("Move?"):
                return
        body = {"base": name, "force": force}
        done = answer(client.post("/v1/admin/base", json=body, headers=fresh_key()))
    if as_json:
        show_json(done)
        return
    if not asks:
        _show_plan(done)
    say(f"The worker makes everything anew: expansion {done['expansion']['id']}. Searches go on.")
    say(f"`pictoglot expansions {done['expansion']['id']} --watch` shows the progress, `pictoglot base status` all.")


@base.command()
def status(as_json: AsJson = False) -> None:
    """Which base serves, how far a move is, and what it did to each language."""
    with service() as client:
        found = answer(client.get("/v1/admin/base"))
    if as_json:
        show_json(found)
        return
    say(f"Base {found['base']} serves, as version {found['version']} in release {found['release']}.")
    if found["open"]["version"] != found["version"]:
        say(f"This service still has {found['open']['base']} open, and opens the other one beside it.")
    if found["move"] is not None:
        show_move(found["move"])
    if found["undo"] is not None:
        say(
            f"`pictoglot base undo` goes back to {found['undo']['to_base']}, "
            f"as release {found['undo']['restored']} had it."
        )


@base.command()
def undo(
    expected: Annotated[
        int | None, typer.Option(min=1, help="The release that serves now; refused if another release is serving.")
    ] = None,
    reason: Annotated[str, typer.Option(help="A note for the list of releases.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Serve the base before this one again, as its last release did. Done twice, it leads back."""
    seen: dict[str, Any] = {} if expected is None else {"expected": expected}
    asks = not (yes or dry_run or as_json) and sys.stdin.isatty()
    with service() as client:
        plan = answer(client.post("/v1/admin/base/undo", json={"dry_run": True, **seen}))
        if dry_run and as_json:
            show_json(plan)
            return
        if not as_json:
            _show_undo(plan)
        if dry_run or (asks and not typer.confirm("Go back?")):
            return
        body = {"expected": plan["release"], "reason": reason}  # what was planned is what happens
        done = answer(client.post("/v1/admin/base/undo", json=body))
        opened = _wait_until_open(client, done["release"])
    if as_json:
        show_json(done)
    elif opened:
        say(f"Release {done['release']} serves.")
    else:
        say(f"Release {done['release']} is published; the service is still opening {done['to_base']}.")


def show_move(expansion: dict[str, Any]) -> None:
    """State and comparison of one move."""
    asked, state = expansion["id"], expansion["state"]
    progress = f", {expansion['phase']}, {expansion['progress']:.0%}" if state == "running" else ""
    say(f"Move {asked}: {state}{progress}.")
    if expansion["error"]:
        note(expansion["error"]["detail"] or expansion["error"]["code"])
    report = expansion["report"] or {}
    languages = report.get("languages")
    if not languages:
        return
    rows = [(tag, *_row(figures)) for tag, figures in languages.items()]
    columns = ("language", "R@1 before", "after", "R@10 before", "after", "pairs", "")
    table(columns, rows, columns[1:6])
    for sentence in report.get("without_gain", ()):
        say(sentence)
    if lacks := report.get("shared_lacks"):  # the comparison is of texts whose language is known
        say(f"Text of unknown language is read without what was taught of: {', '.join(lacks)}.")


def _row(figures: dict[str, Any]) -> tuple[str, ...]:
    if not figures.get("before"):
        why = f"not taught: {figures['left_out']}" if "left_out" in figures else "not measured"
        return ("–", "–", "–", "–", "–", why)
    recalls = (percent(figures[side]["t2i"][f"R@{at}"]) for at in (1, 10) for side in ("before", "after"))
    return (*recalls, str(figures["pairs"]), "")


def _show_plan(plan: dict[str, Any]) -> None:
    say(
        f"To {plan['base']}: all pictures and captions encoded anew, "
        f"taught again: {', '.join(plan['languages']) or 'nothing'}."
    )
    say(f"It takes about {size(plan['needed'])} of disk; {size(plan['free'])} are free.")


def _show_undo(plan: dict[str, Any]) -> None:
    say(f"From {plan['from_base']} to {plan['to_base']}, as release {plan['restored']} had it.")
    for name, sentence in (
        ("lost", "no longer served"),
        ("returned", "served again"),
        ("changed", "served by their versions of before"),
    ):
        if plan[name]:
            say(f"{sentence}: {', '.join(plan[name])}")


def _wait_until_open(client: Any, release: int) -> bool:
    """Whether the service serves this release or a newer one, as soon as it does."""
    until = monotonic() + _OPENING
    while monotonic() < until:
        if (answer(client.get("/v1/admin/base"))["open"]["release"] or 0) >= release:
            return True
        sleep(_PAUSE)
    return False
