"""Keeping the detector in step with the captions that are served. How a language is told is `model.detection`."""

from collections.abc import Mapping

from index.snapshot import Snapshot
from index.vectors import VectorSet
from model.detection import Detector
from model.registry import Release

_TEXTS = 2_000  # captions a language that its n-gram counts are taken from: 0.15 s
_GROWTH = 1.25  # counted anew when a language has so many times more captions, or fewer


def detect(
    before: Snapshot | None, release: Release, captions: Mapping[str, VectorSet]
) -> tuple[Detector, dict[str, tuple[int, int]]]:
    """A detector of these languages, and what it knows each of them from; nothing is counted twice."""
    detector = Detector() if before is None else before.detector
    detected = {} if before is None else {tag: seen for tag, seen in before.detected.items() if tag in captions}
    for tag, found in captions.items():
        version, count = detected.get(tag, (-1, 0))
        small, large = sorted((count, found.count))
        if version != release.languages[tag] or large > _GROWTH * small:
            texts = found.texts()
            detector = detector.with_language(tag, texts[:: -(-len(texts) // _TEXTS) or 1])
            detected[tag] = (release.languages[tag], found.count)
    return detector, detected
