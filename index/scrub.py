"""The scrub: reads all that is stored, finds what has changed by itself, and mends what it can. Once a day, slowly.

A disk may change a bit and leave size and times of the file as they are. Segments and versions are hashed when they are
opened, pictures when they are shown, vectors when they are read; but what is only kept, or open already, nobody looks
at. Each data root has a scrub and a report of its own: other machines have other copies.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TypeVar

from index import scrub_report
from index.scrub_report import Damage, Kind, ScrubReport
from index.sets import VectorSets
from index.stored_items import ItemGroup, Pace, StoredItem, StoredItems, raise_if_over
from store.errors import PictoglotError, RegistryUnavailable

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Scrub:
    """Reading of everything in one data root and its registry.

    What one item raises ends nothing but the look at it; only a registry that stays away ends a scrub, and another
    process that does it.
    """

    def __init__(self, sets: VectorSets, pace: Pace | None = None, *, mend: bool = True) -> None:
        self._root, self._mends, self._pace = sets.root, mend, pace or Pace()
        self._items = items = StoredItems(sets, self._pace)
        self._parts: dict[str, tuple[Kind, str, Callable[[], Iterable[ItemGroup]]]] = {
            "registry": ("registry", "the registry", items.find_faults),
            "segments": ("segment", "the list of vector sets", items.find_segments),
            "versions": ("version", "the list of versions", items.find_versions),
            "datasets": ("dataset", "the list of expansions", items.find_datasets),
            "pictures": ("picture", "the list of pictures", items.find_pictures),
            "vectors": ("vector", "vectors in the registry", items.find_vectors),  # mended from segments
            "captions": ("caption", "captions in the registry", lambda: [("captions", items.find_captions())]),
        }

    def run(self, on_damage: Callable[[Damage], object] = lambda _: None) -> ScrubReport:
        """Read everything, tell each damage as soon as it is known, and keep the report.

        Raises `RegistryUnavailable` when the registry stays away: nothing is reported then, as not all was read.
        """
        report = ScrubReport(time.time(), 0.0, 0, 0)
        for each in (damaged for part in self._parts for damaged in self.examine(part)):
            end = f"mended {each.mended}" if each.mended else "NOT mended"
            _log.error("damaged: %s, %s", each.name, end, extra={"kind": each.kind, "mended": each.mended})
            report.add(each)
            on_damage(each)
        report.finished, report.files, report.bytes = time.time(), self._items.read, self._pace.bytes
        try:
            scrub_report.save_report(self._root, report)
        except OSError as error:
            _log.error("the report of the scrub cannot be kept (%s)", error.strerror)
        found = sum(report.found.values())
        counts = {"files": report.files, "damaged": found, "not_mended": report.unmended_count}
        _log.info("everything stored was read", extra=counts)
        return report

    def examine(self, part: str) -> Iterator[Damage]:
        """Yield what is damaged of one part, and mend it."""
        kind, what, find = self._parts[part]
        found = (self._guard(kind, name, chain.from_iterable(map(self._examine_item, items))) for name, items in find())
        return self._guard(kind, what, chain.from_iterable(found))

    def _examine_item(self, thing: StoredItem) -> Iterator[Damage]:
        name = thing.describe_damage()
        if name and self._retry(thing.is_there, True):
            yield Damage(thing.kind, name, self._retry(thing.mend, "") if self._mends else "")

    def _guard(self, kind: Kind, what: str, part: Iterator[Damage]) -> Iterator[Damage]:
        """Go through a part to its end; if it cannot go on, that is a damage, and other parts can."""
        try:
            yield from part
        except Exception as error:  # noqa: BLE001 - as in `describe_damage`
            raise_if_over(error)
            why = error.full_detail if isinstance(error, PictoglotError) else type(error).__name__
            of: Kind = "registry" if isinstance(error, RegistryUnavailable) else kind
            yield Damage(of, f"{what} cannot be read ({why})")

    def _retry(self, act: Callable[[], T], otherwise: T) -> T:
        """Return what `act` does, patiently; `otherwise` when that cannot be done now."""
        try:
            return self._pace.retry_patiently(act)
        except Exception as error:  # noqa: BLE001 - as in `describe_damage`
            raise_if_over(error)
            _log.warning("something damaged cannot be mended now (%s)", type(error).__name__)
            return otherwise
        finally:
            self._pace.rest()
