"""Keys: API keys and sessions of browsers, created, checked, revoked; and the data root's own key, which signs.

A session is of a person who signed in, or of a key that somebody wants remembered; what it may do is decided at each
request, not here. Only the SHA-256 of a secret is stored. Signatures are by Ed25519: of documents, and of files in the
form of the program minisign. Knows no header, no cookie and no route.
"""

import hashlib
import hmac
import json
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from sqlalchemy import JSON, LargeBinary, Row, delete, insert, select, update
from sqlalchemy.orm import Mapped, mapped_column

from store.audit import note_act
from store.clock import now
from store.data_root import SIGNING_KEY, DataRoot
from store.database import Database, RegistryPart
from store.errors import KeyNotFound
from store.tables import KeyRow, RegistryRow

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Scope = Literal["search", "write", "admin"]  # each includes the ones before it
SCOPES: tuple[Scope, ...] = get_args(Scope)
_MOST_SESSIONS = 1_000  # of one subject: browsers that remember one key
_MAX_LENGTH = 256  # characters; a longer text is not a key
_PUBLIC, _HASHED, _ID = b"Ed", b"ED", 8  # how a public key and a signature of a hash begin; bytes of the id behind it
_START = len(_PUBLIC) + _ID
_TRUSTED = "trusted comment: "


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
            note_act(session, {id: "created"})
            return _build_key(row), f"pk_{id}_{secret}"

    def list(self) -> Sequence[ApiKey]:
        """List all keys of the known scopes, newest first, also revoked and expired ones."""
        columns = KeyRow.__table__.columns  # rows of the database, not objects: a tenth of the time
        query = select(*columns).where(KeyRow.scope.in_(SCOPES)).order_by(KeyRow.created_at.desc(), KeyRow.id)
        return [_build_key(row) for row in self._database.read_rows(query)]

    def revoke(self, id: str) -> None:
        """Make a key invalid from now on; revoking it again changes nothing. Raises KeyNotFound."""
        revoke = update(KeyRow).where(KeyRow.id == id, KeyRow.revoked_at.is_(None)).values(revoked_at=now())
        with self._database.begin() as session:
            if session.scalar(revoke.returning(KeyRow.id)) is not None:
                note_act(session, {id: "revoked"})
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


class BrowserSessions:
    """The sessions of a registry."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, subject: str, label: str, groups: Sequence[str], seconds: float, salt: bytes = b"") -> str:
        """Begin a session, and return its text `ps_{id}_{secret}`, which cannot be recovered later.

        Without the `salt` the text opens nothing. With too many of one subject the oldest end. Raises
        RegistryUnavailable.
        """
        id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        with self._database.begin() as session:
            if self._database.is_steady(session):
                session.execute(delete(SessionRow).where(SessionRow.expires_at <= now()))
            own = select(SessionRow.id).where(SessionRow.subject == subject).order_by(SessionRow.created_at.desc())
            oldest = SessionRow.id.in_(own.offset(_MOST_SESSIONS - 1))
            ended = session.scalars(delete(SessionRow).where(oldest).returning(SessionRow.id)).all()
            who = {"subject": subject, "label": label, "groups": [*groups]}
            kept = {"id": id, "secret_sha256": hash_secret(secret, salt), "expires_at": now() + seconds}
            session.execute(insert(SessionRow).values(**who, **kept))
            note_act(session, {id: "signed in", **dict.fromkeys(ended, "signed out")})
        return f"ps_{id}_{secret}"

    def list(self) -> Sequence[Session]:
        """List all sessions, newest first, with those that are over. Raises RegistryUnavailable."""
        query = select(SessionRow).order_by(SessionRow.created_at.desc())
        return [row.convert_to(Session, groups=tuple(row.groups)) for row in self._database.read_values(query)]

    def end(self, id: str) -> bool:
        """End a session; return whether there was one with this id. Raises RegistryUnavailable."""
        with self._database.begin() as session:
            ended = delete(SessionRow).where(SessionRow.id == id).returning(SessionRow.id)
            if found := session.scalar(ended) is not None:
                note_act(session, {id: "signed out"})
            return found


def sign(root: DataRoot, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with `public_key` and `signature`, both in base64; the key is made at the first use.

    Signed is the object without `signature`, as UTF-8 without blanks, its keys in order. Raises StoreUnavailable.
    """
    key = _load_key(root)
    signed = {**document, "public_key": b64encode(key.public_key().public_bytes_raw()).decode()}
    return {**signed, "signature": b64encode(key.sign(_format(signed))).decode()}


def sign_file(root: DataRoot, path: Path, about: str) -> str:
    """Return what `minisign -S` writes of a file; `about` and the public key are its trusted comment.

    Raises StoreUnavailable.
    """
    key = _load_key(root)
    public = key.public_key().public_bytes_raw()
    id, signature = hashlib.sha256(public).digest()[:_ID], key.sign(_hash(path))
    trusted = f"{about} {b64encode(_PUBLIC + id + public).decode()}"
    lines = "untrusted comment: its last word is the public key", b64encode(_HASHED + id + signature).decode()
    more = f"{_TRUSTED}{trusted}", b64encode(key.sign(signature + trusted.encode())).decode()
    return "\n".join((*lines, *more, ""))


def find_signer(path: Path, signature: str) -> str:
    """Return the public key, as minisign writes it, of who signed a file so with `sign_file`. Raises ValueError."""
    from cryptography.exceptions import InvalidSignature  # late: few processes sign or look
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    _, first, comment, last, _ = signature.split("\n")
    signed, public = (b64decode(each, validate=True) for each in (first, comment.rpartition(" ")[2]))
    same_id = signed[:_START] == _HASHED + public[2:_START] and public[:2] == _PUBLIC
    if not (same_id and comment.startswith(_TRUSTED)):
        raise ValueError("the signature has another form")
    key = Ed25519PublicKey.from_public_bytes(public[_START:])
    try:
        key.verify(signed[_START:], _hash(path))
        trusted = comment.removeprefix(_TRUSTED).encode()
        key.verify(b64decode(last, validate=True), signed[_START:] + trusted)
    except InvalidSignature as error:
        raise ValueError("the signature does not fit") from error
    return b64encode(public).decode()  # what is behind it in the comment was not looked at


def _load_key(root: DataRoot) -> "Ed25519PrivateKey":
    """Return the key of a data root, which is made at the first use."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    secret = root.read_or_create(SIGNING_KEY, lambda: Ed25519PrivateKey.generate().private_bytes_raw(), private=True)
    return Ed25519PrivateKey.from_private_bytes(secret)


def _hash(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes()).digest()


def _format(signed: Mapping[str, Any]) -> bytes:
    return json.dumps(signed, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
