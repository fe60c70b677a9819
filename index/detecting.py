"""Updates the language detector to the served languages. Detection itself is in `model.detection`.

Each version has n-gram counts: of the captions it was trained on or, for version 0, of English words. For English, and
for versions without counts, the captions of the gallery are counted too.
"""

from collections import Counter
from collections.abc import Mapping

from index.encoding import View
from index.snapshot import Snapshot
from index.vectors import VectorSet
from model.detection import Detector, count
from model.registry import Release

_GROWTH = 1.25  # captions are counted again when their number grew or shrank by more than this factor


def detect(
    previous: Snapshot | None, release: Release, views: Mapping[str, View], captions: Mapping[str, VectorSet]
) -> tuple[Detector, dict[str, tuple[int, int]]]:
    """A detector of these languages, and the version and number of captions counted for each; reuses earlier counts."""
    detector = Detector() if previous is None else previous.detector
    counted = {} if previous is None else {tag: record for tag, record in previous.counted.items() if tag in captions}
    for tag, vector_set in captions.items():
        counted_version, counted_captions = counted.get(tag, (-1, 0))
        ngrams, version = views[tag].ngrams, release.languages[tag]
        fewer, more = sorted((counted_captions, vector_set.count))
        count_captions = version == 0 or not ngrams
        if counted_version != version or (count_captions and more > _GROWTH * fewer):
            counts = Counter(ngrams)
            if count_captions:
                counts.update(count(vector_set.texts()))
            detector = detector.with_counts(tag, counts)
            counted[tag] = (version, vector_set.count)
    return detector, counted
