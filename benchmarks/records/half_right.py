"""Texts of which the gallery has a part: how often their hits are taken for what is meant, and in a gallery that fills.

Two kinds, by a rule and a seed. A pair is what one drawing of the demo is called together with an abstract word of
which no drawing exists, as captions of scenes join two names. A word is a name in which such a word stands for one of
its own. No picture shows either, so the right answer is that nothing matches well.
"""

import re
from collections.abc import Collection
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.records.matches import Demo, first, opened, rejected
from benchmarks.records.nonsense import WORDS
from demo.gallery import outlines
from demo.scenes import joined
from index.snapshot import Snapshot
from model.languages import ENGLISH
from model.match import CUT, Calibration, compute_expected_error, fit
from worker.match import CaptionQueries

FILLED = (800, 400, 200, 100)  # pictures that the gallery has while the demo fills it, single drawings first
_WORD = re.compile(r"[一-鿿々]+|[゠-ヿ]+|[^\W\d_぀-ヿ一-鿿々]{2,}")  # Chinese characters, katakana, or letters


def names(language: str) -> list[str]:
    """What the drawings of the demo are called in a language."""
    return sorted({each.names[language] for outline in outlines() for each in outline.objects})


def half_right(language: str, called: Collection[str], count: int = 200, seed: int = 0) -> list[str]:
    """Distinct texts, pairs and words in turns, of these names; equal ones for the same seed and names."""
    random, absent, found = Random(f"{seed} {language} half"), WORDS[language].split(), list[str]()
    while len(found) < count:
        name, word = random.choice([*called]), random.choice(absent)
        parts = [*_WORD.finditer(name)]
        if len(found) % 2 == 0:
            text = joined(random.sample([name, word], 2), language)
        elif len(parts) > 1:
            part = random.choice(parts)
            text = name[: part.start()] + word + name[part.end() :]
        else:
            continue
        if text not in found:
            found.append(text)
    return found


def figures(home: Path) -> dict[str, Any]:
    """On a copy of a demo's data root; the gallery that fills is the whole one with pictures deleted."""
    with opened(home) as demo:
        for tag in demo.languages:
            demo.measure(tag)
        demo.live.refresh()
        return {"match_half": [_whole(demo, tag) for tag in demo.languages], "match_filling": _filling(demo)}


def _whole(demo: Demo, tag: str) -> dict[str, Any]:
    """The share of either kind of which no hit has a chance of `CUT`, beside that of nonsense."""
    vectors, calibration = demo.vectors(tag, half_right(tag, names(tag))), demo.calibration(tag)
    shares = [rejected(demo.live.current, each, calibration) for each in (vectors[::2], vectors[1::2])]
    nonsense = rejected(demo.live.current, demo.nonsense(tag), calibration)
    return {"language": tag, "pairs": shares[0], "words": shares[1], "nonsense": nonsense}


def _filling(demo: Demo) -> list[dict[str, Any]]:
    """English while the demo is filled: measured among so many pictures, judged among these and among twice as many.

    `coming` are the captions of as many pictures that come next.
    """
    nonsense, halves = demo.nonsense(ENGLISH), demo.vectors(ENGLISH, half_right(ENGLISH, names(ENGLISH)))
    order = [outline.id for outline in outlines()]
    called = {outline.id: outline.caption for outline in outlines()}
    coming = demo.vectors(ENGLISH, [called[id] for id in order[: 4 * FILLED[0]]])
    among, rows = dict[int, Snapshot](), list[dict[str, Any]]()
    for count in (2 * FILLED[0], *FILLED):
        for id in order[count:]:
            demo.gallery.delete(id)
        order = order[:count]
        demo.live.refresh()
        among[count] = demo.live.current
        if count not in FILLED:
            continue
        demo.measure(ENGLISH)
        texts, answers, sample = demo.found(ENGLISH)
        for reached in (count, 2 * count):
            row: dict[str, Any] = {"pictures": count, "among": reached}
            parts = []
            for half in (0, 1):
                judged = np.arange(len(answers)) % 2 == half
                early = Calibration(fit(answers.select(~judged)), sample, count, 0)
                own = _judged(among[reached], texts, judged, early)
                absent = {"nonsense": nonsense, "coming": coming[reached : 2 * reached]}
                absent |= {"pairs": halves[::2], "words": halves[1::2]}
                shares = {name: rejected(among[reached], vectors, early) for name, vectors in absent.items()}
                parts.append(own | shares)
            rows.append(row | {name: float(np.mean([part[name] for part in parts])) for name in parts[0]})
    return rows


def _judged(
    snapshot: Snapshot, texts: CaptionQueries, judged: np.ndarray[Any, Any], early: Calibration
) -> dict[str, float]:
    """Of the texts that were not fitted."""
    found, chance = first(snapshot, texts.vectors[judged], early)
    own = [texts.right[place] for place in np.flatnonzero(judged)]
    right = np.array([picture in ids for picture, ids in zip(found, own, strict=True)])
    return {"error": compute_expected_error(chance, right), "kept": float((chance[right] >= CUT).mean())}
