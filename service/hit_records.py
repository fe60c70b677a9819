"""What searches read of the registry without waiting for it: records of their hits, terms of their languages."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import BoundedSemaphore

from index.records import Collections, Record, find_records
from service.lanes import AWAY_SECONDS, Lane
from service.schemas.terms import LanguageTerms, TermsInBrief
from store.errors import RegistryUnavailable
from store.registry import Registry

_LOCAL_READERS = 4  # searches that read a near registry in their own threads at a time


class HitRecords:
    """The records of what searches find. A registry that does not answer holds up hardly any search.

    A registry that is near is read in the search's own thread: going to another one and back takes longer than reading.
    Should it hang all the same, only the first searches wait for it.
    """

    def __init__(self, registry: Registry, lane: Lane) -> None:
        self._registry, self._lane, self._near = registry, lane, registry.is_local
        self._local_readers, self._away_until = BoundedSemaphore(_LOCAL_READERS), -math.inf

    def read(self, ids: Sequence[str], within: Collections) -> dict[str, Record] | None:
        """Return the records of those pictures that are `within`; None while the registry does not answer."""
        if time.monotonic() < self._away_until:
            return None
        try:
            if self._near and self._local_readers.acquire(blocking=False):
                try:
                    return self._read(ids, within)
                finally:
                    self._local_readers.release()
            return self._lane.run_blocking(self._read, ids, within)
        except RegistryUnavailable:
            self._away_until = time.monotonic() + AWAY_SECONDS
            return None

    def _read(self, ids: Sequence[str], within: Collections) -> dict[str, Record]:
        with self._registry.connect_for_reading() as connection:
            found = find_records(connection, ids, within)
        self._away_until = -math.inf  # it answers, though perhaps too late for who asked
        return found


class TermsCopy:
    """The terms of all languages as read last, at the start or by `refresh`: no search waits. Thread-safe."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._current: Mapping[str, TermsInBrief] = {}
        with suppress(RegistryUnavailable):
            self.refresh()

    def refresh(self) -> None:
        """Read them anew. Raises RegistryUnavailable."""
        described = ((tag, LanguageTerms.describe(each)) for tag, each in self._registry.terms.list_current().items())
        self._current = {tag: TermsInBrief.model_validate(each) for tag, each in described if each is not None}

    def get(self, language: str) -> TermsInBrief | None:
        """Return the terms of a language; None if none are known."""
        return self._current.get(language)
