"""The chance of a hit in a gallery without captions: the curves of a base, from nouns that name photographs.

A photograph is right for a noun that its description has, or that is above such a noun in WordNet: a poodle is a dog.
Curves are fitted on the half *dev*; the other half, and searches for nothing, say how right they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.records.nonsense import draw_nonsense
from benchmarks.stamps.data import Stamp
from benchmarks.stamps.english import open_noun_reader
from demo.photos.wordnet import WordNet
from model.encoder import Encoder, Vectors
from model.match import (
    CUT,
    SAMPLE,
    Calibration,
    Curves,
    MatchSample,
    compute_expected_error,
    search_gallery,
)
from model.text import clean

_NONSENSE = 200  # searches
_FEWER = (100, 50)  # photographs of smaller galleries
_HITS = 10


def list_named(shown: Sequence[Stamp], wordnet: WordNet) -> dict[str, set[str]]:
    """Return the nouns of these pictures' descriptions, each with the names of all pictures that are right for it."""
    read, found = open_noun_reader(wordnet), dict[str, set[str]]()
    nouns = {stamp.name: read(stamp.english) for stamp in shown}
    senses = {noun: wordnet.senses[noun][0][0] for each in nouns.values() for noun in each}
    for name, own in nouns.items():
        above = frozenset[int]().union(*(wordnet.list_ancestors(senses[noun]) for noun in own))
        for noun, sense in senses.items():
            if noun in own or sense in above:
                found.setdefault(noun, set()).add(name)
    return dict(sorted(found.items()))


def search_named(encoder: Encoder, named: Mapping[str, set[str]], vectors: Mapping[str, Vectors]) -> MatchSample:
    """Search for nouns among pictures, whose vectors are given by name."""
    order = np.random.default_rng(0).permutation(sorted(vectors))

    def list_pictures() -> Iterator[Mapping[str, Vectors]]:
        yield {str(name): vectors[str(name)] for name in order}

    own = np.stack([vectors[min(names)] for names in named.values()])
    return search_gallery(encode(encoder, [*named]), own, [*named.values()], list_pictures)


def encode(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    """Return unit vectors (n, dimension) of English texts."""
    vectors: Vectors = encoder.encode_texts([(encoder.base_view, clean(text)) for text in texts]).vectors
    return vectors


def measure(
    encoder: Encoder, curves: Curves, named: Mapping[str, set[str]], vectors: Mapping[str, Vectors]
) -> list[dict[str, Any]]:
    """Return how right chances are among these pictures, and among fewer.

    `error` is the expected calibration error of first hits; of the right ones, `kept` have a chance of `CUT`, of
    nonsense `nonsense` have.
    """
    rows, draw = list[dict[str, Any]](), np.random.default_rng(1)
    for count in (len(vectors), *_FEWER):
        chosen = draw.permutation(sorted(vectors))[:count]
        gallery = np.stack([vectors[str(name)] for name in chosen])
        calibration = Calibration(curves, gallery[:SAMPLE], count, 0)
        here = {noun: names.intersection(map(str, chosen)) for noun, names in named.items()}
        here = {noun: names for noun, names in here.items() if names}
        chance, first = _find_first(calibration, gallery, encode(encoder, [*here]))
        right = np.array([str(chosen[at]) in names for at, names in zip(first, here.values(), strict=True)])
        nonsense, _ = _find_first(calibration, gallery, encode(encoder, draw_nonsense("en", [*named], _NONSENSE)))
        rows.append(
            {
                "photographs": count,
                "nouns": len(here),
                "first_right": float(right.mean()),
                "error": compute_expected_error(chance, right),
                "kept": float((chance[right] >= CUT).mean()),
                "nonsense": float((nonsense >= CUT).mean()),
            }
        )
    return rows


def measure_guessed(
    answers: MatchSample, curves: Curves, named: Sequence[str], unseen: frozenset[str]
) -> dict[str, Any]:
    """Return mean chance and share of right first hits, of nouns for what the base does not know and of the others."""
    chance = np.array([curves.compute_matches(z, z)[0] for z in answers.z])
    guessed = np.array([any(word in unseen for word in noun.split()) for noun in named])
    return {
        kind: {"nouns": int(of.sum()), "chance": float(chance[of].mean()), "right": float(answers.right[of, 0].mean())}
        for kind, of in (("guessed", guessed), ("others", ~guessed))
    }


def _find_first(calibration: Calibration, gallery: Vectors, queries: Vectors) -> tuple[np.ndarray[Any, Any], list[int]]:
    """Return the chance (n,) of the first hit of each query, and its place in the gallery."""
    chances, places = list[float](), list[int]()
    for query, scores in zip(queries, queries @ gallery.T, strict=True):
        best = np.argsort(-scores)[:_HITS]
        chances.append(calibration.compute_matches(query, scores[best].tolist(), scores[best[:1]].tolist())[0])
        places.append(int(best[0]))
    return np.array(chances), places
