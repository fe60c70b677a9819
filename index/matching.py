"""The calibrations that a snapshot uses: reads those of its languages, each once. Measures nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from model.calibration import Calibration, Curves
from store.calibrations import Read, RecordedCalibration
from store.registry import Registry
from store.releases import Release


@dataclass(frozen=True)
class Matching:
    """The calibrations by language and version; `known` is what the registry had of them."""

    calibrations: Mapping[Read, Calibration] = field(default_factory=dict)
    known: Mapping[Read, RecordedCalibration] = field(default_factory=dict)

    def followed(self, registry: Registry, release: Release, dimension: int) -> "Matching":
        """With what was measured since, of the languages of a release; itself when nothing was.

        Raises `RegistryUnavailable`. Languages that were measured with the same pictures share these in memory.
        """
        known = registry.calibrations.of(release.languages)
        if known == self.known:
            return self
        kept = {
            read: self.calibrations[read]
            for read in known
            if self.known.get(read) == known[read] and read in self.calibrations
        }
        samples = {each.sample.tobytes(): each.sample for each in kept.values()}
        for read, record in known.items():
            if read in kept or record.curves is None:
                continue
            # Curves and sample in one look: another one may have been measured since, or none any more
            now, sample = registry.calibrations.with_sample(*read)
            if now is None or now.curves is None or not sample:
                continue
            opened = Calibration.of(Curves(**now.curves), sample, now.pictures, now.change, dimension)
            shared = samples.setdefault(opened.sample.tobytes(), opened.sample)
            kept[read] = Calibration(opened.curves, shared, opened.pictures, opened.change)
        return Matching(kept, known)
