"""Pages of a listing, and opaque, signed cursors between them. Keeps no state.

A client cannot make a cursor, and cannot use one for another question.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from model.data_root import DataRoot
from service.errors import CursorInvalid, Gone

_FILE = "cursor.key"
_SIGNATURE = 16  # bytes of the HMAC that are kept

T = TypeVar("T")


class Cursors:
    """Pages, and the cursors that lead from one to the next, signed with one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @staticmethod
    def under(root: DataRoot) -> "Cursors":
        """With the secret of this data root and its store, made on the first use, so that cursors outlive a restart."""
        return Cursors(root.first(_FILE, lambda: secrets.token_bytes(32), private=True))

    async def page(
        self,
        question: object,
        limit: int,
        cursor: str | None,
        fetch: Callable[[int, Any], Sequence[T]],
        place_of: Callable[[T], Any],
        state: object = None,
        threads: CapacityLimiter | None = None,
    ) -> tuple[Sequence[T], str | None]:
        """At most `limit` items of the answer to `question`, and the cursor of the next page if there is one.

        `fetch(count, place)` gives items in order: the first ones, or those behind the place (plain JSON) that
        `place_of` gives of an item. Cursors hold for one `state`; raises `CursorInvalid`, and `Gone` in another state.
        """
        after = None
        if cursor is not None:
            content = self.read(question, cursor)
            if content["state"] != state:
                raise Gone("another release or generation serves now: search again")
            after = content["after"]
        items = await to_thread.run_sync(fetch, limit + 1, after, limiter=threads)  # one more tells of a next page
        if len(items) <= limit:
            return items, None
        return items[:limit], self.write(question, {"state": state, "after": place_of(items[limit - 1])})

    def write(self, question: object, place: Mapping[str, object]) -> str:
        """A cursor to `place` (plain JSON values) within the answer to `question`."""
        payload = json.dumps(dict(place), separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._sign(question, payload) + payload).decode().rstrip("=")

    def read(self, question: object, cursor: str) -> dict[str, Any]:
        """The place; raises `CursorInvalid` when we did not write this cursor for this question."""
        refusal = CursorInvalid("not a cursor of this server for this request")
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
        digest = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).digest() + payload
        return hmac.digest(self._secret, digest, "sha256")[:_SIGNATURE]
