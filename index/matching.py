"""The calibrations of a snapshot: curves of its versions, and pictures to measure z with. Fits nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from index.rows import PictureTables
from model.match import Calibration, Curves, first_of
from store.releases import Release


@dataclass(frozen=True)
class Matching:
    """The calibrations by version, the `rows` of the registry that they come from, and the `change` of the sample."""

    calibrations: Mapping[int, Calibration] = field(default_factory=dict)
    rows: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    change: int = 0

    def refresh(self, gallery: PictureTables, fingerprint: str, release: Release, change: int) -> "Matching":
        """Return what is fitted now to this fingerprint, itself if unchanged; raise `RegistryUnavailable`.

        All share one sample of pictures. It is read again after each change, so that no deleted picture stays in it,
        and processes that serve the same change name the same chances.
        """
        rows = gallery.registry.versions.read_matches(release.languages.values())
        fitted = {number: match for number, match in rows.items() if match["curves"] and match["tower"] == fingerprint}
        if rows == self.rows and (change == self.change or not fitted):
            return self
        if not fitted:
            return Matching({}, rows, change)
        sample = first_of(gallery.sample_vectors(1.0, fingerprint))
        calibrations = {
            number: Calibration(Curves(**match["curves"]), sample, match["pictures"], match["change"])
            for number, match in fitted.items()
        }
        return Matching(calibrations if len(sample) else {}, rows, change)
