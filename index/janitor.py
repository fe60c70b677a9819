"""The janitor: sweeps what crashes left, prunes what is out of reach, withdraws languages, finds missing files.

Everything here can be killed and done again: a thing is removed first, here and in the store or engine, and only then
it is recorded as gone. Kept is what a row refers to, and what may still be being written. Processes that still have
something open are not disturbed. Files that cannot be removed because the store is unavailable are left for later.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute

from index.gallery import KEPT_SECONDS, Gallery
from index.picture_files import FOLDER as PICTURES
from index.segment import SEGMENTS
from index.set_states import is_run, prune_feed
from index.sets import VectorSets
from index.vectors import Identity
from model.languages import MANY, find_names
from store import files
from store.data_root import EXPANSIONS, DataRoot, discard_working_files
from store.errors import EngineMismatch, IndexUnavailable, StoreUnavailable
from store.files import pass_fault_point
from store.keys import sign
from store.reach import KEEP, PruningPlan
from store.registry import Registry
from store.tables import CaptionRow, ExpansionRow, PictureRow, VersionRow
from store.versions import Version
from store.withdrawals import WithdrawalRow

VERSIONS = "versions"
_LEFT_OVER_SECONDS = 3_600.0  # seconds: no process is still writing a file that has not changed for so long
CERTIFICATE = "pictoglot-withdrawal-1"  # the format of a certificate
BYTES = 5  # of a vector, for each dimension: two in the registry, three in a segment or an engine
_MOST_SENTENCES = 100  # sentences about missing files
_KINDS = {"": "stored picture", ".thumb": "thumbnail", ".original": "original"}
# Names that pictoglot gives: whatever else lies there is somebody's own
_FOLDERS = (PICTURES, VERSIONS, SEGMENTS, EXPANSIONS, "uploads", "words", "verified", "compiled")
_PICTURE = re.compile(r"([0-9a-f]{64})(?:\.thumb\.jpg|\.jpg|\.original)")
_EXPANSION = re.compile(r"(exp_[0-9a-z]{20})(?:-[A-Za-z0-9-]+)?")
_SEGMENT = re.compile(r"[a-z_]+-[0-9a-f]{16}")
_FEW, _SHARE = 16, 10  # unknown things that a sweep takes: so many, or one of so many that are there
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Candidates:
    """What a sweep may remove of a folder: `doomed`; `unknown` of these the registry never heard of."""

    folder: str
    there: int
    known: int
    unknown: int
    doomed: list[str]

    @property
    def doubtful(self) -> bool:
        """Whether the registry seems to be another one than that of these files, or lacks what it had."""
        return self.unknown > 0 and (not self.known or self.unknown > max(_FEW, self.there // _SHARE))


def sweep(sets: VectorSets, seconds: float = _LEFT_OVER_SECONDS, kept_seconds: float = KEPT_SECONDS) -> int:
    """Remove left-over files and folders that have not changed for `seconds`; return how many.

    And the files of contents that no picture has had for `kept_seconds`. Called at the start of each API and worker
    process, and by a worker once a day.

    Nothing that the registry does not name goes where it knows too few of them: it may be another registry.

    Left over are temporary files of killed writers, submissions without an expansion, working files of finished
    expansions, segments (with an engine, rows there too) that no vector set names, versions that are not registered,
    versions and datasets that were pruned or withdrawn on another machine, stored pictures whose content no picture
    ever had.
    """
    root = sets.root
    removed = files.sweep(root.home, seconds, deep=False)
    removed += sum(files.sweep(root.home / name, seconds) for name in _FOLDERS)
    for expansion in sets.registry.expansions.list_ids("succeeded", "failed", "cancelled"):
        discard_working_files(root, expansion)
    removed += _delete_discarded(sets.gallery, kept_seconds)
    removed += _sweep_unnamed(sets, seconds)
    if removed:
        _log.info("removed files and folders that nothing names any more", extra={"count": removed})
    return removed


def _sweep_unnamed(sets: VectorSets, seconds: float) -> int:
    """Remove what the registry does not name, unless it seems to be another deployment's: then nothing."""
    root, gallery = sets.root, sets.gallery
    versions, expansions = (_list_unnamed(root, sets.registry, folder, seconds) for folder in (VERSIONS, EXPANSIONS))
    pictures = _list_unnamed_pictures(root, gallery, seconds)
    for found in (pictures, versions, expansions):
        if found.doubtful:
            _log.warning(
                f"Nothing was swept: the registry lacks {found.unknown:,} of {found.there:,} in {found.folder}/."
                " Check that PICTOGLOT_DATABASE_URL and PICTOGLOT_HOME belong together."
            )
            return 0
    removed = 0
    for name in (*versions.doomed, *expansions.doomed):
        with suppress(StoreUnavailable):
            root.remove(name)
            removed += 1
    for content in pictures.doomed:
        with suppress(StoreUnavailable):
            gallery.delete_content(content)
            removed += 1
    with suppress(StoreUnavailable, IndexUnavailable):
        old = [path.name for path in _list_old(root.home / SEGMENTS, seconds)]
        removed += sets.remove_unreferenced(name for name in old if is_run(name) or _SEGMENT.fullmatch(name))
    return removed


def remove_replaced(sets: VectorSets) -> None:
    """Remove the deletions that all sets in use have taken in from the feed, and what was sealed and is of no use now.

    For the worker, once a day: so what was purged is gone from here although nothing is sealed any more.
    """
    prune_feed(sets.registry)
    for identity in sets.list_newest():
        with suppress(StoreUnavailable, IndexUnavailable, EngineMismatch):
            sets.tidy(identity)


def _list_unnamed(root: DataRoot, registry: Registry, folder: str, seconds: float) -> _Candidates:
    """List the versions, or the folders of expansions, that are left over."""
    there = {
        path.name: match[1] for path in (root.home / folder).glob("*") if (match := _EXPANSION.fullmatch(path.name))
    }
    known = {*registry.read_values(select(ExpansionRow.id))}
    if folder == VERSIONS:
        # before the versions are read: what has ended by now has registered its own
        active = {*registry.expansions.list_ids("queued", "running")}
        named = {Path(version.folder).name for version in registry.versions.list() if version.folder}
        kept = {name for name, id in there.items() if name in named or id in active}
        known |= {there[name] for name in kept}
    else:
        # one whose dataset went, perhaps through another machine, has lost its folder with it
        has_gone = ExpansionRow.dataset_sha256.is_not(None) & ExpansionRow.dataset_path.is_(None)
        kept = {*registry.read_values(select(ExpansionRow.id).where(~has_gone))}
    doomed = [name for name in there if name not in kept and files.is_older(root.home / folder / name, seconds)]
    unknown = sum(there[name] not in known for name in doomed)
    recognised = sum(id in known for id in there.values())
    return _Candidates(folder, len(there), recognised, unknown, [f"{folder}/{name}" for name in doomed])


def _delete_discarded(gallery: Gallery, kept_seconds: float) -> int:
    with gallery.registry.read() as session:
        if kept_seconds > 0 and not gallery.registry.is_steady(session):
            return 0
    removed = 0
    gallery.erase_deleted(kept_seconds)  # first: nothing can be brought back whose files are gone
    for content in gallery.list_discarded(kept_seconds):
        with suppress(StoreUnavailable):
            gallery.delete_content(content, kept_seconds)
            removed += 1
    return removed


def _list_unnamed_pictures(root: DataRoot, gallery: Gallery, seconds: float) -> _Candidates:
    """List the contents that no picture has, folder by folder: there may be millions, nearly all of them in use."""
    doomed, there, known = list[str](), 0, 0
    for folder in sorted(path for path in (root.home / PICTURES).glob("[0-9a-f][0-9a-f]") if path.is_dir()):
        names: dict[str, list[str]] = {}
        for name in os.listdir(folder):
            if (match := _PICTURE.fullmatch(name)) and name.startswith(folder.name):
                names.setdefault(match[1], []).append(name)
        unnamed = names.keys() - gallery.list_needed_contents(folder.name)  # asked after the files were listed
        there, known = there + len(names), known + len(names) - len(unnamed)
        doomed += (each for each in unnamed if any(files.is_older(folder / name, seconds) for name in names[each]))
    return _Candidates(PICTURES, there, known, len(doomed), doomed)


def _list_old(folder: Path, seconds: float) -> Iterator[Path]:
    return (path for path in folder.glob("*") if files.is_older(path, seconds))


@dataclass(frozen=True)
class PrunedItem:
    """Version, set of vectors or dataset that goes, and why; `bytes` is about how much space it takes."""

    what: Literal["version", "vectors", "dataset"]
    name: str
    language: str
    why: str
    bytes: int


class Pruner:
    """Retention of one data root."""

    def __init__(self, sets: VectorSets) -> None:
        self._sets, self._registry = sets, sets.registry

    def plan(self, keep: int = KEEP, *, expected: int | None = None) -> tuple[PruningPlan, list[PrunedItem]]:
        """List what `prune` would remove now; change nothing. Raises AliasMoved."""
        pruning = self._registry.retention.plan(keep, expected=expected)
        return pruning, self._list_items(pruning)

    def prune(self, keep: int = KEEP, *, expected: int | None = None) -> tuple[PruningPlan, list[PrunedItem]]:
        """Decide what is out of reach, for ever, and remove it; also what an earlier call could not.

        Raises AliasMoved, StoreUnavailable, IndexUnavailable, RegistryUnavailable. After the decision, call it again.
        """
        pruning = self._registry.retention.prune(keep, expected=expected)
        pass_fault_point("prune.decided")
        items = self._list_items(pruning)
        _drop_vectors(self._sets, self._registry.versions.find_pruned())
        removable = self._registry.retention.list_removable()
        _remove_files(self._sets, "prune", removable, [expansion.id for expansion in pruning.datasets])
        return pruning, items

    def _list_items(self, pruning: PruningPlan) -> list[PrunedItem]:
        since = f"release {pruning.oldest}"
        unnamed = f"no release since {since} names it, nor a rollback from one"
        pruned = self._registry.versions.find_pruned() | {version.number for version in pruning.versions}
        items = []
        for version in pruning.versions:
            stays = version.number in pruning.needed
            why = f"{unnamed}; its files stay, because a later version builds upon it" if stays else unnamed
            items.append(
                PrunedItem("version", f"version {version.number}", version.language, why, 0 if stays else version.bytes)
            )
        for identity in _find_sets(self._sets, pruned):
            rows = sum(record.rows for record in self._sets.read_state(identity).segments)
            why = f"captions as version {identity.version} reads them"
            if identity.language is None:
                why = f"pictures as a base sees them that {unnamed}"
            items.append(
                PrunedItem("vectors", identity.name, identity.language or MANY, why, BYTES * identity.dimension * rows)
            )
        for expansion in pruning.datasets:
            why = f"its expansion {expansion.state} before {since}, and no version in reach comes from it"
            items.append(PrunedItem("dataset", expansion.id, expansion.language, why, expansion.dataset_bytes or 0))
        return items


def finish_withdrawal(sets: VectorSets, withdrawal: WithdrawalRow) -> WithdrawalRow:
    """Remove vectors, captions, files of versions and datasets; return the withdrawal with its certificate.

    Everything may be gone already. Raises StoreUnavailable, IndexUnavailable, RegistryUnavailable: call it again.
    """
    if withdrawal.certificate is not None:
        return withdrawal
    registry, plan = sets.registry, withdrawal.plan
    numbers = {each["number"] for each in plan.versions}
    pass_fault_point("withdraw.decided")
    _drop_vectors(sets, numbers)
    pass_fault_point("withdraw.vectors")
    while registry.withdrawals.is_taught_still(plan, withdrawal.language):
        for expansion in plan.expansions:
            sets.gallery.delete_taught_captions(expansion)
        registry.withdrawals.erase_deleted_captions(plan, withdrawal.language)
    pass_fault_point("withdraw.captions")
    removable = [version for version in registry.retention.list_removable() if version.number in numbers]
    _remove_files(sets, "withdraw", removable, [each["expansion"] for each in plan.datasets])
    registry.rewrite_word_index()
    registry.truncate_log()
    pass_fault_point("withdraw.removed")
    return registry.withdrawals.finish(withdrawal.number, _certify(sets, withdrawal))


def _find_sets(sets: VectorSets, versions: set[int]) -> list[Identity]:
    """Find the sets of these versions' captions, and of pictures as these bases see them."""
    unseen = sets.registry.bases.find_fingerprints(versions)
    return [each for each in sets.list_newest() if each.version in versions or each.fingerprint in unseen]


def _drop_vectors(sets: VectorSets, versions: set[int]) -> None:
    registry, gallery = sets.registry, sets.gallery
    for number in sorted(versions & gallery.list_encoded_versions()):  # also without a set that was finished
        version = registry.versions.get(number)
        gallery.delete_version_vectors(number, version.language if version.parent is not None else None)
    for fingerprint in registry.bases.find_fingerprints(versions):
        gallery.delete_picture_vectors(fingerprint)
    for identity in _find_sets(sets, versions):
        sets.drop(identity)


def _remove_files(sets: VectorSets, act: str, versions: Iterable[Version], expansions: Iterable[str]) -> None:
    for version in versions:
        sets.root.remove(str(version.folder))
        pass_fault_point(f"{act}.version")
        sets.registry.retention.note_version_removed(version.number)
    for expansion in expansions:
        sets.root.remove(f"{EXPANSIONS}/{expansion}")
        pass_fault_point(f"{act}.dataset")
        sets.registry.retention.note_dataset_removed(expansion)


def _certify(sets: VectorSets, withdrawal: WithdrawalRow) -> dict[str, object]:
    plan, terms = withdrawal.plan, sets.registry.terms.get(withdrawal.terms)
    stay = {each["name"] for each in plan.remains}
    versions = [{**each, "files_removed": f"version {each['number']}" not in stay} for each in plan.versions]
    document = {
        "format": CERTIFICATE,
        "language": withdrawal.language,
        "name": find_names(withdrawal.language).name,
        "owner": (terms.terms if terms else {}).get("owner", ""),
        "withdrawn_at": withdrawal.began_at.isoformat(),
        "release": withdrawal.release,
        "by": withdrawal.actor,
        "reason": withdrawal.reason,
        "removed": {
            "versions": versions,
            "datasets": plan.datasets,
            "captions": plan.captions,
            "answers": plan.answers,
        },
        "remains": plan.remains,
    }
    return sign(sets.root, document)


def estimate_move_bytes(registry: Registry, dimension: int, towers: int, *, teaches: bool) -> int:
    """Estimate the bytes that a move takes: vectors of `dimension` of pictures and captions, and all languages anew.

    Without `teaches`, to another encoding, no language; but captions as each version in reach of the base reads them.
    `towers` are the bytes of the base's own files that are made under the data root.
    """
    releases, caption = registry.releases.list(), CaptionRow.language
    serving, pruned = registry.releases.get_serving(), registry.versions.find_pruned()
    named = {pair for each in releases if each.base == serving.base for pair in each.languages.items()}
    readers = Counter(() if teaches else (tag for tag, version in named if version not in pruned))
    with registry.read() as session:
        rows = session.scalar(select(func.count()).select_from(PictureRow)) or 0
        for language, count in session.execute(select(caption, func.count()).group_by(caption)):
            rows += count * max(1, readers[language])
    learned = {*serving.languages.values()} if teaches else ()
    return rows * dimension * BYTES + towers + sum(registry.versions.get(number).bytes for number in learned)


def find_missing(gallery: Gallery) -> list[str]:
    """List a sentence for each picture, dataset and version that lacks files, or for the first of many.

    Raises `RegistryUnavailable` and `StoreUnavailable`.
    """
    found = chain(
        _find_missing_pictures(gallery),
        _find_missing(gallery, "The dataset of expansion {} is missing.", ExpansionRow.id, ExpansionRow.dataset_path),
        _find_missing(gallery, "The files of version {} are missing.", VersionRow.number, VersionRow.folder),
    )
    first = list(islice(found, _MOST_SENTENCES))
    more = sum(1 for _ in found)
    return [*first, *([f"{more} more files that the registry names are missing."] if more else ())]


def _find_missing_pictures(gallery: Gallery) -> Iterator[str]:
    row = PictureRow
    query = select(row.id, row.content_sha256, row.original).order_by(row.id)
    for number in range(256):
        prefix = f"{number:02x}"
        # before the files are listed: those of a row are there
        rows = gallery.registry.read_rows(query.where(row.content_sha256.between(prefix, f"{prefix}g")))
        present = gallery.files.list_contents(prefix) if rows else ()
        for id, content, original in rows:
            for suffix, kind in _KINDS.items():
                if (original or suffix != ".original") and f"{content}{suffix}" not in present:
                    yield f"The {kind} of picture {id} is missing."


def _find_missing(
    gallery: Gallery, sentence: str, name: InstrumentedAttribute[Any], file: InstrumentedAttribute[Any]
) -> Iterator[str]:
    rows = gallery.registry.read_rows(select(name, file).where(file.is_not(None)).order_by(name))
    yield from (sentence.format(each) for each, path in rows if not gallery.root.has(path))
