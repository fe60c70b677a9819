"""Keeping the detector in step with the languages served. How a language is told is `model.detection`.

A version brings counts of its own: of the captions it learned from, or, the base, of English words. English is known by
the gallery's captions besides.
"""

from collections import Counter
from collections.abc import Mapping

from index.encoding import View
from index.snapshot import Snapshot
from index.vectors import VectorSet
from model.detection import Detector, count
from model.registry import Release

_GROWTH = 1.25  # counted anew when a language has so many times more captions, or fewer


def detect(
    before: Snapshot | None, release: Release, views: Mapping[str, View], captions: Mapping[str, VectorSet]
) -> tuple[Detector, dict[str, tuple[int, int]]]:
    """A detector of these languages, and what it knows each of them from; nothing is counted twice."""
    detector = Detector() if before is None else before.detector
    detected = {} if before is None else {tag: seen for tag, seen in before.detected.items() if tag in captions}
    for tag, found in captions.items():
        version, seen = detected.get(tag, (-1, 0))
        own, served = views[tag].ngrams, release.languages[tag]
        small, large = sorted((seen, found.count))
        by_captions = served == 0 or not own
        if version != served or (by_captions and large > _GROWTH * small):
            counts = Counter(own)
            if by_captions:
                counts.update(count(found.texts()))
            detector = detector.with_counts(tag, counts)
            detected[tag] = (served, found.count)
    return detector, detected
