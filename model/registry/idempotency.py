"""Idempotency keys: an act that a client repeats under one key happens once, and is answered alike each time."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from model.errors import IdempotencyKeyReused
from model.registry.clock import now
from model.registry.tables import IdempotencyRow

KEPT_SECONDS = 7 * 86_400.0  # for which a key is remembered


@dataclass(frozen=True)
class Once:
    """The right of `actor` to do what `body_sha256` names once under `key`."""

    actor: str
    key: str
    body_sha256: str

    @staticmethod
    def of(actor: str, key: str | None, body: object) -> "Once | None":
        """For a request with this body (plain JSON); None when it came without a key."""
        if key is None:
            return None
        return Once(actor, key, hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest())


def done(session: Session, once: Once | None) -> IdempotencyRow | None:
    """What was done under the key before; None when nothing was. IdempotencyKeyReused for another body."""
    if once is None:
        return None
    row = session.get(IdempotencyRow, (once.actor, once.key))
    if row is not None and row.body_sha256 != once.body_sha256:
        raise IdempotencyKeyReused("This key was used before with another body.")
    return row


def remember(
    session: Session, once: Once | None, *, expansion: str | None = None, answer: dict[str, Any] | None = None
) -> None:
    """Keep what was done under the key: the expansion that it queued, or an answer. Forgets keys that are too old."""
    if once is not None:
        session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < now() - KEPT_SECONDS))
        row = IdempotencyRow(
            actor=once.actor, key=once.key, body_sha256=once.body_sha256, expansion=expansion, answer=answer
        )
        session.add(row)
        session.flush()
