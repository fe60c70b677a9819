"""Bases and encodings: what versions and vectors are made with, and the releases that move to others. Opens no model.

A base is a version without a parent, the root of a lineage. The base of a release is that of its shared version.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.clock import has_ended
from store.database import RegistryPart
from store.errors import ExpansionCancelled, NoEarlierBase
from store.expansions import refuse_active_kind
from store.leases import Lease, require_lease
from store.reach import get_serving
from store.releases import Release, find_newest_encoding, find_published, publish_for, publish_restored, serve_encoding
from store.tables import RUNNING, BaseRow, EncodingRow, ExpansionRow, ReleaseRow, VersionRow
from store.versions import BUILT_IN_LANGUAGE, find_next_number, refuse_pruned

TORCH, OPENVINO = "torch", "openvino"
FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"


@dataclass(frozen=True)
class Encoding:
    """The backend (`torch`, `openvino`) and precision (`float32`, `bfloat16`, `int8`) in which weights compute vectors.

    Of that of a data root, `reason` says why it is not what `auto` wanted, if so.
    """

    backend: str
    precision: str
    reason: str = field(default="", compare=False)

    def get_settings(self) -> dict[str, str]:
        """Return what the settings of a move name."""
        return {"backend": self.backend, "precision": self.precision}

    def compute_fingerprint(self, weights: str) -> str:
        """Return the fingerprint, in hex, of the vectors of a tower whose weights have this one."""
        return hashlib.sha256(f"{weights} {self.backend} {self.precision}".encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.backend} in {self.precision}"


FIRST_ENCODING = Encoding(TORCH, FLOAT32)


@dataclass(frozen=True)
class RecordedBase:
    """A base: its version, its name as in `PICTOGLOT_BASE`, and the fingerprints of its weights."""

    number: int
    name: str
    image_fingerprint: str
    text_fingerprint: str
    created_at: datetime

    @property
    def public_name(self) -> str:
        """The name without the path of its file."""
        return self.name.partition("@")[0]

    def has_towers(self, image_fingerprint: str, text_fingerprint: str) -> bool:
        """Return whether both towers have these weights."""
        return (self.image_fingerprint, self.text_fingerprint) == (image_fingerprint, text_fingerprint)


@dataclass(frozen=True)
class UndoPlan:
    """The way back from base `from_base` to `to_base`, which release `restored` served in `encoding`.

    `release` is the one that serves, before or after the undo. Languages are `lost`, `returned`, or `changed` to
    another version.
    """

    release: int
    restored: int
    from_base: int
    to_base: int
    encoding: str | None
    lost: list[str]
    returned: list[str]
    changed: list[str]


class Bases(RegistryPart):
    """The bases of a registry."""

    def list(self) -> Sequence[RecordedBase]:
        """List them, oldest first."""
        query = select(BaseRow).order_by(BaseRow.number)
        return [row.convert_to(RecordedBase) for row in self._database.read_values(query)]

    def find_serving(self) -> RecordedBase | None:
        """Return the base of the serving release; None in a registry that no process has opened with a base."""
        with self._database.read() as session:
            if session.scalar(select(ReleaseRow.number).limit(1)) is None:
                return None
            return session.get_one(BaseRow, get_serving(session).languages[BUILT_IN_LANGUAGE]).convert_to(RecordedBase)

    def find_fingerprints(self, numbers: Collection[int]) -> set[str]:
        """Return the fingerprints of the picture vectors that these bases alone have made, in every encoding so far."""
        bases, encodings = self.list(), self._list_encodings()
        ours = {base.image_fingerprint for base in bases if base.number in numbers}
        ours -= {base.image_fingerprint for base in bases if base.number not in numbers}
        return {encoding.compute_fingerprint(image) for encoding in encodings for image in ours}

    def find_texts_of_others(self, pictures: str) -> set[str]:
        """Return the fingerprints of the text vectors, in every encoding so far, by bases that made no such pictures.

        `pictures` is the fingerprint of picture vectors. To these, such texts are no texts.
        """
        bases, encodings = self.list(), self._list_encodings()
        images = {base: {each.compute_fingerprint(base.image_fingerprint) for each in encodings} for base in bases}
        texts = {base.text_fingerprint for base in bases}
        texts -= {base.text_fingerprint for base, made in images.items() if pictures in made}
        return {encoding.compute_fingerprint(text) for encoding in encodings for text in texts}

    def _list_encodings(self) -> set[Encoding]:
        return {Encoding(row.backend, row.precision) for row in self._database.read_values(select(EncodingRow))}

    def add(self, name: str, image_fingerprint: str, text_fingerprint: str, lease: Lease) -> RecordedBase:
        """Register a base that an expansion moves to, or return it if it is known. Raises LeaseLost."""
        with self._database.begin() as session:
            require_lease(session, lease.expansion, lease.fence)
            row = find_base(session, image_fingerprint, text_fingerprint)
            if row is None:
                row = add_base(session, find_next_number(session), name, image_fingerprint, text_fingerprint)
            return row.convert_to(RecordedBase)

    def move(
        self,
        lease: Lease,
        *,
        expected: int,
        base: int,
        encoding: Encoding | None = None,
        shared: int,
        languages: Mapping[str, int],
        report: dict[str, Any],
    ) -> Release | None:
        """Serve a base by the vectors of an encoding, with these versions, and keep the `report` of the expansion.

        Change nothing and return None when another release than `expected` serves, or while another expansion is at
        work, whose result would be lost. A repeated call returns the same release. Raises LeaseLost,
        ExpansionCancelled.
        """
        with self._database.begin() as session:
            maker = require_lease(session, lease.expansion, lease.fence)
            if (earlier := find_published(session, maker.id, base)) is not None:
                return earlier
            if maker.cancel_requested:
                raise ExpansionCancelled
            before = get_serving(session)
            if before.number != expected or _has_others_at_work(session, maker.id):
                return None
            change = {"kind": "base", "expansion": maker.id, "forced": bool(report.get("forced"))}
            change |= _describe_move(session, before.languages[BUILT_IN_LANGUAGE], base, str(encoding or ""))
            row = ReleaseRow(shared=shared, languages=dict(languages), actor=maker.actor, reason="", change=change)
            release = publish_for(session, maker, expected, row, base)
            if encoding is not None:
                serve_encoding(session, encoding.backend, encoding.precision, release.number)
            maker.version, maker.report = shared, report
            return release

    def is_move_hindered(self, lease: Lease) -> bool:
        """Return whether another expansion is at work, so that `move` would do nothing. Raises LeaseLost."""
        with self._database.read() as session:
            return _has_others_at_work(session, require_lease(session, lease.expansion, lease.fence).id)

    def plan_undo(self, *, expected: int | None = None) -> UndoPlan:
        """Return what `undo` would do. Raises NoEarlierBase, AliasMoved, ExpansionInProgress, VersionPruned."""
        with self._database.read() as session:
            return _plan_undo(session, expected)[0]

    def undo(self, *, actor: str, reason: str, expected: int | None = None) -> UndoPlan:
        """Serve the base or encoding before this one again, at once. Raises what `plan_undo` raises.

        Languages are as in the last release of that base; where only the encoding differs, they stay. A second undo
        leads back.
        """
        with self._database.begin() as session:
            planned, table = _plan_undo(session, expected)
            change = {"kind": "restore", "restored": planned.restored}
            change |= _describe_move(session, planned.from_base, planned.to_base, planned.encoding or "")
            shared, languages = table.shared, table.languages
            row = ReleaseRow(shared=shared, languages=languages, actor=actor, reason=reason, change=change)
            return replace(planned, release=publish_restored(session, planned.release, row, planned.restored).number)


class Encodings(RegistryPart):
    """The encodings of a registry, oldest first."""

    def find_current(self) -> Encoding | None:
        """Return the newest; None in a registry that no process has opened with a base."""
        with self._database.read() as session:
            row = find_newest_encoding(session)
            return None if row is None else row.convert_to(Encoding)

    def record_first(self, backend: str, precision: str, reason: str = "") -> Encoding:
        """Record the encoding of a new data root, unless another process did, and return the current one."""
        with self._database.begin() as session:
            row = find_newest_encoding(session) or serve_encoding(session, backend, precision, 1, reason)
            return row.convert_to(Encoding)


def add_base(session: Session, number: int, name: str, image_fingerprint: str, text_fingerprint: str) -> BaseRow:
    """Add a base, as a version without a parent."""
    facts = {"manifest_sha256": text_fingerprint, "rows": 0, "bytes": 0, "report": {}}
    session.add(VersionRow(number=number, language=BUILT_IN_LANGUAGE, **facts))
    session.flush()
    row = BaseRow(number=number, name=name, image_fingerprint=image_fingerprint, text_fingerprint=text_fingerprint)
    session.add(row)
    session.flush()
    session.refresh(row)
    return row


def find_base(session: Session, image_fingerprint: str, text_fingerprint: str) -> BaseRow | None:
    """Return the newest base with these towers that was not pruned."""
    query = select(BaseRow).join(VersionRow, VersionRow.number == BaseRow.number).where(VersionRow.pruned_at.is_(None))
    towers = {"image_fingerprint": image_fingerprint, "text_fingerprint": text_fingerprint}
    return session.scalars(query.filter_by(**towers).order_by(BaseRow.number.desc()).limit(1)).first()


def _has_others_at_work(session: Session, expansion: str) -> bool:
    leased = (ExpansionRow.state == RUNNING, ~has_ended(ExpansionRow.lease_expires))
    others = select(ExpansionRow.id).where(*leased, ExpansionRow.id != expansion).limit(1)
    return session.scalar(others) is not None


def _plan_undo(session: Session, expected: int | None) -> tuple[UndoPlan, ReleaseRow]:
    """Return the way back, and the release whose shared version and languages it serves."""
    now_served = get_serving(session, expected)
    refuse_active_kind(session, "base")
    base = now_served.languages[BUILT_IN_LANGUAGE]
    since = session.scalar(select(func.max(EncodingRow.release))) or 1  # with the encoding of now
    earlier = session.scalars(select(ReleaseRow).order_by(ReleaseRow.number.desc()))
    others = (row for row in earlier if row.languages[BUILT_IN_LANGUAGE] != base or row.number < since)
    if (target := next(others, None)) is None:
        raise NoEarlierBase("This data root has had no other base or encoding.")
    # versions do not depend on the encoding: what was learned since is kept
    table = now_served if target.languages[BUILT_IN_LANGUAGE] == base else target
    refuse_pruned(session, table.languages.values(), table.shared)
    here, there, made_by = now_served.languages, table.languages, find_newest_encoding(session, target.number)
    planned = UndoPlan(
        release=now_served.number,
        restored=target.number,
        from_base=base,
        to_base=target.languages[BUILT_IN_LANGUAGE],
        encoding=None if made_by is None else str(made_by.convert_to(Encoding)),
        lost=sorted(here.keys() - there.keys()),
        returned=sorted(there.keys() - here.keys()),
        changed=sorted(tag for tag in here.keys() & there.keys() - {BUILT_IN_LANGUAGE} if here[tag] != there[tag]),
    )
    return planned, table


def _describe_move(session: Session, old: int, new: int, encoding: str) -> dict[str, Any]:
    names = {number: session.get_one(BaseRow, number).convert_to(RecordedBase).public_name for number in (old, new)}
    return {"from_base": old, "to_base": new, "from": names[old], "to": names[new], "encoding": encoding}
