"""Idempotency keys: a request that a client repeats with the same key acts once and gets the same answer each time."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from store.clock import now
from store.errors import IdempotencyKeyReused
from store.tables import IdempotencyRow

KEPT_SECONDS = 7 * 86_400.0  # how long a key is remembered


@dataclass(frozen=True)
class Once:
    """The idempotency key of one request: what `body_sha256` names is done once for `actor` and `key`."""

    actor: str
    key: str
    body_sha256: str

    @staticmethod
    def of(actor: str, key: str | None, body: object) -> "Once | None":
        """For a request with this body (plain JSON); None when it has no key."""
        if key is None:
            return None
        return Once(actor, key, hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest())


def recorded(session: Session, once: Once | None) -> IdempotencyRow | None:
    """What was done before with this key, if anything. Raises IdempotencyKeyReused when the body was another one."""
    if once is None:
        return None
    row = session.get(IdempotencyRow, (once.actor, once.key))
    if row is not None and row.body_sha256 != once.body_sha256:
        raise IdempotencyKeyReused("This key was used before with another body.")
    return row


def remember(
    session: Session, once: Once | None, *, expansion: str | None = None, answer: dict[str, Any] | None = None
) -> None:
    """Store what was done with the key: the expansion that was queued, or an answer.

    Deletes keys that are too old, but never right after the database's clock jumped: a request would act twice.
    """
    if once is not None:
        if session.info["database"].is_steady(session):
            session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < now() - KEPT_SECONDS))
        session.add(IdempotencyRow(**vars(once), expansion=expansion, answer=answer))
        session.flush()
