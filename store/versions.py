"""Versions: immutable, numbered steps of the model, and their lineage. Reads and writes no files."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.database import RegistryPart, append_crc, encode_json, strip_crc
from store.errors import VersionNotFound, VersionPruned
from store.leases import require_lease
from store.speakers import find_number
from store.tables import ReleaseRow, VersionRow

FIRST = 0  # the number of the version that is the first base itself
BUILT_IN_LANGUAGE = "en"
# What a report says that quotes no dataset
_HARMLESS = {"against", "base", "format", "pivot", "refused_by", "replay"}
_HARMLESS |= {"sentence", "sentences", "so_far", "unmeasured"}
_PARENTS = select(VersionRow.number, VersionRow.parent).order_by(VersionRow.number)


@dataclass(frozen=True)
class Version:
    """One version. A base has no parent, expansion or folder, and its `manifest_sha256` is its fingerprint.

    `dataset_expansions` are the expansions whose datasets its language was taught from, oldest first. Once it is pruned
    (`pruned_at`), it can serve its language no more; its folder goes, and is None, when no other version builds on it.
    `terms` is the number of the terms that its language had when it was made.
    """

    number: int
    parent: int | None
    language: str
    expansion: str | None
    folder: str | None
    manifest_sha256: str | None
    rows: int
    bytes: int
    report: dict[str, Any]
    created_at: datetime
    pruned_at: datetime | None = None
    dataset_expansions: tuple[str, ...] = ()
    terms: int | None = None


class Versions(RegistryPart):
    """All versions of a registry. They never change, and a rollback deletes none."""

    def get(self, number: int) -> Version:
        """Return the version. Raises VersionNotFound."""
        with self._database.read() as session:
            return build_version(get_row(session, number))

    def list(self, limit: int | None = None, before: int | None = None) -> Sequence[Version]:
        """List them, newest first, from the one before the number `before`."""
        query = select(VersionRow).order_by(VersionRow.number.desc()).limit(limit)
        if before is not None:
            query = query.where(VersionRow.number < before)
        return [build_version(row) for row in self._database.read_values(query)]

    def list_made_for(self, base: int) -> Sequence[Version]:
        """List the versions made for this base and not pruned, oldest first, without the base itself."""
        with self._database.read() as session:
            bases, order = find_roots(session), select(VersionRow).order_by(VersionRow.number)
            rows = session.scalars(order.where(VersionRow.parent.is_not(None), VersionRow.pruned_at.is_(None)))
            return [build_version(row) for row in rows if bases[row.number] == base]

    def trace_lineage(self, number: int) -> Sequence[Version]:
        """Return the version, its parent, and so on down to its base. Raises VersionNotFound."""
        with self._database.read() as session:
            return [build_version(row) for row in trace_lineage(session, number)]

    def find_pruned(self) -> set[int]:
        """Return the numbers of those that were pruned: they can serve their language no more."""
        return set(self._database.read_values(select(VersionRow.number).where(VersionRow.pruned_at.is_not(None))))

    def read_calibrations(self, numbers: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Return the fitted chances of hits of these versions, where they are fitted and whole.

        `curves` is None where chances cannot be given; `pictures` and `change` are those of the gallery at the fit,
        `tower` is the one that has made its vectors, `result` is for reports.
        """
        columns = VersionRow.number, VersionRow.match
        fitted = (VersionRow.number.in_(sorted(numbers)), VersionRow.match.is_not(None))
        read = self._database.read_rows(select(*columns).where(*fitted))
        return {number: found for number, data in read if (found := parse_calibration(data)) is not None}

    def set_calibration(self, number: int, fitted: dict[str, Any]) -> None:
        """Store fitted chances of hits, unless there are newer ones: a fitter may sleep. Raises VersionNotFound."""
        with self._database.begin() as session:
            row = get_row(session, number)
            if fitted["change"] >= (parse_calibration(row.match) or fitted)["change"]:
                row.match = append_crc(encode_json(fitted).encode())

    def find_unneeded(self) -> set[int]:
        """Return the numbers of those whose files nothing needs: they can be the shared version no more either."""
        with self._database.read() as session:
            return set(session.scalars(select(VersionRow.number))) - find_needed(session)

    def add(
        self,
        *,
        expansion: str,
        parent: int,
        language: str,
        folder: str,
        manifest_sha256: str,
        rows: int,
        bytes: int,
        report: dict[str, Any],
        fence: int,
        datasets: Sequence[str] = (),
    ) -> Version:
        """Add what `expansion` wrote for `language`; a repeated call returns the same version.

        `datasets` are the expansions from whose datasets the language was taught, if not from that one alone. Raises
        LeaseLost, VersionNotFound.
        """
        with self._database.begin() as session:
            maker = require_lease(session, expansion, fence)
            earlier = select(VersionRow).where(VersionRow.expansion == expansion, VersionRow.language == language)
            if (written := session.scalar(earlier)) is not None:
                return build_version(written)
            row = VersionRow(
                number=find_next_number(session),
                parent=get_row(session, parent).number,
                language=language,
                expansion=expansion,
                datasets=[*datasets] or [expansion],
                folder=folder,
                manifest_sha256=manifest_sha256,
                rows=rows,
                bytes=bytes,
                report=report,
                terms=find_number(session, language),
            )
            session.add(row)
            maker.version = row.number
            session.flush()
            session.refresh(row)  # as the database stored it: a NaN in the report is null there
            return build_version(row)


def find_next_number(session: Session) -> int:
    return (session.scalar(select(func.max(VersionRow.number))) or 0) + 1


def find_roots(session: Session) -> dict[int, int]:
    """Return, for each version, the base at the end of its lineage."""
    found: dict[int, int] = {}
    for number, parent in session.execute(_PARENTS):
        found[number] = number if parent is None else found[parent]  # a parent has a smaller number
    return found


def get_row(session: Session, number: int) -> VersionRow:
    """Return the row with this number. Raises VersionNotFound."""
    row = session.get(VersionRow, number)
    if row is None:
        raise VersionNotFound(f"There is no version {number}.")
    return row


def refuse_pruned(session: Session, versions: Iterable[int], shared: int | None = None) -> None:
    """Raise VersionPruned, with the numbers, when one of these versions cannot serve its language.

    `shared` may be a pruned one as long as others build upon it: its files are there, and it needs no captions.
    """
    pruned = VersionRow.pruned_at.is_not(None)
    gone = set(session.scalars(select(VersionRow.number).where(VersionRow.number.in_(set(versions)), pruned)))
    if shared is not None and shared not in find_needed(session):
        gone.add(shared)
    if gone:
        which = f"version{'s' if len(gone) > 1 else ''} {', '.join(map(str, sorted(gone)))}"
        raise VersionPruned(f"This needs {which}, whose files were pruned.", versions=sorted(gone))


def find_needed(session: Session, pruned: Collection[int] = ()) -> set[int]:
    """Return the versions whose files are needed, also if those of `pruned` are pruned now.

    These are those that are not pruned, those that became the shared one later, and all on which these build. What is
    not needed never is again.
    """
    rows = session.execute(select(VersionRow.number, VersionRow.parent, VersionRow.pruned_at)).all()
    found, parents = set[int](), {row.number: row.parent for row in rows}
    roots = {row.number for row in rows if row.pruned_at is None} | find_reused_as_shared(session)
    for number in roots - set(pruned):
        while number is not None and number not in found:
            found.add(number)
            number = parents[number]
    return found


def find_reused_as_shared(session: Session) -> set[int]:
    """Return the pruned versions that became the shared one later, when a newer version was rolled back."""
    since = (VersionRow.number == ReleaseRow.shared, ReleaseRow.number > VersionRow.pruned_release)
    return set(session.scalars(select(VersionRow.number).where(*since)))


def trace_lineage(session: Session, number: int) -> Sequence[VersionRow]:
    """Return the rows from `number` down to its base: a parent has a smaller number. Raises VersionNotFound."""
    chain, parents = [number], dict(session.execute(_PARENTS).all())
    while (parent := parents.get(chain[-1])) is not None:
        chain.append(parent)
    rows = session.scalars(select(VersionRow).where(VersionRow.number.in_(chain)).order_by(VersionRow.number.desc()))
    return rows.all() or [get_row(session, number)]


def parse_calibration(stored: bytes | None) -> dict[str, Any] | None:
    """Return fitted chances of hits as they were stored; None without any, or when a bit has flipped."""
    text = strip_crc(stored or b"")
    return None if text is None else json.loads(text)


def build_version(row: VersionRow) -> Version:
    return row.convert_to(Version, dataset_expansions=tuple(row.datasets))


def strip_language(report: dict[str, Any] | None, tag: str) -> dict[str, Any] | None:
    """Return the report of what taught several languages again without this one's texts."""
    if report is None or tag not in (languages := report.get("languages", {})):
        return report
    return {**report, "languages": {**languages, tag: keep_figures(languages[tag])}}


def keep_figures(report: Any) -> Any:
    """Return a report without its texts, which may quote the dataset: its figures, and what is known not to."""
    if isinstance(report, dict):
        kept = {name: value if name in _HARMLESS else keep_figures(value) for name, value in report.items()}
        return {name: value for name, value in kept.items() if value is not None or report[name] is None}
    return None if isinstance(report, str | list) else report
