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

from benchmarks.records.matches import Demo, find_first_hits, measure_rejected, open_demo
from benchmarks.records.nonsense import WORDS
from demo.gallery import list_outlines
from demo.scenes import join_names
from index.snapshot import Snapshot
from model.languages import ENGLISH
from model.match import CUT, Calibration, compute_expected_error, fit
from worker.match import CaptionQueries

FILLED = (800, 400, 200, 100)  # pictures that the gallery has while the demo fills it, single drawings first
_WORD = re.compile(r"[一-鿿々]+|[゠-ヿ]+|[^\W\d_぀-ヿ一-鿿々]{2,}")  # Chinese characters, katakana, or letters


def list_names(language: str) -> list[str]:
    """Return what the drawings of the demo are called in a language."""
    return sorted({each.names[language] for outline in list_outlines() for each in outline.objects})


def list_half_right(language: str, called: Collection[str], count: int = 200, seed: int = 0) -> list[str]:
    """Return distinct texts, pairs and words in turns, of these names; equal ones for the same seed and names."""
    random, absent, found = Random(f"{seed} {language} half"), WORDS[language].split(), list[str]()
    while len(found) < count:
        name, word = random.choice([*called]), random.choice(absent)
        parts = [*_WORD.finditer(name)]
        if len(found) % 2 == 0:
            text = join_names(random.sample([name, word], 2), language)
        elif len(parts) > 1:
            part = random.choice(parts)
            text = name[: part.start()] + word + name[part.end() :]
        else:
            continue
        if text not in found:
            found.append(text)
    return found


def measure(home: Path) -> dict[str, Any]:
    """Measure a copy of a demo's data root; the gallery that fills is the whole one with pictures deleted."""
    with open_demo(home) as demo:
        for tag in demo.languages:
            demo.measure(tag)
        demo.live.refresh()
        return {
            "match_half": [_measure_whole(demo, tag) for tag in demo.languages],
            "match_filling": _measure_filling(demo),
        }


def _measure_whole(demo: Demo, tag: str) -> dict[str, Any]:
    """Return the share of either kind of which no hit has a chance of `CUT`, beside that of nonsense."""
    vectors, calibration = demo.vectors(tag, list_half_right(tag, list_names(tag))), demo.calibration(tag)
    shares = [measure_rejected(demo.live.current, each, calibration) for each in (vectors[::2], vectors[1::2])]
    nonsense = measure_rejected(demo.live.current, demo.nonsense(tag), calibration)
    return {"language": tag, "pairs": shares[0], "words": shares[1], "nonsense": nonsense}


def _measure_filling(demo: Demo) -> list[dict[str, Any]]:
    """Measure English while the demo is filled, and judge it among as many pictures and among twice as many.

    `coming` are the captions of as many pictures that come next.
    """
    nonsense, halves = demo.nonsense(ENGLISH), demo.vectors(ENGLISH, list_half_right(ENGLISH, list_names(ENGLISH)))
    order = [outline.id for outline in list_outlines()]
    called = {outline.id: outline.caption for outline in list_outlines()}
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
                own = _judge(among[reached], texts, judged, early)
                absent = {"nonsense": nonsense, "coming": coming[reached : 2 * reached]}
                absent |= {"pairs": halves[::2], "words": halves[1::2]}
                shares = {name: measure_rejected(among[reached], vectors, early) for name, vectors in absent.items()}
                parts.append(own | shares)
            rows.append(row | {name: float(np.mean([part[name] for part in parts])) for name in parts[0]})
    return rows


def _judge(
    snapshot: Snapshot, texts: CaptionQueries, judged: np.ndarray[Any, Any], early: Calibration
) -> dict[str, float]:
    """Judge the texts that were not fitted."""
    found, chance = find_first_hits(snapshot, texts.vectors[judged], early)
    own = [texts.right[place] for place in np.flatnonzero(judged)]
    right = np.array([picture in ids for picture, ids in zip(found, own, strict=True)])
    return {"error": compute_expected_error(chance, right), "kept": float((chance[right] >= CUT).mean())}
