"""API keys: created, checked, revoked. Only the SHA-256 of a secret is stored. Knows no header and no route."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from sqlalchemy import Row, select, update

from store.audit import record_act
from store.clock import now
from store.database import RegistryPart
from store.errors import KeyNotFound
from store.tables import KeyRow

Scope = Literal["search", "write", "admin"]  # each includes the ones before it
SCOPES: tuple[Scope, ...] = get_args(Scope)
_MAX_LENGTH = 256  # characters; a longer text is not a key


@dataclass(frozen=True)
class ApiKey:
    """An API key. If it is bound to `collections`, it sees nothing of others."""

    id: str
    scope: Scope
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    collections: tuple[str, ...] | None
    secret_sha256: bytes = field(repr=False)

    def is_opened_by(self, plaintext: str) -> bool:
        """Return whether this is the text of the key, and the key is neither revoked nor expired."""
        return not self.is_over and match_secret(self.secret_sha256, plaintext.removeprefix(f"pk_{self.id}_"))

    @property
    def is_over(self) -> bool:
        """Whether the key is revoked or expired."""
        return self.revoked_at is not None or (self.expires_at is not None and self.expires_at <= datetime.now(UTC))


def parse_key_id(plaintext: str, kind: str = "pk") -> str | None:
    """Return the id in the text of a key, or of a session (`ps`); None when the text is none."""
    parts = plaintext.split("_", 2)  # the secret may hold underscores, the id has none
    if len(plaintext) > _MAX_LENGTH or not plaintext.isascii() or len(parts) != 3 or parts[0] != kind:
        return None
    return parts[1]


class ApiKeys(RegistryPart):
    """The keys of a registry."""

    def create(
        self, scope: Scope, label: str, expires_at: datetime | None = None, collections: Sequence[str] | None = None
    ) -> tuple[ApiKey, str]:
        """Make a key, and return it with its text `pk_{id}_{secret}`, which cannot be recovered later."""
        id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        with self._database.begin() as session:
            row = KeyRow(id=id, scope=scope, label=label, expires_at=expires_at)
            row.collections = None if collections is None else [*collections]
            row.secret_sha256 = hash_secret(secret)
            session.add(row)
            session.flush()
            record_act(session, {id: "created"})
            return _build_key(row), f"pk_{id}_{secret}"

    def list(self) -> Sequence[ApiKey]:
        """List all keys of the known scopes, newest first, also revoked and expired ones."""
        columns = KeyRow.__table__.columns  # rows of the database, not objects: a tenth of the time
        query = select(*columns).where(KeyRow.scope.in_(SCOPES)).order_by(KeyRow.created_at.desc(), KeyRow.id)
        with self._database.read() as session:
            return [_build_key(row) for row in session.execute(query)]

    def revoke(self, id: str) -> None:
        """Make a key invalid from now on; revoking it again changes nothing. Raises KeyNotFound."""
        revoke = update(KeyRow).where(KeyRow.id == id, KeyRow.revoked_at.is_(None)).values(revoked_at=now())
        with self._database.begin() as session:
            if session.scalar(revoke.returning(KeyRow.id)) is not None:
                record_act(session, {id: "revoked"})
            elif session.get(KeyRow, id) is None:
                raise KeyNotFound


def hash_secret(secret: str, salt: bytes = b"") -> bytes:
    """Return what is stored of a secret; it has 256 bits, so one SHA-256 is enough."""
    return hashlib.sha256(secret.encode() + salt).digest()


def match_secret(stored: bytes, secret: str, salt: bytes = b"") -> bool:
    """Tell whether `stored` is of this secret, in the same time whatever it is."""
    return hmac.compare_digest(stored, hash_secret(secret, salt))


def _build_key(row: "KeyRow | Row[Any]") -> ApiKey:
    scope = next(scope for scope in SCOPES if scope == row.scope)
    bound = None if row.collections is None else tuple(row.collections)
    return ApiKey(row.id, scope, row.label, row.created_at, row.expires_at, row.revoked_at, bound, row.secret_sha256)
