"""Pages of a listing, with opaque, signed cursors. Keeps no state.

A client can neither forge a cursor nor use one for another query.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from service.problems import CursorInvalid, Gone
from store.data_root import DataRoot

_FILE = "cursor.key"
_SIGNATURE_BYTES = 16  # of the HMAC

T = TypeVar("T")


class Cursors:
    """Makes and checks cursors, signed with one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @staticmethod
    def under(root: DataRoot) -> "Cursors":
        """With the data root's secret, created at the first start, so that cursors stay valid after a restart."""
        return Cursors(root.read_or_create(_FILE, lambda: secrets.token_bytes(32), private=True))

    def cut(
        self,
        query: object,
        limit: int,
        cursor: str | None,
        fetch: Callable[[int, Any], Sequence[T]],
        place_of: Callable[[T], Any],
        state: object = None,
    ) -> tuple[Sequence[T], str | None]:
        """At most `limit` items of the answer to `query`, and the cursor of the next page if there is one.

        `fetch(count, place)` returns items in order: the first ones, or those after `place`, the plain JSON that
        `place_of` returns for an item. A cursor is valid for one `state`: raises `Gone` in another, or `CursorInvalid`.
        """
        after = None
        if cursor is not None:
            content = self.read(query, cursor)
            if content["state"] != state:
                raise Gone("the release or the gallery has changed: search again without a cursor")
            after = content["after"]
        items = fetch(limit + 1, after)  # one more: is there a next page?
        if len(items) <= limit:
            return items, None
        return items[:limit], self.write(query, {"state": state, "after": place_of(items[limit - 1])})

    def write(self, query: object, place: Mapping[str, object]) -> str:
        """A cursor to `place` (plain JSON values) within the answer to `query`."""
        payload = json.dumps(dict(place), separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._sign(query, payload) + payload).decode().rstrip("=")

    def read(self, query: object, cursor: str) -> dict[str, Any]:
        """The place; raises `CursorInvalid` when this server did not write this cursor for this query."""
        refusal = CursorInvalid("this server did not give out this cursor for this query")
        try:
            data = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise refusal from None
        payload = data[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(data[:_SIGNATURE_BYTES], self._sign(query, payload)):
            raise refusal
        place: dict[str, Any] = json.loads(payload)
        return place

    def _sign(self, query: object, payload: bytes) -> bytes:
        digest = hashlib.sha256(json.dumps(query, sort_keys=True).encode()).digest() + payload
        return hmac.digest(self._secret, digest, "sha256")[:_SIGNATURE_BYTES]
