"""How far the words of a language reach: the share of the gallery's pictures that one of them names."""

from typing import Any

from index.coverage import find_nearest_words, find_taught_stems
from model.vocabulary import Vocabulary
from worker.attempt import TrainingContext
from worker.prepare import TrainingData


def measure_coverage(context: TrainingContext, data: TrainingData, before: tuple[str, ...]) -> dict[str, Any]:
    """Return the share of the pictures that have a word with these datasets, and that with those of expansions before.

    None where there is no picture.
    """
    attempt, encoder = context.attempt, context.encoder
    expansions = attempt.registry.expansions.list_with_datasets(before)
    known, more = (find_taught_stems(attempt.root, each) for each in (expansions, data.expansions))
    vocabulary = Vocabulary(encoder, attempt.settings.home)
    nearest = find_nearest_words(
        attempt.gallery, encoder.image_fingerprint, vocabulary, sorted(known | more), check=attempt.check_stop
    )
    return {"before": nearest.measure_covered(known), "after": nearest.measure_covered(more)}
