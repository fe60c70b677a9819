"""`rollback`, `versions`, `releases`, `prune`, `keys`: operating a running service. All decisions are the service's."""

import sys
from typing import Annotated, Any

import httpx
import typer

from ..client import answer, at, change, every, service
from ..errors import Unanswered
from ..output import REFUSED, AsJson, Limit, recall, say, show, show_json, size, stop, table, tell

keys = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)


def rollback(
    tag: Annotated[str, typer.Argument(help="Tag of the language.")],
    expected: Annotated[
        int | None, typer.Option(min=1, help="The release that serves now; refused if another release is serving.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Without a terminal, nothing is asked.")] = False,
    reason: Annotated[str, typer.Option(help="A note for the list of releases.")] = "",
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Afterwards, train the shared table again on the languages that it loses."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a language back to its previous version, or remove its only one; no other language changes."""
    path = f"{at('/v1/admin/languages', tag)}/rollback"
    seen: dict[str, Any] = {} if expected is None else {"expected": expected}
    asks = not (yes or dry_run or as_json) and sys.stdin.isatty()
    with service() as client:
        if dry_run or asks or expected is None:
            plan = answer(client.post(path, json={"dry_run": True, **seen}))
            if dry_run and as_json:
                show_json(plan)
                return
            if dry_run or asks:
                _show_plan(plan)
                say(f"based on: release {plan['release']}, which serves now")
            if dry_run or (asks and not typer.confirm("Roll back?")):
                return
            seen = {"expected": plan["release"]}  # what was planned is what happens
        try:
            done = change(client, path, {"reason": reason, "rebuild": rebuild, **seen})
        except Unanswered:
            stop(
                f"It is not known whether {tag} was rolled back. Look with `pictoglot releases`, "
                f"and run again with `--expected {seen['expected']}`."
            )
    if as_json:
        show_json(done)
        return
    if not asks:
        _show_plan(done)
    say(f"Release {done['release']} serves. `pictoglot releases --restore {seen['expected']}` undoes this.")
    if done["rebuild_expansion"]:
        say(f"The shared table is taught again: `pictoglot expansions {done['rebuild_expansion']} --watch`.")


def versions(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List versions, newest first."""
    with service() as client:
        items = every(client, "/v1/versions", limit)
    rows = [
        (
            *(item[name] for name in ("number", "parent", "language", "rows")),
            "pruned" if item["pruned_at"] else size(item["bytes"]),
            *(recall(item["report"], direction) for direction in ("t2i", "i2t")),
            _minute(item),
        )
        for item in items
    ]
    columns = ("version", "parent", "language", "rows", "size", "t2i R@1", "i2t R@1", "created (UTC)")
    show({"items": items}, as_json, columns, rows, ("version", "parent", "rows", "size", "t2i R@1", "i2t R@1"))


def releases(
    limit: Limit = 20,
    restore: Annotated[int | None, typer.Option(help="Serve this earlier release again.")] = None,
    expected: Annotated[
        int | None,
        typer.Option(
            help="With --restore: the release that serves now, refused if another does; then nothing is asked."
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="With --restore: do not ask, whichever release serves now.")
    ] = False,
    reason: Annotated[str, typer.Option(help="With --restore: a note for the list of releases.")] = "",
    as_json: AsJson = False,
) -> None:
    """List releases, newest first: who, when, why, what changed; or restore an earlier one."""
    if restore is None and expected is not None:
        stop("--expected NUMBER goes with --restore NUMBER.", REFUSED)
    now = None
    with service() as client:
        if restore is None:
            items = every(client, "/v1/admin/releases", limit)
        else:
            asks = not (yes or as_json) and sys.stdin.isatty()
            now = _serving(client, restore, asks=asks, yes=yes) if expected is None else expected
            if now is None:
                return
            body = {"expected": now, "reason": reason}
            items = [answer(client.post(f"/v1/admin/releases/{restore}/restore", json=body))]
    if as_json:
        show_json({"items": items} if restore is None else items[0])
        return
    _show_releases(items)
    if now is not None:
        say(f"Release {items[0]['number']} serves. `pictoglot releases --restore {now}` undoes this.")


def _show_releases(items: list[dict[str, Any]]) -> None:
    rows = [
        (
            item["number"],
            _minute(item),
            ": ".join(filter(None, (_change(item["change"]), item["reason"]))),
            item["actor"],
            " ".join(f"{tag}:{version}" for tag, version in sorted(item["languages"].items())),
            item["shared"],
            "pruned" if item["pruned"] else "kept",
        )
        for item in items
    ]
    columns = ("release", "when (UTC)", "change", "by", "versions", "shared", "files")
    table(columns, rows, ("release", "shared"))


def _serving(client: httpx.Client, restore: int, *, asks: bool, yes: bool) -> int | None:
    """The release that serves, which a restored one is to replace; None when the person who is asked says no."""
    releases: dict[int, dict[str, Any]] = {item["number"]: item for item in every(client, "/v1/admin/releases")}
    now = max(releases)
    if asks and restore in releases:
        _show_restoring(releases[now], releases[restore])
        return now if typer.confirm("Restore it?") else None
    if not (asks or yes):
        stop(f"Release {now} serves now: --restore needs `--expected {now}`, or --yes.", REFUSED)
    return now


def _show_restoring(now: dict[str, Any], earlier: dict[str, Any]) -> None:
    """What changes and what stays when an earlier release serves again."""
    stays = [tag for tag, version in now["languages"].items() if earlier["languages"].get(tag) == version]
    for tag in sorted({*now["languages"], *earlier["languages"]} - {*stays}):
        old, new = (_version(release["languages"].get(tag)) for release in (now, earlier))
        say(f"{tag}: {old} → {new}")
    moved = "" if now["shared"] == earlier["shared"] else f" → version {earlier['shared']}"
    say(f"shared table: version {now['shared']}{moved}")
    say(f"unchanged: {', '.join(sorted(stays)) or 'no language'}")
    say(f"based on: release {now['number']}, which serves now")


def _version(number: int | None) -> str:
    return "not served" if number is None else f"version {number}"


def prune(
    keep: Annotated[
        int | None, typer.Option(min=2, help="How many of the newest releases stay in reach; by default 10.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Without a terminal, nothing is asked.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove files and vectors of versions that no release in reach names, for ever; history stays listed."""
    asked: dict[str, Any] = {} if keep is None else {"keep": keep}
    asks = not (yes or dry_run or as_json) and sys.stdin.isatty()
    with service(upload=True) as client:  # removing many vectors takes minutes
        if dry_run or asks:
            plan = answer(client.post("/v1/admin/prune", json={"dry_run": True, **asked}))
            if dry_run and as_json:
                show_json(plan)
                return
            _show_pruning(plan)
            if dry_run or not plan["items"] or not typer.confirm("Remove all this for ever?"):
                return
            asked["expected"] = plan["release"]
        done = answer(client.post("/v1/admin/prune", json=asked))
    if as_json:
        show_json(done)
        return
    if not asks:
        _show_pruning(done)
    say("Done." if done["items"] else "Nothing was removed.")


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys, without their secrets."""
    with service() as client:
        listing = answer(client.get("/v1/admin/keys"))
    names = ("id", "scope", "label", "created_at", "expires_at", "revoked_at")
    rows = [[*(item[name] for name in names), ", ".join(item["collections"] or ())] for item in listing["items"]]
    show(listing, as_json, [*(name.removesuffix("_at") for name in names), "bound to"], rows)


@keys.command("create")
def create_key(
    scope: Annotated[str, typer.Argument(help="search, write or admin; each includes the ones before it.")],
    label: Annotated[str, typer.Option(help="What the key is for.")] = "",
    expires_at: Annotated[
        str | None, typer.Option(help="ISO 8601, with a time zone, such as 2030-01-31T12:00:00Z.")
    ] = None,
    collection: Annotated[
        list[str] | None, typer.Option(help="Bind the key to this collection; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key; it is shown only this once."""
    with service() as client:
        body: dict[str, Any] = {"scope": scope, "label": label, "expires_at": expires_at}
        body |= {"collections": collection} if collection else {}
        created = answer(client.post("/v1/admin/keys", json=body))
    tell(created, as_json, created["key"])


@keys.command("revoke")
def revoke_key(id: Annotated[str, typer.Argument(help="Id of the key.")], as_json: AsJson = False) -> None:
    """Revoke a key; requests with it are refused from then on."""
    with service() as client:
        client.delete(at("/v1/admin/keys", id)).raise_for_status()
    tell({"id": id, "revoked": True}, as_json, f"Key {id} is revoked.")


def _show_plan(plan: dict[str, Any]) -> None:
    """What changes and what stays."""
    tag, old, new = plan["language"], plan["from_version"], plan["to_version"]
    say(f"{tag}: version {old} → {_version(new)}")
    say(f"shared table: version {plan['shared_version']}")
    if plan.get("replay"):
        say(f"not in the shared table until it is trained again: {', '.join(plan['replay'])}")
    say(f"unchanged, bit for bit: {', '.join(plan['unchanged']) or 'no other language is served'}")


def _show_pruning(plan: dict[str, Any]) -> None:
    """What goes, why, and how much that is."""
    if not plan["items"]:
        say(f"There is nothing to remove: releases {plan['oldest']} to {plan['release']} need all that is there.")
        return
    names = ("what", "name", "language", "why")
    rows = [(*(item[name] for name in names), size(item["bytes"])) for item in plan["items"]]
    table((*names, "size"), rows, ("size",))
    say(f"In all about {size(plan['bytes'])}. Releases {plan['oldest']} to {plan['release']} stay in reach.")


def _change(change: dict[str, Any]) -> str:
    parts = [str(change.get("kind", "")), str(change.get("language") or change.get("restored") or "")]
    parts += ["forced"] if change.get("forced") else []
    return " ".join(part for part in parts if part) or "first"


def _minute(item: dict[str, Any]) -> str:
    return str(item["created_at"][:16].replace("T", " "))
