"""`backup` copies registry and files while everything runs, `backup verify` opens a copy, `restore` puts it back."""

import contextlib
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer

from client.terminal import FAILED, REFUSED, answer, format_count, format_size, stop
from service.commands.processes import build_command
from service.commands.run import exit_on_error, load_settings, read_admin_key

if TYPE_CHECKING:
    from index.backup import Backup, Question
    from service.settings import Settings

_VERIFY = "verify"
_HITS = 10
_CLOSE = 0.01  # scores between which processors differ: such hits may change places
_SECONDS = 30.0  # for one answer
_STOPPED_WITHIN = 30.0  # seconds
_TRIAL = {
    "HOST": "127.0.0.1", "PORT": "0", "STORE": "", "BROKER_URL": "", "OPEN": "0", "FREE_BYTES": "0",
    "ENVIRONMENT": "local", "LOG_LEVEL": "error", "BACKUP_BEFORE_UPGRADE": "",
}  # fmt: skip
Answer = list[Any]  # the version that read the text, and the hits: id and score


def back_up(
    words: Annotated[list[str], typer.Argument(metavar="[verify] DIR", show_default=False)],
    keep: Annotated[int, typer.Option(min=1, help="Backups that stay in DIR; older ones are removed.")] = 14,
) -> None:
    """Back up the data root and registry of the settings into DIR, while everything runs.

    With `verify`, compare every file of the newest backup in DIR, or of DIR itself, with its checksum, open it beside
    the running service, and search in each language: the answers must be those that were noted with it.
    """
    *verb, place = words
    if place == _VERIFY or verb not in ([], [_VERIFY]):
        stop("Name one folder: `pictoglot backup DIR`, or `pictoglot backup verify DIR`.", REFUSED)
    (_verify if verb else partial(_take, keep=keep))(Path(place))


def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A backup, or the folder of several: the newest.")],
) -> None:
    """Restore a backup into the data root and registry of the settings, which must be empty."""
    from index.backup import find  # late: help does not need it

    settings = load_settings()
    with exit_on_error():
        found = find(folder)
        found.verify()
        found.restore(settings)
    document = {"restored": str(found.folder), "home": str(settings.home), **_describe(found)}
    answer(document, f"{_tell(found)} is restored from {found.folder} into {settings.home}.")


def _take(folder: Path, keep: int) -> None:
    from index.backup import take  # late: help does not need it

    settings = load_settings()
    has_key = bool(settings.admin_key) or settings.key_file.is_file()
    key = read_admin_key(settings) if has_key else ""
    with exit_on_error(), _open_client(settings.make_local_address(), key) as service:
        made = take(settings, folder, keep, partial(ask, service))
    manifest = made.manifest
    noted = sum(question["answer"] is not None for question in manifest["questions"])
    document = {"backup": str(made.folder), **_describe(made), "answers": noted}
    document |= {name: manifest[name] for name in ("new_bytes", "missing", "missing_count", "damaged")}
    sentence = (
        f"{_tell(made)} is backed up in {made.folder}: {format_size(made.size)}, "
        f"{format_size(manifest['new_bytes'])} of it new; {format_count(noted, 'answer')} noted"
    )
    if not noted:
        sentence += ", since no service answered, or what it finds was changing: `verify` has nothing to compare"
    for count, what in (
        (manifest["missing_count"], "missing that the registry names"),
        (len(manifest["damaged"]), "damaged in the data root"),
    ):
        sentence += f"; {format_count(count, 'file')} {what}: see `pictoglot verify`" if count else ""
    answer(document, f"{sentence}.")
    if manifest["missing_count"] or manifest["damaged"]:
        raise typer.Exit(FAILED)


def _verify(folder: Path) -> None:
    from index.backup import find  # late: help does not need it

    settings = load_settings()
    with exit_on_error():
        found = find(folder)
        found.verify()
        with run_trial(settings, found) as trial:
            wrong = find_differences(trial, found.manifest["questions"])
    asked = found.manifest["questions"]
    noted = sum(question["answer"] is not None for question in asked)
    missing = found.manifest["missing_count"]
    document = {"backup": str(found.folder), "ok": not wrong and not missing, **_describe(found)}
    document |= {"searches": len(asked), "compared": noted, "differences": wrong}
    said = (
        f"{found.folder} opens, and {len(wrong)} of {format_count(len(asked), 'search', 'searches')} answer otherwise."
    )
    if missing:
        said += f" It lacks {format_count(missing, 'file')} that its registry names."
    elif not wrong:
        said = (
            f"{found.folder} is whole: {_tell(found)}. It opens, and answers "
            f"{format_count(len(asked), 'search', 'searches')}, {noted} of them as noted then."
        )
    answer(document, said)
    if wrong or missing:
        raise typer.Exit(FAILED)


def _describe(found: "Backup") -> dict[str, Any]:
    names = ("time", "release", "revision", "base", "pictures", "languages")
    return {
        **{name: found.manifest[name] for name in names},
        "files": len(found.manifest["files"]),
        "bytes": found.size,
        "missing_count": found.manifest["missing_count"],
    }


def _tell(found: "Backup") -> str:
    manifest = found.manifest
    pictures, languages = format_count(manifest["pictures"], "picture"), ", ".join(manifest["languages"])
    when = manifest["time"][:16].replace("T", " ")
    return (
        f"Release {manifest['release']} of {when} UTC, with {pictures} and {languages}, on the base {manifest['base']}"
    )


def _open_client(address: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=address, headers={"X-API-Key": key}, timeout=_SECONDS, trust_env=False)


def ask(service: httpx.Client, question: "Question") -> Answer | None:
    """Return the answer to a question; None without one."""
    body = {"text": question["text"], "language": question["language"], "limit": _HITS}
    try:
        found = service.post("/v1/search/pictures", json=body).raise_for_status().json()
    except httpx.HTTPError:
        return None
    return [found["version"], [[hit["id"], hit["score"]] for hit in found["items"]]]


def find_differences(service: httpx.Client, questions: "list[Question]") -> "list[Question]":
    """Return the questions that are not answered, or not as they were, with what was `found`."""
    answers = [(question, ask(service, question)) for question in questions]
    return [
        {**question, "found": found}
        for question, found in answers
        if found is None or not (question["answer"] is None or agree(question["answer"], found))
    ]


def agree(noted: Answer, found: Answer) -> bool:
    """Return whether two answers are the same, but for hits whose scores differ by as much as processors do."""
    (version, before), (again, after) = noted, found
    if version != again or len(before) != len(after):
        return False
    scores = dict(map(tuple, after))
    least = before[-1][1] + _CLOSE if before else 0.0  # hits that others may have pushed out
    return all(
        abs(scores[id] - score) <= _CLOSE if id in scores else len(before) == _HITS and score <= least
        for id, score in before
    )


@contextlib.contextmanager
def run_trial(settings: "Settings", found: "Backup") -> Iterator[httpx.Client]:
    """Restore a backup into a temporary folder, and a database if need be, and serve it there on a free port."""
    from index.copier import make_database
    from index.set_states import request_reindex
    from store.registry import open_registry

    with contextlib.ExitStack() as stack:
        beside = found.folder.parent  # where files can be linked
        place = beside if os.access(beside, os.W_OK) else None
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".verify-", dir=place)))
        is_file = found.manifest["database"] == "sqlite"
        database = "" if is_file else stack.enter_context(make_database(settings.database_url))
        index = settings.index if settings.index == "pgvector" else "faiss"  # never somebody else's Milvus
        own = {**_TRIAL, "HOME": str(home / "home"), "DATABASE_URL": database, "INDEX": index}
        trial = settings.model_copy(
            update={"home": home / "home", "database_url": database, "index": index, "store": ""}
        )
        found.restore(trial)
        if index != settings.index:
            with contextlib.closing(open_registry(trial.database)) as registry:
                request_reindex(index, registry)
        yield stack.enter_context(_serve(own, home / "log"))


@contextlib.contextmanager
def _serve(own: dict[str, str], log: Path) -> Iterator[httpx.Client]:
    from model.processes import die_with_parent
    from store.errors import BackupFailed
    from store.settings import PREFIX

    key = secrets.token_urlsafe(32)
    variables = {**os.environ, **{PREFIX + name: value for name, value in {**own, "ADMIN_KEY": key}.items()}}
    with log.open("wb") as errors:
        process = subprocess.Popen(
            build_command("service"),
            env=variables,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().rpartition(" ")[2].strip()  # is printed when everything was opened
        if not address:
            lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise BackupFailed(f"The backup is whole, and does not open: {lines[-1]}")
        with _open_client(address, key) as client:
            until = time.monotonic() + _SECONDS
            while time.monotonic() < until:
                with contextlib.suppress(httpx.TransportError):  # not listening yet
                    if client.get("/readyz").is_success:
                        break
                time.sleep(0.1)
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
