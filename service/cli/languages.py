"""`languages`, `learn`, `expansions`: what is learned, teaching one more, watching it. Trains nothing itself."""

import json
from pathlib import Path
from time import monotonic, sleep
from typing import Annotated, Any

import httpx
import typer
from httpx_sse import connect_sse
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from service.cli.client import answer, at, every, service
from service.cli.output import FAILED, REFUSED, AsJson, console, errors, note, recall, say, show_json, stop, table

_ENDED = ("succeeded", "failed", "cancelled")
_PAUSE = 1.0  # seconds until a broken stream of events is opened again
_PATIENCE = 60.0  # seconds without an answer until watching ends


def add(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command("languages")(languages)
    app.command("learn")(learn)
    app.command("expansions")(expansions)


def languages(as_json: AsJson = False) -> None:
    """List the learned languages with their versions and R@1."""
    with service() as client:
        found = answer(client.get("/v1/languages"))
    if as_json:
        show_json(found)
        return
    rows = [
        (
            item["language"],
            item["name"],
            item["native_name"],
            item["version"],
            item["captions"],
            recall(item["report"], "t2i"),
            recall(item["report"], "i2t"),
        )
        for item in found["items"]
    ]
    columns = ("tag", "name", "native name", "version", "captions", "t2i R@1", "i2t R@1")
    table(columns, rows, right=columns[3:])
    note(f"Release {found['release']} serves; the shared table is version {found['shared_version']}.")


def learn(
    tag: Annotated[str, typer.Argument(help="BCP 47 tag, such as cy or pt-BR.")],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The dataset.")],
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay until it has ended.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file; teach nothing.")] = False,
    settings: Annotated[str, typer.Option(help='JSON, such as {"epochs": 5}.')] = "",
    as_json: AsJson = False,
) -> None:
    """Teach a language from a dataset."""
    form = {"language": tag, "dry_run": "true" if dry_run else "false"}
    form |= {"settings": settings} if settings else {}
    with service(upload=True) as client:
        with file.open("rb") as stream:
            sent = answer(client.post("/v1/languages", data=form, files={"dataset": (file.name, stream)}))
        if dry_run:
            _dry_run(sent, as_json)
            return
        expansion: dict[str, Any] = sent["expansion"]
        if watch:
            expansion = _watched(client, expansion, quiet=as_json)
    _end(expansion, watch, as_json)


def expansions(
    id: Annotated[str | None, typer.Argument(help="One expansion; without it, the newest.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay until it has ended.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Stop it.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """List expansions; watch or cancel one."""
    if id is None and (watch or cancel):
        stop("Say which expansion to watch or cancel.", REFUSED)
    with service() as client:
        if id is None:
            found = every(client, "/v1/expansions", limit)
        elif cancel:
            found = [answer(client.post(f"{at('/v1/expansions', id)}/cancel"))]
        else:
            found = [answer(client.get(at("/v1/expansions", id)))]
        if watch:
            _end(_watched(client, found[0], quiet=as_json), watch, as_json)
            return
    if as_json:
        show_json({"items": found} if id is None else found[0])
        return
    rows = [
        (
            item["id"],
            item["kind"],
            item["language"],
            item["state"],
            item["phase"],
            f"{item['progress']:.0%}",
            item["version"],
            (item["error"] or {}).get("code"),
        )
        for item in found
    ]
    table(("id", "kind", "language", "state", "phase", "progress", "version", "error"), rows, right=("progress",))


def _dry_run(sent: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(sent)
        return
    report = sent["report"]
    faults = report.get("faults") or {}
    plain = [(name.replace("_", " "), _shown(value)) for name, value in report.items() if name != "faults"]
    table(("", ""), plain)
    for kind, fault in faults.items():
        lines = ", ".join(str(line) for line in fault["first_lines"])
        say(f"{fault['count']} rows left out: {kind.replace('_', ' ')} (line {lines})")


def _shown(value: object) -> str:
    return ", ".join(str(one) for one in value) if isinstance(value, list) else str(value)


def _watched(client: httpx.Client, expansion: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """The expansion when it has ended; a stream that breaks is opened again, a server that stays away ends it."""
    heard = monotonic()
    with _bar(quiet) as progress:
        task = progress.add_task(expansion["language"], total=1.0, phase=expansion["state"])
        _draw(progress, task, expansion)
        while expansion["state"] not in _ENDED:
            try:
                with connect_sse(client, "GET", f"/v1/expansions/{expansion['id']}/events") as events:
                    if events.response.is_error:
                        answer(events.response)
                    for event in events.iter_sse():
                        expansion, heard = json.loads(event.data), monotonic()
                        _draw(progress, task, expansion)
            except httpx.TransportError:
                if monotonic() - heard > _PATIENCE:
                    raise
            if expansion["state"] not in _ENDED:  # the server is away, or stops
                sleep(_PAUSE)
    return expansion


def _bar(quiet: bool) -> Progress:
    """A bar on a terminal; silent for programs."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=40),
        TaskProgressColumn(),
        TextColumn("{task.fields[phase]}", style="dim"),
        TimeRemainingColumn(),
        console=errors,
        disable=quiet or not errors.is_terminal,
    )


def _draw(progress: Progress, task: TaskID, expansion: dict[str, Any]) -> None:
    phase = expansion["phase"] or expansion["state"]
    steps = f" {expansion['step']}/{expansion['steps']}" if expansion["steps"] else ""
    progress.update(task, completed=expansion["progress"], phase=phase + steps)


def _end(expansion: dict[str, Any], watched: bool, as_json: bool) -> None:
    """Tell how it stands; a watched one that did not succeed is a failure."""
    if as_json:
        show_json(expansion)
    elif expansion["state"] == "succeeded" and expansion["kind"] == "rebuild":
        _rebuilt(expansion)
    elif expansion["state"] == "succeeded":
        _learned(expansion)
    elif not watched:
        say(f"Expansion {expansion['id']} is {expansion['state']}; `pictoglot expansions {expansion['id']} --watch`.")
    else:
        error = expansion["error"] or {}
        note(f"{expansion['language']} {expansion['state']}. {error.get('detail', '')}".strip())
    if watched and expansion["state"] != "succeeded":
        raise typer.Exit(FAILED)


def _learned(expansion: dict[str, Any]) -> None:
    say(f"{expansion['language']} is version {expansion['version']} in release {expansion['release']}.")
    report = expansion["report"] or {}
    if report.get("t2i"):
        rows = [
            (name, *(recall(report, direction, at) for at in (1, 5, 10)))
            for name, direction in (("text to picture", "t2i"), ("picture to text", "i2t"))
        ]
        table(("per cent", "R@1", "R@5", "R@10"), rows, right=("R@1", "R@5", "R@10"))
    if (report.get("shared") or {}).get("moved") is False:
        console.print("The shared table stayed where it was: it would have cost the others too much.", markup=False)


def _rebuilt(expansion: dict[str, Any]) -> None:
    """What a rebuild did to the shared table; what each language is served by is as it was."""
    report = expansion["report"] or {}
    if report.get("moved"):
        say(f"The shared table is version {expansion['version']} in release {expansion['release']}.")
    else:
        say("The shared table stayed where it was.")
    for tag, found in (report.get("languages") or {}).items():
        if "left_out" in found:
            say(f"{tag} is left out: {found['detail']}.")
        elif not found["shared"]["moved"]:
            say(f"{tag} is left out: it would have cost the others too much.")
