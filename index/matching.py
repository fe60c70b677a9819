"""How a snapshot tells the chances of hits: curves of its versions, and pictures to measure z with. Fits nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from index.rows import Stored
from model.match import SAMPLE, Calibration, Curves, first_of
from store.releases import Release


@dataclass(frozen=True)
class Matching:
    """The calibrations by version; `known` is what the registry had of them, `change` that of the sample."""

    calibrations: Mapping[int, Calibration] = field(default_factory=dict)
    known: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    change: int = 0

    def followed(self, gallery: Stored, fingerprint: str, release: Release, change: int) -> "Matching":
        """What was fitted since, of the versions of a release, or itself. Raises `RegistryUnavailable`.

        All share one sample of the pictures that have vectors of this fingerprint, in every process the same; it is
        read again after as many changes of the gallery as it has pictures.
        """
        known = gallery.registry.versions.matches(release.languages.values())
        if known == self.known and change - self.change <= SAMPLE:
            return self
        if not any(match["curves"] for match in known.values()):
            return Matching({}, known, change)
        sample = first_of(gallery.sampled(1.0, fingerprint))
        calibrations = {
            number: Calibration(Curves(**match["curves"]), sample, match["pictures"], match["change"])
            for number, match in known.items()
            if match["curves"]
        }
        return Matching(calibrations if len(sample) else {}, known, change)
