"""What listings and searches share: signed cursors, filters, the fields of items, the age of an answer."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query
from pydantic import AfterValidator, BaseModel
from pydantic_core import PydanticCustomError

from index.filters import Filter, parse_filter
from index.vectors import VectorSet
from service.people import Principal
from service.problems import CursorExpired, InvalidCursor
from service.requests import parse_json
from service.schemas.gallery import PictureItem
from service.schemas.search import PictureHit
from store.data_root import DataRoot

_FILE = "cursor.key"
_SIGNATURE_BYTES = 16  # of the HMAC

_ITEM_FIELDS = dict.fromkeys([*PictureItem.model_fields, *PictureHit.model_fields])

T = TypeVar("T")


class Cursors:
    """Opaque cursors that are signed: no client can forge one, or use one for another query. Keeps no state."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @staticmethod
    def open(root: DataRoot) -> "Cursors":
        """Read the data root's secret, created at the first start, so that cursors stay valid after a restart."""
        return Cursors(root.read_or_create(_FILE, lambda: secrets.token_bytes(32), private=True))

    def paginate(
        self,
        query: object,
        limit: int,
        cursor: str | None,
        fetch: Callable[[int, Any], Sequence[T]],
        place_of: Callable[[T], Any],
    ) -> tuple[Sequence[T], str | None]:
        """Return one page of the answer to `query`, and the cursor of the next page if there is one.

        `fetch(count, place)` returns items in order: the first ones, or those after `place`, the plain JSON that
        `place_of` returns for an item. Raises what `read_place` raises.
        """
        return self.cut(fetch(limit + 1, self.read_place(query, cursor)), limit, query, place_of)

    def cut(
        self, items: Sequence[T], limit: int, query: object, place_of: Callable[[T], Any], state: object = None
    ) -> tuple[Sequence[T], str | None]:
        """Cut a page of `limit` items; with more, return the cursor of the next page too."""
        if len(items) <= limit:
            return items, None
        return items[:limit], self.write_place(query, place_of(items[limit - 1]), state)

    def write_place(self, query: object, place: object, state: object = None) -> str:
        """Return a cursor to a `place` (plain JSON) within the answer to `query`, valid in one `state`."""
        payload = json.dumps({"state": state, "after": place}, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._sign(query, payload) + payload).decode().rstrip("=")

    def read_place(self, query: object, cursor: str | None, state: object = None) -> Any:
        """Return the place that a cursor names; None without a cursor.

        Raises `InvalidCursor` unless this server made the cursor for this query, and `CursorExpired` in another state.
        """
        if cursor is None:
            return None
        refusal = InvalidCursor("this server did not give out this cursor for this query")
        try:
            data = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise refusal from None
        payload = data[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(data[:_SIGNATURE_BYTES], self._sign(query, payload)):
            raise refusal
        content = json.loads(payload)
        if content["state"] != state:
            raise CursorExpired("the release or the gallery has changed: search again without a cursor")
        return content["after"]

    def _sign(self, query: object, payload: bytes) -> bytes:
        digest = hashlib.sha256(json.dumps(query, sort_keys=True).encode()).digest() + payload
        return hmac.digest(self._secret, digest, "sha256")[:_SIGNATURE_BYTES]


def parse_query_filter(text: str | None) -> Filter | None:
    """Parse the filter in the query of a listing; raises `InvalidFilter`."""
    if text is None:
        return None
    return parse_filter(parse_json(text.encode(), "query.filter"), "query.filter")


def _check_fields(fields: str | None) -> str | None:
    if fields is not None and not {*_split_fields(fields)} <= {*_ITEM_FIELDS}:
        raise PydanticCustomError("unknown_field", "the fields are: {known}", {"known": ", ".join(_ITEM_FIELDS)})
    return fields


QueryFields = Annotated[
    str | None,
    Query(max_length=500, description="The fields of each item that are wanted, separated by commas."),
    AfterValidator(_check_fields),
]


def find_unwanted_fields(fields: str | None, model: type[BaseModel]) -> frozenset[str]:
    """Find what `QueryFields` leave out of each item. A name that only other kinds of items have shows nothing."""
    return frozenset() if fields is None else frozenset(model.model_fields).difference(_split_fields(fields))


def _split_fields(fields: str) -> list[str]:
    return [name.strip() for name in fields.split(",")]


def exclude_fields(fields: frozenset[str], *, facets: bool) -> Mapping[str, Any]:
    """Make pydantic's `exclude` for an answer with items: these fields of each, and the `facets`."""
    items = {"items": {"__all__": {*fields}}} if fields else {}
    return {**items, **({"facets": True} if facets else {})}


def name_generation(vector_set: VectorSet, caller: Principal) -> str:
    """Name the state of a set; to a bound key without the last change, which would tell of other collections."""
    return vector_set.generation if caller.collections is None else vector_set.identity.name


def count_milliseconds(started: float) -> float:
    """Count the milliseconds since a reading of `time.perf_counter`."""
    return round((time.perf_counter() - started) * 1_000, 3)
