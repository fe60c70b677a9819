"""`languages`, `learn`, `assess`, `expansions`: list languages, teach or assess one, watch it. The worker does it."""

import json
from time import monotonic, sleep
from typing import Annotated, Any

import httpx
import typer
from httpx_sse import connect_sse
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ..client import answer, at, every, service
from ..output import (
    FAILED,
    REFUSED,
    AsJson,
    Limit,
    are,
    counted,
    errors,
    note,
    recall,
    say,
    show,
    show_json,
    stop,
    table,
)
from .bases import show_move

FEW = 20  # held-out captions, of which a single one is 5 points
_ENDED = ("succeeded", "failed", "cancelled")
_PAUSE = 1.0  # seconds until a broken stream of events is opened again
_PATIENCE = 60.0  # seconds without an event until watching ends


def languages(as_json: AsJson = False) -> None:
    """List the languages that are taught, built into the base or assessed, with their versions and R@1."""
    with service() as client:
        listing = answer(client.get("/v1/languages"))
    untaught = any(item["assessed"] for item in listing["items"])
    rows = [
        (
            *(item[name] for name in ("language", "name", "native_name")),
            _known(item),
            *(item[name] for name in ("version", "captions")),
            *(recall(_enough(item["report"]), direction) for direction in ("t2i", "i2t")),
            *([recall(_enough(item["assessed"]), "t2i", 10)] if untaught else []),
        )
        for item in listing["items"]
    ]
    columns: tuple[str, ...] = ("tag", "name", "native name", "", "version", "captions", "t2i R@1", "i2t R@1")
    columns += ("untaught R@10",) if untaught else ()
    show(listing, as_json, columns, rows, columns[4:])
    if not as_json:
        few = [item["language"] for item in listing["items"] if _few(item["report"]) or _few(item["assessed"])]
        if few:
            note(f"Of fewer than {FEW} held-out captions no share is shown: {', '.join(few)}.")
        note(f"Release {listing['release']} serves; the shared table is version {listing['shared_version']}.")


def _few(figures: dict[str, Any] | None) -> bool:
    """Whether something was measured with so few captions that one more or less counts."""
    return figures is not None and 0 < (figures.get("pairs") or 0) < FEW


def _enough(figures: dict[str, Any] | None) -> dict[str, Any]:
    return {} if figures is None or _few(figures) else figures


def expansions(
    id: Annotated[str | None, typer.Argument(help="Id of one expansion; without it, the newest ones.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show its progress until it ends.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel it.")] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List expansions (each teaches a language); watch or cancel one."""
    if id is None and (watch or cancel):
        stop("Give the id of the expansion to watch or cancel.", REFUSED)
    with service() as client:
        if id is None:
            items = every(client, "/v1/expansions", limit)
        elif cancel:
            items = [answer(client.post(f"{at('/v1/expansions', id)}/cancel"))]
        else:
            items = [answer(client.get(at("/v1/expansions", id)))]
        if watch:
            conclude(watch_expansion(client, items[0], quiet=as_json), watch, as_json)
            return
    rows = [(*(item[name] for name in ("id", "kind", "language")), *_state(item)) for item in items]
    columns = ("id", "kind", "language", "state", "result")
    show({"items": items} if id is None else items[0], as_json, columns, rows)
    if as_json:
        return
    if id is not None:
        _why(items[0])
    elif any(item["error"] for item in items):
        note("`pictoglot expansions ID` says why one of them failed.")


def _state(item: dict[str, Any]) -> tuple[str, str]:
    """The state, and what came of it: how far it is, the version, or why it failed."""
    if item["error"]:
        return item["state"], item["error"]["code"].replace("_", " ")  # a narrow terminal wraps between words
    if item["state"] == "running":
        return f"running {item['progress']:.0%}", item["phase"] or ""
    return item["state"], "" if item["version"] is None else f"version {item['version']}"


def _split(dataset: dict[str, Any]) -> None:
    """How many rows teach, and how many only measure."""
    if "val" in dataset:
        held = f"{dataset['val']:,} {are(dataset['val'])} held out"
        say(f"{counted(dataset['train'], 'row')} to learn from; {held}, to measure what was learned.")


def watch_expansion(client: httpx.Client, expansion: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """The expansion when it has ended. A broken stream is opened again, for at most a minute without events."""
    last_event = monotonic()
    with _bar(quiet) as progress:
        task = progress.add_task(expansion["language"], total=1.0, phase=expansion["state"])
        _draw(progress, task, expansion)
        while expansion["state"] not in _ENDED:
            try:
                with connect_sse(client, "GET", f"/v1/expansions/{expansion['id']}/events") as events:
                    if events.response.is_error:
                        answer(events.response)
                    for event in events.iter_sse():
                        expansion, last_event = json.loads(event.data), monotonic()
                        _draw(progress, task, expansion)
            except httpx.TransportError:
                if monotonic() - last_event > _PATIENCE:
                    again = f"`pictoglot expansions {expansion['id']} --watch`"
                    note(f"Nothing was heard for {_PATIENCE:.0f} seconds; {again} looks again.")
                    raise
            if expansion["state"] not in _ENDED:  # the service is away, or stops
                progress.update(task, phase="waiting for the service")
                sleep(_PAUSE)
    return expansion


def _bar(quiet: bool) -> Progress:
    """A progress bar on a terminal; nothing for programs."""
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


def conclude(expansion: dict[str, Any], watched: bool, as_json: bool) -> None:
    """Print the state; a watched expansion that did not succeed is a failure."""
    if as_json:
        show_json(expansion)
    elif expansion["state"] == "succeeded" and expansion["kind"] == "rebuild":
        _rebuilt(expansion)
    elif expansion["kind"] == "base" and expansion["state"] in _ENDED:
        show_move(expansion)
    elif expansion["state"] == "succeeded" and expansion["kind"] == "reencode":
        report = expansion["report"]
        say(f"All vectors are made with {report['encoding']}. Start service and worker again to serve them.")
        if report["unreadable"]:
            say(f"{counted(report['unreadable'], 'unreadable picture')} cannot be found by searches.")
    elif expansion["state"] == "succeeded" and expansion["kind"] == "assess":
        _assessed(expansion)
    elif expansion["state"] == "succeeded":
        _learned(expansion)
    elif not watched:
        say(f"Expansion {expansion['id']} is {expansion['state']}.")
        say(f"Watch it with `pictoglot expansions {expansion['id']} --watch`.")
    else:
        note(f"{expansion['language']} {expansion['state']}.")
        _why(expansion)
    if watched and expansion["state"] != "succeeded":
        raise typer.Exit(FAILED)


def _why(expansion: dict[str, Any]) -> None:
    """Why it failed, and what to do where forcing would have served it; nothing if it did not fail."""
    if not (error := expansion["error"]):
        return
    said, report = error["detail"] or error["code"], expansion["report"] or {}
    note(said if said.endswith("?") else f"{said.removesuffix('.')}.")
    if report.get("refused_by", "floor") != "floor":
        asked = " --replace" if "replaced" in report else ""
        asked += " --without-missing" if (report.get("dataset") or {}).get("missing") else ""
        note(f"`pictoglot learn {expansion['language']} FILE{asked} --force` serves it all the same.")


def _learned(expansion: dict[str, Any]) -> None:
    say(f"{expansion['language']} is learned: version {expansion['version']}, release {expansion['release']}.")
    report = expansion["report"] or {}
    if gain := report.get("gain"):
        say(f"{gain['sentence']}.{' It is served because that was forced.' if gain['forced'] else ''}")
    if earlier := report.get("earlier"):
        say(f"{earlier['sentence']}. {earlier['note'] or ''}".strip())
    if (joined := report.get("joined")) and joined["rows"]:
        before = counted(joined["datasets"], "earlier dataset")
        say(f"It was taught from {counted(joined['rows'], 'caption')} of {before} as well.")
    if replaced := report.get("replaced"):
        before = counted(replaced["datasets"], "earlier dataset")
        say(f"It replaces {before}: only the captions of this one are taught and shown now.")
    _split(report.get("dataset") or {})
    _recalls(report)
    if (report.get("shared") or {}).get("moved") is False:
        own = f"Searches in {expansion['language']} use what was learned"
        say(f"{own}; the shared table stays as it was, since other languages would have lost too much by it.")


def _assessed(expansion: dict[str, Any]) -> None:
    """The base's figures; beside them those of the shared table and of the language's version, where these differ."""
    report = expansion["report"]
    say(report["sentence"])
    _recalls(report)
    for name in ("shared", "taught"):
        if (figures := report[name]) is not None and figures["version"] != report.get("version", 0):
            which = "The shared table" if name == "shared" else "What was taught"
            say(f"{which}, version {figures['version']}:")
            _recalls(figures | {"against": report.get("against", "")})
    say("Nothing was taught and nothing is served otherwise than before.")


def _recalls(report: dict[str, Any]) -> None:
    if report.get("t2i"):
        other = {"english": "English", "pivots": "pivot"}.get(report.get("against", ""), "picture")
        rows = [
            (name, *(recall(report, direction, at) for at in (1, 5, 10)))
            for name, direction in ((f"text to {other}", "t2i"), (f"{other} to text", "i2t"))
        ]
        table(("percent", "R@1", "R@5", "R@10"), rows, right=("R@1", "R@5", "R@10"))


def _known(item: dict[str, Any]) -> str:
    """How a language is known."""
    ways = {"taught": "taught", "built_in": "built in", "assessed": "assessed"}
    return ", ".join(word for name, word in ways.items() if item[name])


def _rebuilt(expansion: dict[str, Any]) -> None:
    """What a rebuild did to the shared table; the version that serves each language did not change."""
    report = expansion["report"] or {}
    if report.get("moved"):
        say(f"The shared table is version {expansion['version']} in release {expansion['release']}.")
    else:
        say("The shared table was not changed.")
    for tag, outcome in (report.get("languages") or {}).items():
        if "left_out" in outcome:
            say(f"{tag} is left out: {outcome['detail']}.")
        elif not outcome["shared"]["moved"]:
            say(f"{tag} is left out: the other languages would have lost too much.")
