"""Keeping the detector in step with the languages served. How a language is told is `model.detection`.

A learned version brings the counts of its own captions; the base is known by the gallery's English ones.
"""

from collections.abc import Mapping

from index.encoding import View
from index.snapshot import Snapshot
from index.vectors import VectorSet
from model.detection import Detector
from model.registry import Release

_GROWTH = 1.25  # counted anew when a language has so many times more captions, or fewer


def detect(
    before: Snapshot | None, release: Release, views: Mapping[str, View], captions: Mapping[str, VectorSet]
) -> tuple[Detector, dict[str, tuple[int, int]]]:
    """A detector of these languages, and what it knows each of them from; nothing is counted twice."""
    detector = Detector() if before is None else before.detector
    detected = {} if before is None else {tag: seen for tag, seen in before.detected.items() if tag in captions}
    for tag, found in captions.items():
        version, count = detected.get(tag, (-1, 0))
        own, served = views[tag].ngrams, release.languages[tag]
        small, large = sorted((count, found.count))
        if own and version != served:
            detector = detector.with_counts(tag, own)
            detected[tag] = (served, found.count)
        elif not own and (version != served or large > _GROWTH * small):
            detector = detector.with_language(tag, found.texts())
            detected[tag] = (served, found.count)
    return detector, detected
