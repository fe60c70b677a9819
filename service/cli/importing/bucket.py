"""Pictures below a prefix of an object store (`s3://bucket/prefix`), fetched one by one. Sends nothing."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from service.cli.importing.items import (
    MOST_BYTES,
    SUFFIXES,
    Item,
    Left,
    Said,
    SourceFault,
    Stamp,
    Unreadable,
    Why,
    ids_of,
    not_read,
)

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

# Seconds until we give up on a store that hangs; a transfer that makes progress may take an hour.
_CLIENT: "ClientConfig" = {"allow_http": True, "connect_timeout": "5s", "read_timeout": "30s", "timeout": "1h"}
_RETRY: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}


class Bucket:
    """The pictures below a prefix; their keys below it, without suffix, become the ids.

    Credentials come from the environment.
    An object whose size and time are as before is not fetched again. `metadata.source` names each object.
    """

    def __init__(self, url: str, said: Said) -> None:
        self.name, self._said = url.rstrip("/"), said
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ImportError:
            raise SourceFault("It needs `obstore`: install pictoglot with the extra `s3`.") from None
        self._obstore, self._errors = obstore, (BaseError, FileNotFoundError)
        try:
            self._store = from_url(self.name, client_options=_CLIENT, retry_config=_RETRY)
        except (BaseError, ValueError) as error:
            raise SourceFault(f"{_first_line(error)}.") from error

    def count(self) -> None:
        """To count them, all of them would have to be listed first."""

    def parts(self) -> Iterator[Item | Left]:
        """As `Source.parts`."""
        try:
            for page in self._obstore.list(self._store):
                for entry in page:
                    yield self._part(entry["path"], entry["size"], entry["last_modified"].timestamp())
        except self._errors as error:
            raise SourceFault(f"The store does not answer, or refuses: {_first_line(error)}.") from error

    def _part(self, key: str, size: int, changed: float) -> Item | Left:
        path = PurePosixPath(key)
        if any(part.startswith(".") for part in path.parts):
            return Left(key, "It is hidden.", Why.HIDDEN)
        if path.suffix.lower() not in SUFFIXES:
            return not_read(key)
        said = self._said.over(Said(metadata={"source": f"{self.name}/{key}"}))
        id, twin = ids_of(key)
        return Item(key, id, lambda: self._read(key, size), Stamp(size, round(changed * 1e9)), twin, said)

    def _read(self, key: str, size: int) -> bytes:
        if size > MOST_BYTES:
            raise Unreadable(f"It has more than {MOST_BYTES >> 20} MiB.")
        try:
            return bytes(self._obstore.get(self._store, key).bytes())
        except self._errors as error:
            raise Unreadable(f"It cannot be fetched: {_first_line(error)}.") from error


def _first_line(error: Any) -> str:
    return str(error).partition("\n")[0].rstrip(".")[:200]
