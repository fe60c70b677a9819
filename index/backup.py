"""Backups: the registry as it was at one moment, and the files that it names, in a folder of their own. And back.

The registry is copied first, the files after it. Meanwhile a janitor may remove what was replaced, pruned or purged. So
what the copy names is looked up among the files; while something is missing, the registry is copied again, as it is by
then. Files that came later do no harm: as after a crash, no row names them. The manifest comes last: a folder without
one is no backup.
"""

import errno
import fcntl
import json
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import func, inspect, make_url, select
from sqlalchemy.orm import Session

from index.copier import CACHE, HOME, Copier, dump_registry, find_sqlite_files, has_registry, load_registry, place_file
from index.picture_files import name_files
from index.set_states import is_run, select_newest
from store import files
from store.data_root import EXPANSIONS, SIGNING_KEY, DataRoot
from store.errors import BackupFailed, CorruptFolder, StorageFull, StoreUnavailable
from store.files import MANIFEST, TEMPORARY
from store.reach import DeletedPictureRow, get_serving
from store.registry import NEWEST, open_registry, read_revision
from store.settings import CommonSettings
from store.tables import BaseRow, CaptionRow, DiscardedContentRow, ExpansionRow, PictureRow, VectorSetRow, VersionRow
from store.versions import find_roots

KEEP = 14  # backups
_REGISTRY = {"sqlite": "registry.db", "postgresql": "registry.dump"}
_ROUNDS = 4  # copies of the registry, at most
_QUESTIONS = 3  # for each language
_LONGEST = 200  # characters of one
_WORDS = ("people", "a house", "something red")  # are searched for where no picture has a caption
_FOLLOWED = 1.0  # seconds after which every process has what was written
_ALL = 1 << 30  # how many are kept where nobody said how many
_NAMED = 100  # missing files, in the manifest
_NOTE = "verified/backup.json"  # in the data root, of a folder that no backup has
_log = logging.getLogger(__name__)

Question = dict[str, Any]  # `text`, `language`, and the `answer` that was noted, or None


@dataclass(frozen=True)
class Backup:
    """A backup that is complete: its folder, and its manifest with the sha256 of each file."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def size(self) -> int:
        """The size of all files in bytes."""
        return sum(facts["size"] for facts in self.manifest["files"].values())

    def verify(self) -> None:
        """Read every file and compare. Raises BackupFailed."""
        with _explain(self.folder):
            files.verify(self.folder)

    def restore(self, settings: CommonSettings) -> None:
        """Put everything where the settings say and nothing is; after an error, or a full disk, nothing is there again.

        Nothing is compared: call `verify` before. Raises BackupFailed, RegistryUnavailable, StoreUnavailable.
        """
        home, database = settings.home, settings.database
        kind = self.manifest["database"]
        if kind != make_url(database).get_backend_name():
            raise BackupFailed(f"The registry of this backup is of {kind}, and PICTOGLOT_DATABASE_URL is not")
        if self.manifest["revision"] > NEWEST:
            raise BackupFailed("A newer release of pictoglot made this backup")
        root = DataRoot(home, settings.store)
        if any(_list_made(home)):
            raise BackupFailed(f"{home} is not empty: a backup is restored into an empty PICTOGLOT_HOME alone")
        if has_registry(database):
            raise BackupFailed("There is a registry at PICTOGLOT_DATABASE_URL: a backup is restored into an empty one")
        if kind == "sqlite" and (there := find_sqlite_files(database)):
            raise BackupFailed(f"{there[0]} exists: remove it, or name another file in PICTOGLOT_DATABASE_URL")
        if not root.is_store_empty():  # or what is there would go with a restore that fails
            raise BackupFailed(f"{settings.store} is not empty: a backup is restored into an empty PICTOGLOT_STORE")
        with files.restrict_access(), _explain(home):
            files.make_folder(home)
            try:
                for name in self.manifest["files"]:
                    if name.startswith(f"{HOME}/"):
                        inner = name.removeprefix(f"{HOME}/")
                        place_file(inner, self.folder / name, home / inner)
                os.sync()
                root.commit_all()
                load_registry(database, self.folder / _REGISTRY[kind])  # last: without it, no file means anything
            except BaseException:
                for made in [*_list_made(home)]:
                    files.remove(made)
                with suppress(StoreUnavailable):
                    root.remove_from_store("")
                raise


def _list_made(home: Path) -> Iterator[Path]:
    """List what is in a data root, but bases from the network: to verify a backup fetches one."""
    return (path for path in home.iterdir() if path.name != CACHE) if home.exists() else iter(())


Ask = Callable[[Question], Any]  # returns a running service's answer as JSON; None without one


def take(
    settings: CommonSettings, place: Path, keep: int = KEEP, ask: Ask = lambda _: None, *, wait: bool = False
) -> Backup:
    """Make a backup below `place`, and remove all but the newest `keep` there. Services and workers may run meanwhile.

    Answers are noted that are the same before the registry is copied and afterwards. With `wait`, another backup that
    is being made there is waited for. Raises BackupFailed, RegistryUnavailable, StoreUnavailable; nothing is kept then.
    """
    place = place.expanduser().absolute()
    if place.resolve().is_relative_to(settings.home.resolve()):
        raise BackupFailed(f"{place} is in the data root: name a folder outside of it")
    if (place / MANIFEST).is_file():
        raise BackupFailed(f"{place} is a backup itself: name the folder of all backups")
    if not has_registry(settings.database):
        raise BackupFailed(f"There is nothing to back up: {settings.home} (PICTOGLOT_HOME) has no registry yet")
    with files.restrict_access(), _explain(place), _hold(place, wait):
        for folder in place.glob(f"{TEMPORARY}*"):  # of backups that were killed
            files.remove(folder)
        staged = place / f"{TEMPORARY}{uuid4().hex}"
        files.make_folder(staged / HOME)
        earlier = None
        with suppress(BackupFailed):  # there is none, or none with a whole manifest
            earlier = find(place)
        try:
            manifest = _fill(settings, staged, earlier, ask)
            os.sync()
            final = place / datetime.fromisoformat(manifest["time"]).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
            staged.rename(final)
            files.fsync(place)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        if not (manifest["missing_count"] or manifest["damaged"]):  # the last whole one stays
            for old in [each for each in list_folders(place) if each != final][: 1 - keep or None]:
                files.remove(old)
        made = Backup(final, manifest)
        with suppress(OSError):  # who takes it may not be allowed to
            about = {"folder": str(final), "time": manifest["time"], "bytes": made.size}
            files.write_json(settings.home / _NOTE, about | {"missing": manifest["missing_count"]})
    return made


def find_note(home: Path) -> dict[str, Any] | None:
    """Return what is noted of the newest backup of a data root; None where none was taken, or it cannot be read."""
    with suppress(OSError, ValueError):
        note: dict[str, Any] = json.loads((home / _NOTE).read_bytes())
        return note
    return None


def find(place: Path) -> Backup:
    """Return the backup in a folder, or the newest of those below it. Raises BackupFailed."""
    with _explain(place):
        folder = place if (place / MANIFEST).is_file() else next(reversed(list_folders(place)), None)
    if folder is None:
        raise BackupFailed(f"There is no backup in {place} that this user may read")
    with _explain(folder):
        manifest = files.read_manifest(folder)
    if manifest.get("database") not in _REGISTRY:
        raise BackupFailed(f"{folder} is no backup")
    return Backup(folder, manifest)


def list_folders(place: Path) -> list[Path]:
    """List the folders of the backups below `place`, oldest first."""
    return sorted(found.parent for found in place.glob(f"[0-9]*Z/{MANIFEST}"))


def back_up_before_upgrade(settings: CommonSettings) -> None:
    """Take a backup where the settings want one and the next opening of the registry migrates it; as `take`."""
    if not settings.backup_before_upgrade or not has_registry(settings.database):
        return
    with closing(open_registry(settings.database, migrate=False)) as registry:
        migration = registry.describe_migration()
    if migration:
        made = take(settings, Path(settings.backup_before_upgrade), _ALL, wait=True)
        _log.warning("%s; the backup before it is %s", migration, made.folder)


def draw_questions(session: Session) -> list[Question]:
    """Draw a few texts to search for in each language that is served: captions in it, or in others, or words."""
    texts, asked = select(CaptionRow.text).order_by(CaptionRow.id).limit(_QUESTIONS), list[Question]()
    others = session.scalars(texts).all() or _WORDS
    for language in sorted(get_serving(session).languages):
        own = session.scalars(texts.where(CaptionRow.language == language)).all() or others
        asked += [{"language": language, "text": text[:_LONGEST], "answer": None} for text in dict.fromkeys(own)]
    return asked


def _fill(settings: CommonSettings, staged: Path, earlier: Backup | None, ask: Ask) -> dict[str, Any]:
    """Copy registry and files to `staged`, and the manifest at last; returns it."""
    answers = _ask_first(settings, ask)
    known = {} if earlier is None else earlier.manifest["files"]
    copier, missing = Copier(settings, staged, None if earlier is None else earlier.folder, known), list[str]()
    for _ in range(_ROUNDS):
        before, (facts, names, file) = missing, _copy_registry(settings, staged)
        copier.copy_all()
        missing = [name for name in names if not copier.ensure(name)]
        if not missing or missing == before:  # these were missing in the data root before
            break
    if settings.store:  # what no row names, and another machine may have made
        for name in ("cursor.key", SIGNING_KEY, *DataRoot(settings.home, settings.store).list_stored(EXPANSIONS)):
            copier.ensure(name)
    copier.note_file(file.name)
    if answers:
        time.sleep(_FOLLOWED)
    for question in facts["questions"]:
        answer = answers.get((question["language"], question["text"]))
        if answer is not None and ask(question) == answer:
            question["answer"] = answer
    facts |= {"missing": missing[:_NAMED], "missing_count": len(missing), "damaged": copier.damaged[:_NAMED]}
    facts["new_bytes"] = copier.new_bytes
    files.write_manifest(staged, facts, copier.files)
    return {**facts, "files": copier.files}


def _ask_first(settings: CommonSettings, ask: Ask) -> dict[tuple[str, str], Any]:
    """Return the answers of a service by language and text; none where the first question is not answered."""
    with closing(open_registry(settings.database, migrate=False)) as registry, registry.read() as session:
        questions = draw_questions(session)
    answers = dict[tuple[str, str], Any]()
    for question in questions:
        answers[question["language"], question["text"]] = answer = ask(question)
        if answer is None and len(answers) == 1:
            return {}
    return answers


def _copy_registry(settings: CommonSettings, staged: Path) -> tuple[dict[str, Any], Sequence[str], Path]:
    """Copy the registry; returns facts, and names of the data root's files, both of the same moment, and the copy."""
    moment = datetime.now(UTC)
    with closing(open_registry(settings.database, migrate=False)) as registry, registry.read() as session:
        serving, roots = get_serving(session), find_roots(session)
        base = session.scalars(select(BaseRow.name).where(BaseRow.number == roots[serving.shared])).one()
        kind = registry.engine.dialect.name
        facts: dict[str, Any] = {
            "format": 1,
            "time": moment.isoformat(timespec="microseconds"),
            "pictoglot": version("pictoglot"),
            "revision": read_revision(session.connection()),
            "base": base,
            "release": serving.number,
            "languages": sorted(serving.languages),
            "pictures": session.scalar(select(func.count()).select_from(PictureRow)),
            "database": kind,
            "questions": draw_questions(session),
        }
        names, file = [*_list_names(session)], staged / _REGISTRY[kind]
        file.unlink(missing_ok=True)
        dump_registry(registry, session, file)
    return facts, names, file


def _list_names(session: Session) -> Iterator[str]:
    """List what the registry names: files of pictures, folders of versions, datasets and segments."""
    for content, original in session.execute(select(PictureRow.content_sha256, PictureRow.original)):
        yield from name_files(content, original)
    deleted, kept = DeletedPictureRow, select(DiscardedContentRow.content_sha256)
    if inspect(session.connection()).has_table(deleted.__tablename__):  # not before a migration
        back = select(deleted.content_sha256, deleted.original).where(deleted.content_sha256.in_(kept))
        for content, original in session.execute(back):  # they can be brought back for a day
            yield from name_files(content, original)
    for column in (VersionRow.folder, ExpansionRow.dataset_path):
        yield from (name for name in session.scalars(select(column).where(column.is_not(None))) if name)
    for parts in session.scalars(select(VectorSetRow.segments).where(select_newest())):
        yield from (f"segments/{part['id']}" for part in parts if not is_run(part["id"]))


@contextmanager
def _hold(place: Path, wait: bool) -> Iterator[None]:
    """Make a folder and be the only one who writes backups there."""
    files.make_folder(place)
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        raise BackupFailed(f"Another backup is being made in {place}") from None
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _explain(place: Path) -> Iterator[None]:
    """Raise BackupFailed for files that are damaged, or cannot be read or written."""
    try:
        yield
    except CorruptFolder as error:
        raise BackupFailed(f"{place} is damaged: {error.detail}") from error
    except (StorageFull, OSError, sqlite3.Error) as error:
        if isinstance(error, StorageFull) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise BackupFailed(f"The disk of {place} is full") from error
        which, why = getattr(error, "filename", None) or place, getattr(error, "strerror", None) or error
        raise BackupFailed(f"{which} cannot be read or written: {why}") from error
