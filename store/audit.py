"""The audit log: who changed what, by which request; written in the transaction of the change itself."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import JSON
from sqlalchemy.orm import Mapped, Session, mapped_column

from store.clock import now
from store.tables import AutoKey, RegistryRow


@dataclass
class Act:
    """What somebody does: `name` is the method and route of a request, or what a worker did.

    `targets` are the ids that are named where a change notes none itself. `number` is that of the entry once written,
    and `changed` what it names.
    """

    actor: str
    name: str
    label: str = ""
    request_id: str = ""
    targets: Sequence[str] = ()
    number: int | None = field(default=None, compare=False)
    changed: dict[str, str] = field(default_factory=dict, compare=False)


CURRENT: ContextVar[Act | None] = ContextVar("act", default=None)


class AuditRow(RegistryRow):
    """An entry of the log: one act of a key or person, labelled as it was then; `targets` are ids with outcomes."""

    __tablename__ = "audit"
    __table_args__ = ({"sqlite_autoincrement": True},)

    number: Mapped[AutoKey]
    at: Mapped[datetime] = mapped_column(default=now())
    actor: Mapped[str]
    label: Mapped[str]
    act: Mapped[str]
    targets: Mapped[dict[str, Any]] = mapped_column(JSON)
    request_id: Mapped[str]


def note_act(session: Session, targets: Mapping[str, str], act: Act | None = None) -> None:
    """Record what became of each target of an act in this transaction; by default of the act that is under way."""
    if (act := act or CURRENT.get()) is not None:
        session.info.setdefault("acts", []).append((act, targets))


def write_acts(session: Session) -> dict[int, Act]:
    """Write what was noted in this transaction, and the act under way; return the acts by the number of their entry."""
    noted = session.info.pop("acts", [])
    if (current := CURRENT.get()) is not None and all(act is not current for act, _ in noted):
        noted.append((current, {}))
    written: dict[int, Act] = {}
    for act in {id(act): act for act, _ in noted}.values():
        targets = {name: became for each, became_by in noted if each is act for name, became in became_by.items()}
        act.changed |= targets
        if act.number is not None:  # an earlier transaction of the same request
            row = session.get_one(AuditRow, act.number)
            row.targets = row.targets | targets
            continue
        targets = targets or dict.fromkeys(act.targets, "")
        row = AuditRow(actor=act.actor, label=act.label, act=act.name, request_id=act.request_id, targets=targets)
        session.add(row)
        session.flush()
        written[row.number] = act
    return written
