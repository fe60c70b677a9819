"""How a snapshot tells the chances of hits: curves of its versions, and pictures to measure z with. Fits nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from index.rows import Stored
from model.match import Calibration, Curves, first_of
from store.releases import Release


@dataclass(frozen=True)
class Matching:
    """The calibrations by version; `known` is what the registry had of them, `change` that of the sample."""

    calibrations: Mapping[int, Calibration] = field(default_factory=dict)
    known: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    change: int = 0

    def followed(self, gallery: Stored, fingerprint: str, release: Release, change: int) -> "Matching":
        """What was fitted since to vectors of this fingerprint, of a release, or itself. Raises `RegistryUnavailable`.

        All share one sample of the pictures that have vectors of this fingerprint. It is read again after each change,
        so that no deleted picture stays in it, and processes that serve the same change tell the same chances.
        """
        known = gallery.registry.versions.read_matches(release.languages.values())
        fitted = {number: match for number, match in known.items() if match["curves"] and match["tower"] == fingerprint}
        if known == self.known and (change == self.change or not fitted):
            return self
        if not fitted:
            return Matching({}, known, change)
        sample = first_of(gallery.sampled(1.0, fingerprint))
        calibrations = {
            number: Calibration(Curves(**match["curves"]), sample, match["pictures"], match["change"])
            for number, match in fitted.items()
        }
        return Matching(calibrations if len(sample) else {}, known, change)
