"""Sessions of browsers: a person who signed in, or a key that somebody wants remembered. Knows no cookie and no route.

Only the SHA-256 of a session's secret is stored. What it may do is decided at each request, not here.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, LargeBinary, delete, insert, select
from sqlalchemy.orm import Mapped, mapped_column

from store.audit import record_act
from store.clock import now
from store.database import Database
from store.keys import hash_secret, match_secret
from store.tables import RegistryRow


class SessionRow(RegistryRow):
    """A session that was begun and not ended; one that is over goes with the next that begins."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(primary_key=True)
    secret_sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    subject: Mapped[str]
    label: Mapped[str]
    groups: Mapped[list[Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(default=now())
    expires_at: Mapped[datetime]


@dataclass(frozen=True)
class Session:
    """Who uses a browser: `oidc:SUBJECT` with the groups of then, or `key:ID` of a key; called by the `label`."""

    id: str
    subject: str
    label: str
    groups: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    secret_sha256: bytes = field(repr=False)

    def is_opened_by(self, plaintext: str, salt: bytes = b"") -> bool:
        """Return whether this is the text of the session, which was begun with this salt and is not over."""
        secret = plaintext.removeprefix(f"ps_{self.id}_")
        return self.expires_at > datetime.now(UTC) and match_secret(self.secret_sha256, secret, salt)


class Sessions:
    """The sessions of a registry."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, subject: str, label: str, groups: Sequence[str], seconds: float, salt: bytes = b"") -> str:
        """Begin a session, and return its text `ps_{id}_{secret}`, which cannot be recovered later.

        Without the `salt` the text opens nothing. Raises RegistryUnavailable.
        """
        id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        with self._database.begin() as session:
            session.execute(delete(SessionRow).where(SessionRow.expires_at <= now()))
            who = {"subject": subject, "label": label, "groups": [*groups]}
            kept = {"id": id, "secret_sha256": hash_secret(secret, salt), "expires_at": now() + seconds}
            session.execute(insert(SessionRow).values(**who, **kept))
            record_act(session, {id: "signed in"})
        return f"ps_{id}_{secret}"

    def list(self) -> Sequence[Session]:
        """List all sessions, newest first, with those that are over. Raises RegistryUnavailable."""
        query = select(SessionRow).order_by(SessionRow.created_at.desc())
        with self._database.read() as session:
            return [row.convert_to(Session, groups=tuple(row.groups)) for row in session.scalars(query)]

    def end(self, id: str) -> bool:
        """End a session; return whether there was one with this id. Raises RegistryUnavailable."""
        with self._database.begin() as session:
            ended = delete(SessionRow).where(SessionRow.id == id).returning(SessionRow.id)
            if found := session.scalar(ended) is not None:
                record_act(session, {id: "signed out"})
            return found
