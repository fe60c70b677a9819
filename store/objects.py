"""An object store as six requests; the only module that speaks its protocol. Knows no folders and no manifests.

obstore and not fsspec: the first writer of a name must win. Stores have a conditional request for that, but fsspec's
adapter for obstore drops the condition (0.12, read). Credentials come from the environment (`AWS_...`).
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url

from store.errors import CorruptFolder, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

# Seconds until we give up on a store that hangs; a transfer that makes progress may take an hour.
_CLIENT: "ClientConfig" = {"allow_http": True, "connect_timeout": "2s", "read_timeout": "5s", "timeout": "1h"}
# More than `read_timeout`: one request without an answer is asked again, on another connection.
_RETRY: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=6)}
_log = logging.getLogger(__name__)


class ObjectStore:
    """The objects below one URL (`s3://bucket/prefix`). Thread-safe; every method may raise `StoreUnavailable`."""

    def __init__(self, url: str) -> None:
        self._store = from_url(url, client_options=_CLIENT, retry_config=_RETRY)

    def get(self, key: str) -> bytes | None:
        """Return a small object; None when there is none."""
        with _translate_errors():
            try:
                return obstore.get(self._store, key).bytes().to_bytes()
            except FileNotFoundError:
                return None

    def stream(self, key: str) -> Iterator[bytes]:
        """Stream an object. Raises `CorruptFolder` when there is none, since a manifest names it."""
        with _translate_errors():
            try:
                response = obstore.get(self._store, key)
            except FileNotFoundError as error:
                raise CorruptFolder("the store lacks an object that a manifest names") from error
            for piece in response.stream():
                yield bytes(piece)

    def put(self, key: str, data: Path | bytes) -> None:
        """Store bytes or a file of any size, replacing an existing object."""
        with _translate_errors():
            obstore.put(self._store, key, data)

    def create(self, key: str, data: bytes) -> bool:
        """Store a small object unless one exists; return whether it was stored."""
        with _translate_errors():
            try:
                obstore.put(self._store, key, data, mode="create")
            except AlreadyExistsError:
                return False
            return True

    def list_keys(self, prefix: str) -> list[str]:
        with _translate_errors():
            return [entry["path"] for page in obstore.list(self._store, prefix) for entry in page]

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; missing ones are ignored."""
        with _translate_errors():
            if keys:
                obstore.delete(self._store, keys)


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except (BaseError, FileNotFoundError) as error:  # not found while writing: the bucket does not exist
        _log.warning("the object store failed: %s", str(error).partition("\n")[0])
        raise StoreUnavailable("the object store does not answer, or refuses the request") from error
