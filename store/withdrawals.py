"""Withdrawals: of a language by its community, of what one person gave by an administrator. Removes no file.

One transaction decides what goes and writes it down, so that a withdrawal that was killed goes on with the same list.
The versions can never serve again, whatever release is restored. Files that another language builds upon stay, and are
listed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ColumnElement, Text, cast, delete, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from store.audit import note_act
from store.clock import now
from store.database import RegistryPart
from store.errors import LanguageNotFound, RollbackNotPossible, WithdrawalNotFound
from store.expansions import refuse_active_kind
from store.reach import DeletedPictureRow, get_serving
from store.releases import publish
from store.speakers import ProposalRow, UnknownWordRow, WaitingRow, WordAnswerRow, find_number
from store.tables import AutoKey, CaptionRow, ExpansionRow, RegistryRow, ReleaseRow, VersionRow
from store.versions import BUILT_IN_LANGUAGE, find_needed, keep_figures, strip_language, trace_lineage

_AT_ONCE = 500  # rows of one transaction


class WithdrawalRow(RegistryRow):
    """One withdrawal of a language: what was `decided`, and a certificate as soon as all is gone.

    `release` serves since then.
    """

    __tablename__ = "withdrawals"

    number: Mapped[AutoKey]
    language: Mapped[str] = mapped_column(index=True)
    release: Mapped[int]
    actor: Mapped[str]
    reason: Mapped[str]
    began_at: Mapped[datetime] = mapped_column(default=now())
    terms: Mapped[int | None]
    decided: Mapped[dict[str, Any]] = mapped_column("plan")
    certificate: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

    @property
    def plan(self) -> "WithdrawalPlan":
        """What goes, and what remains."""
        return WithdrawalPlan(**self.decided)


@dataclass(frozen=True)
class WithdrawalPlan:
    """What goes, as plain JSON: versions, datasets, numbers of captions and answers; and what remains, and why.

    `expansions` are all that may have brought captions, those whose datasets went before too.
    """

    versions: list[dict[str, Any]] = field(default_factory=list)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    expansions: list[str] = field(default_factory=list)
    captions: int = 0
    answers: int = 0
    remains: list[dict[str, str]] = field(default_factory=list)


class Withdrawals(RegistryPart):
    """The withdrawals of a registry."""

    def plan(self, tag: str, *, expected: int | None = None) -> tuple[int, WithdrawalPlan]:
        """Return the release that serves, and what a withdrawal now would remove, or one that is not finished has to.

        Raises what `begin` raises.
        """
        with self._database.read() as session:
            serving = get_serving(session, expected)
            pending = _find_row(session, tag, pending=True)
            return serving.number, pending.plan if pending else _plan(session, serving, tag)

    def begin(self, tag: str, *, actor: str, reason: str, expected: int | None = None) -> WithdrawalRow:
        """Stop serving a language for ever, in one transaction; or return the one that was not finished, or the last.

        The last, with its certificate, is returned where nothing has come since. Raises LanguageNotFound where nothing
        of the language is there, RollbackNotPossible for English, AliasMoved, ExpansionInProgress while any goes on.
        """
        with self._database.begin() as session:
            if (pending := _find_row(session, tag, pending=True)) is not None:
                return pending
            last = _find_row(session, tag, pending=False)
            try:
                plan = _plan(session, get_serving(session), tag)
            except LanguageNotFound:
                if last is None:
                    raise
                return last
            if last is not None and not _has_anything(session, tag, plan):
                return last
            serving = get_serving(session, expected)
            refuse_active_kind(session)
            release = _publish_without(session, serving, tag, actor, reason)
            numbers = [each["number"] for each in plan.versions]
            never = {"pruned_at": func.coalesce(VersionRow.pruned_at, now()), "pruned_release": release, "match": None}
            session.execute(update(VersionRow).where(VersionRow.number.in_(numbers)).values(**never))
            for taught in session.scalars(select(ExpansionRow).where(ExpansionRow.language == tag)):
                taught.report, taught.settings = keep_figures(taught.report), keep_figures(taught.settings)
            for again in session.scalars(select(ExpansionRow).where(ExpansionRow.kind.in_(("rebuild", "base")))):
                again.report = strip_language(again.report, tag)
            for version in session.scalars(select(VersionRow).where(VersionRow.number.in_(numbers))):
                version.report = keep_figures(version.report)
            for table in (WordAnswerRow, UnknownWordRow, WaitingRow, ProposalRow):
                session.execute(delete(table).where(table.language == tag))
            row = WithdrawalRow(language=tag, release=release, actor=actor, reason=reason, decided=vars(plan))
            row.terms = find_number(session, tag)
            session.add(row)
            session.flush()
            session.refresh(row)
            return row

    def delete_contributions(self, tag: str, actor: str) -> None:
        """Delete for good what an actor gave to a language: answers, rows that wait, proposals.

        Captions of pictures, which proposals became that were accepted, stay.
        """
        with self._database.begin() as session:
            for table in (WordAnswerRow, WaitingRow, ProposalRow):
                session.execute(delete(table).where(table.language == tag, table.actor == actor))
            note_act(session, {tag: "", actor: "deleted"})
        self._database.truncate_log()

    def erase_deleted_captions(self, plan: WithdrawalPlan, tag: str) -> None:
        """Erase captions that were taught, of pictures that can still be brought back; some in each transaction."""
        last: str | None = ""
        row = DeletedPictureRow
        while last is not None:
            with self._database.begin() as session:
                few = select(row).where(row.id > last, _has_caption(tag)).order_by(row.id).limit(_AT_ONCE)
                last = None
                for picture in session.scalars(few).all():
                    last = picture.id
                    kept = [each for each in picture.captions if each[2] not in plan.expansions]
                    picture.captions = kept if len(kept) < len(picture.captions) else picture.captions

    def is_taught_still(self, plan: WithdrawalPlan, tag: str) -> bool:
        """Return whether any picture, deleted ones included, has a caption that was taught.

        One that is deleted or brought back meanwhile may have moved from one place to the other, so ask until not.
        """
        taught = select(CaptionRow.id).where(CaptionRow.expansion.in_(plan.expansions)).limit(1)
        with self._database.read() as session:
            if session.scalar(taught) is not None:
                return True
            texts = session.scalars(select(DeletedPictureRow.captions).where(_has_caption(tag)))
            return any(each[2] in plan.expansions for captions in texts for each in captions)

    def finish(self, number: int, certificate: Mapping[str, Any]) -> WithdrawalRow:
        """Keep the certificate of a withdrawal, unless it has one; return it."""
        with self._database.begin() as session:
            row = session.get_one(WithdrawalRow, number)
            if row.certificate is None:
                row.certificate = dict(certificate)
            return row

    def get_newest(self, tag: str) -> WithdrawalRow:
        """Return the newest withdrawal of a language that is finished. Raises WithdrawalNotFound."""
        with self._database.read() as session:
            row = _find_row(session, tag, pending=False)
            if row is None:
                raise WithdrawalNotFound("there is no certificate: this language was not withdrawn, or not to the end")
            return row


def _has_caption(tag: str) -> ColumnElement[bool]:
    """Return whether a deleted picture has captions in a language: by its JSON, which may say so in vain."""
    return cast(DeletedPictureRow.captions, Text).contains(f'"{tag}"', autoescape=True)


def _find_row(session: Session, tag: str, *, pending: bool) -> WithdrawalRow | None:
    row = WithdrawalRow
    which = row.certificate.is_(None) if pending else row.certificate.is_not(None)
    return session.scalars(select(row).where(row.language == tag, which).order_by(row.number.desc()).limit(1)).first()


def _plan(session: Session, serving: ReleaseRow, tag: str) -> WithdrawalPlan:
    if tag == BUILT_IN_LANGUAGE:
        raise RollbackNotPossible("English is built in and cannot be withdrawn.")
    versions = session.scalars(select(VersionRow).where(VersionRow.language == tag).order_by(VersionRow.number)).all()
    taught = select(ExpansionRow).where(ExpansionRow.language == tag, ExpansionRow.dataset_path.is_not(None))
    datasets = session.scalars(taught.order_by(ExpansionRow.created_at, ExpansionRow.id)).all()
    counts = [
        session.scalar(select(func.count()).select_from(table).where(table.language == tag, *where)) or 0
        for table, *where in (
            (CaptionRow, CaptionRow.expansion.is_not(None)),
            (WordAnswerRow,),
            (WaitingRow,),
            (ProposalRow,),
            (UnknownWordRow,),
            (CaptionRow, CaptionRow.expansion.is_(None)),
        )
    ]
    captions, *others, own = counts
    answers = sum(others)
    there = [row for row in versions if row.folder is not None and row.parent is not None]
    if not (versions or datasets or captions or answers):
        raise LanguageNotFound(languages=sorted(serving.languages))
    return WithdrawalPlan(
        versions=[
            {"number": row.number, "manifest_sha256": row.manifest_sha256, "bytes": row.bytes}
            for row in versions
            if row.parent is not None
        ],
        datasets=[{"expansion": row.id, "sha256": row.dataset_sha256, "bytes": row.dataset_bytes} for row in datasets],
        expansions=[*session.scalars(select(ExpansionRow.id).where(ExpansionRow.language == tag))],
        captions=captions,
        answers=answers,
        remains=[*_list_built_upon(session, there), *_list_others(session, tag, own)],
    )


def _has_anything(session: Session, tag: str, plan: WithdrawalPlan) -> bool:
    """Tell whether anything of the language can still serve, or has a text."""
    can_serve = select(VersionRow.number).where(VersionRow.language == tag, VersionRow.pruned_at.is_(None)).limit(1)
    return bool(plan.datasets or plan.captions or plan.answers or session.scalar(can_serve))


def _list_built_upon(session: Session, versions: Sequence[VersionRow]) -> list[dict[str, str]]:
    """List the versions whose files stay: their rows are in the table that another language's were taught upon."""
    ours = {row.number for row in versions}
    needed, found = find_needed(session, ours) & ours, []
    users: dict[int, set[str]] = {number: set() for number in needed}
    others = select(VersionRow).where(VersionRow.number.not_in(ours), VersionRow.folder.is_not(None))
    for row in session.scalars(others) if needed else ():
        for below in trace_lineage(session, row.number):
            if below.number in needed:
                users[below.number].add(f"{row.language} (version {row.number})")
    for number, names in sorted(users.items()):
        upon = f"{', '.join(sorted(names))} was taught upon its rows of the table"
        why = f"{upon}; while any version needs them its files stay, with words and held-out captions"
        found.append({"what": "version", "name": f"version {number}", "why": why})
    return found


def _list_others(session: Session, tag: str, own: int) -> list[dict[str, str]]:
    """List what else remains, which nothing here can reach or which belongs to others."""
    found = []
    if own:
        why = f"{own} captions came with pictures, not with a dataset: they belong to the pictures"
        found.append({"what": "captions", "name": f"{own} captions", "why": why})
    kept = select(ExpansionRow).where(ExpansionRow.language != tag, ExpansionRow.dataset_path.is_not(None))
    for row in session.scalars(kept.order_by(ExpansionRow.id)):
        pivots = ((row.report or {}).get("dataset") or {}).get("pivots") or {}
        if tag in pivots or row.settings.get("pivot") == tag:
            why = f"this dataset of {row.language} is paired with texts in {tag}"
            found.append({"what": "dataset", "name": row.id, "why": why})
    if find_number(session, tag) is not None:
        why = "what was said of the language stays on record: owner, contact, licence, statement, and who set it"
        found.append({"what": "terms", "name": "terms", "why": why})
    found += [
        {"what": "backups", "name": "backups", "why": "those made before keep all of it until they are deleted"},
        {"what": "exports", "name": "exported files", "why": "whoever exported or downloaded files has them"},
        {"what": "history", "name": "history", "why": "numbers, dates and measurements stay listed, without texts"},
    ]
    return found


def _publish_without(session: Session, serving: ReleaseRow, tag: str, actor: str, reason: str) -> int:
    """Publish a release without the language, on a shared table from before it; return the number that serves then."""
    chain = list(reversed(trace_lineage(session, serving.shared)))  # the base first
    place = next((place for place, row in enumerate(chain) if row.language == tag and row.parent is not None), None)
    if tag not in serving.languages and place is None:
        return serving.number
    shared = serving.shared if place is None else chain[place - 1].number
    languages = {name: number for name, number in serving.languages.items() if name != tag}
    change = {"kind": "withdraw", "language": tag, "from_version": serving.languages.get(tag), "to_version": None}
    row = ReleaseRow(shared=shared, languages=languages, actor=actor, reason=reason, change=change)
    return publish(session, serving.number, row).number
