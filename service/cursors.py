"""Opaque, signed cursors: a client cannot make one, and cannot use one for another question. Keeps no state."""

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model import remote
from model.errors import CursorInvalid, StoreUnavailable
from model.storage import write_once

_FILE = "cursor.key"
_SIGNATURE = 16  # bytes of the HMAC that are kept


class Cursors:
    """Signs and reads cursors with one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @staticmethod
    def under(home: Path) -> "Cursors":
        """With the secret of this data root and its store, made on the first use, so that cursors outlive a restart."""
        path = home / _FILE
        if not path.exists():
            with _private():
                remote.fetch(path)
        if not path.exists():
            write_private(path, secrets.token_bytes(32))
            try:
                with _private():
                    remote.publish(path)
            except StoreUnavailable:
                path.unlink(missing_ok=True)  # or else the next start would take it for the shared one
                raise
        return Cursors(path.read_bytes())

    def write(self, question: object, place: Mapping[str, object]) -> str:
        """A cursor to `place` (plain JSON values) within the answer to `question`."""
        payload = json.dumps(dict(place), separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._sign(question, payload) + payload).decode().rstrip("=")

    def read(self, question: object, cursor: str) -> dict[str, Any]:
        """The place; raises `CursorInvalid` when we did not write this cursor for this question."""
        refusal = CursorInvalid("not a cursor of this server for this question")
        try:
            data = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise refusal from None
        payload = data[_SIGNATURE:]
        if not hmac.compare_digest(data[:_SIGNATURE], self._sign(question, payload)):
            raise refusal
        place: dict[str, Any] = json.loads(payload)
        return place

    def _sign(self, question: object, payload: bytes) -> bytes:
        asked = json.dumps(question, sort_keys=True).encode()
        digest = hashlib.sha256(asked).digest() + payload
        return hmac.digest(self._secret, digest, "sha256")[:_SIGNATURE]


def write_private(path: Path, data: bytes) -> None:
    """Put a secret at `path`, for this user's eyes only, unless another process was first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _private():
        write_once(path, data)


@contextmanager
def _private() -> Iterator[None]:
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
