"""How right the chances of hits are (`match`), on a demo that was taught languages: `--demo` names its data root.

Nothing is judged by curves that were fitted to it. Works on a copy: the smaller gallery is one with pictures deleted.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.records.nonsense import WORDS, draw_nonsense
from index.gallery import Gallery
from index.live import LiveIndex
from index.sets import VectorSets
from index.snapshot import Snapshot
from index.vectors import VectorKeys
from model.backend import open_encoder
from model.languages import ENGLISH
from model.match import CUT, Calibration, Curves, MatchSample, compute_expected_error, fit, measure_error, take_first
from store.data_root import DataRoot
from store.registry import Registry, open_registry
from store.settings import CommonSettings
from worker.match import CaptionQueries, MatchFitter

Vectors = NDArray[np.float32]  # (n, dimension), of unit length
SMALLER = (2_000, 1_000)  # pictures of smaller galleries
_FEW = (5, 20)  # held-out captions of a language that has hardly any
_DRAWS = 10  # times that so few are drawn
_HALVES = 10  # times that captions are halved
_TIMED = 300  # searches on each side
_LEFT = (0.5, 0.25)  # shares of the pictures that a filter leaves


@dataclass(frozen=True)
class Demo:
    """An opened copy of the data root of a demo, without background work."""

    home: Path
    registry: Registry
    live: LiveIndex
    encoder: Any

    @property
    def languages(self) -> dict[str, int]:
        """The served languages that there is nonsense in, English first."""
        served = self.registry.releases.get_serving().languages
        return {tag: served[tag] for tag in WORDS if tag in served}

    @property
    def gallery(self) -> Gallery:
        """Its pictures and captions."""
        return Gallery(self.registry, DataRoot(self.home))

    def measure(self, tag: str) -> None:
        """Fit the chances as the worker does."""
        self.fitter().fit(tag, self.languages[tag])

    def calibration(self, tag: str) -> Calibration:
        """Return the curves of the chances of a language's hits."""
        return self.live.current.calibrations[self.languages[tag]]

    def found(self, tag: str) -> tuple[CaptionQueries, MatchSample, Vectors]:
        """Return the texts that a language is measured with, what they find, and the sample of z."""
        texts = self.fitter().choose_queries(tag, self.languages[tag])
        assert texts is not None, f"{tag} has no held-out captions"
        return texts, self.fitter().search(texts), take_first(self.fitter().read_vectors())

    def captions(self, tag: str) -> list[str]:
        """Return its texts in a language, as the version that serves shows them."""
        return self.gallery.sample_captions(tag, self.registry.releases.find_visible(tag, self.languages[tag]), 1)

    def nonsense(self, tag: str) -> Vectors:
        """Return vectors of nonsense in a language."""
        return self.vectors(tag, draw_nonsense(tag, self.captions(tag)))

    def fitter(self) -> MatchFitter:
        """Return a new one, for what is there now."""
        return MatchFitter(self.registry, DataRoot(self.home))

    def vectors(self, language: str, texts: Sequence[str]) -> Vectors:
        """Encode texts in a language, as its version reads them."""
        view = self.live.current.views[language]
        found: Vectors = self.encoder.encode_texts([(view, text) for text in texts], alone=True).vectors
        return found


@contextmanager
def open_demo(home: Path) -> Iterator[Demo]:
    """Open a copy of a data root until the block ends."""
    with tempfile.TemporaryDirectory(prefix="pictoglot-match-") as folder:
        copy = Path(folder) / "home"
        shutil.copytree(home, copy, ignore=shutil.ignore_patterns("broker", "uploads", "teacher"))
        settings = CommonSettings(home=copy)
        with closing(open_registry(settings.database)) as registry:
            encoder = open_encoder(settings, registry)
            gallery = Gallery(registry, DataRoot(copy))
            live = LiveIndex(encoder, VectorSets(gallery))
            live.start()
            yield Demo(copy, registry, live, encoder)
            live.close()


def measure_all(home: Path) -> dict[str, Any]:
    """Return all parts, on one copy; the last one deletes pictures."""
    with open_demo(home) as demo:
        for tag in demo.languages:  # English first: the others lean on it
            demo.measure(tag)
        demo.live.refresh()
        found: dict[str, list[dict[str, Any]]] = {"match": [], "match_filtered": [], "match_few": []}
        for tag in demo.languages:
            texts, answers, _ = demo.found(tag)
            near = demo.fitter().load_english_curves(tag)
            found["match"].append(_measure_language(demo, tag, answers, near))
            found["match_filtered"] += _measure_filtered(demo, tag, texts)
            if near is not None:
                found["match_few"].append({"language": tag, **_measure_few(answers, near)})
        return {**found, "match_cost": [_measure_cost(demo)], "match_grown": _measure_grown(demo)}


def _measure_language(demo: Demo, tag: str, answers: MatchSample, near: Curves | None) -> dict[str, Any]:
    """Return one language: each half of its captions judged by the other, and nonsense by the curves of either.

    Halves are drawn several times: means, and for the error, nonsense and what is kept the least and the most.
    """
    vectors, serving, found = demo.nonsense(tag), demo.calibration(tag), list[dict[str, Any]]()
    for draw in range(_HALVES):
        order = np.random.default_rng(draw).permutation(len(answers))
        half = fit(answers.select(order[1::2]), near)  # one of the two that `measure_error` fits
        nonsense = measure_rejected(demo.live.current, vectors, replace(serving, curves=half))
        found.append({**measure_error(answers.select(order), near), "nonsense": nonsense})
    means = {name: float(np.mean([each[name] for each in found])) for name in found[0] if name != "bins"}
    spread = {
        f"{name}_{which.__name__}": which(each[name] for each in found)
        for name in ("error", "kept", "nonsense")
        for which in (min, max)
    }
    first_right = float(answers.right[:, 0].mean())
    return {"language": tag, "first_right": first_right, **means, "captions": len(answers), **spread}


def measure_rejected(snapshot: Snapshot, vectors: Vectors, calibration: Calibration) -> float:
    """Return the share of searches of which no hit has a chance of `CUT`."""
    return float((find_first_hits(snapshot, vectors, calibration)[1] < CUT).mean())


def find_first_hits(
    snapshot: Snapshot, vectors: Vectors, calibration: Calibration, allowed: Sequence[VectorKeys] | None = None
) -> tuple[list[str], NDArray[np.float64]]:
    """Return the first hit of each search and its chance (n,)."""
    left = [None] * len(vectors) if allowed is None else allowed
    hits = [
        snapshot.search_pictures(vector, 1, allowed=keys, calibration=calibration)[0]
        for vector, keys in zip(vectors, left, strict=True)
    ]
    return [hit.picture for hit in hits], np.array([hit.match for hit in hits], dtype=np.float64)


def _measure_filtered(demo: Demo, tag: str, texts: CaptionQueries) -> Iterator[dict[str, Any]]:
    """Filter so that the meant pictures and others at random are left, and so that these are gone."""
    random, calibration = np.random.default_rng(0), demo.calibration(tag)
    keys = {id: place.key for id, place in demo.gallery.find_content_keys(demo.gallery.list_ids()).items()}
    for share in _LEFT:
        count = int(share * len(keys))
        others = [set(random.choice([*keys], count, replace=False).tolist()) - right for right in texts.right]
        with_own, without = (
            [np.array(sorted(keys[id] for id in left), dtype=np.int64) for left in each]
            for each in ([left | own for left, own in zip(others, texts.right, strict=True)], others)
        )
        found, chance = find_first_hits(demo.live.current, texts.vectors, calibration, with_own)
        right = np.array([picture in own for picture, own in zip(found, texts.right, strict=True)])
        _, absent = find_first_hits(demo.live.current, texts.vectors, calibration, without)
        yield {
            "language": tag,
            "left": count,
            "first_right": float(right.mean()),
            "error": compute_expected_error(chance, right),
            "kept": float((chance[right] >= CUT).mean()),
            "absent": float((absent < CUT).mean()),
        }


def _measure_few(answers: MatchSample, near: Curves) -> dict[str, float]:
    """Return the error where a language has few held-out captions, on the others; and by English's curves."""
    row = {"error_0": _measure_error(near, answers)}
    for count in _FEW:
        errors = []
        for draw in range(_DRAWS):
            chosen = np.zeros(len(answers), dtype=bool)
            chosen[np.random.default_rng(draw).permutation(len(answers))[:count]] = True
            errors.append(_measure_error(fit(answers.select(chosen), near), answers.select(~chosen)))
        row |= {f"error_{count}": float(np.mean(errors)), f"worst_{count}": max(errors)}
    return row


def _measure_error(curves: Curves, answers: MatchSample) -> float:
    return compute_expected_error(np.array([curves.compute_matches(z, z)[0] for z in answers.z]), answers.right[:, 0])


def _measure_cost(demo: Demo) -> dict[str, Any]:
    """Time a whole search, from text to hits, with chances and without, in turns: on the clock and of the processor.

    The latter counts where other work shares the machine.
    """
    tag = next(iter(demo.languages))
    calibration, captions = demo.calibration(tag), demo.captions(tag)
    took: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for number in range(2 * _TIMED + 2):
        begun, used = time.perf_counter(), time.process_time()
        (vector,) = demo.vectors(tag, captions[number : number + 1])
        demo.live.current.search_pictures(vector, 11, calibration=calibration if number % 2 else None)
        took[bool(number % 2)].append((time.perf_counter() - begun, time.process_time() - used))
    with_, cpu, without, cpu_without = [
        1_000 * median(each[kind] for each in took[side][1:]) for side in (True, False) for kind in (0, 1)
    ]
    return {
        "searches": _TIMED,
        "with_ms": with_,
        "without_ms": without,
        "ratio": with_ / without,
        "cpu_ms": cpu,
        "cpu_ratio": cpu / cpu_without,
    }


def _measure_grown(demo: Demo) -> list[dict[str, Any]]:
    """Measure among fewer pictures and judge among all, as in a gallery that grew, until it is renewed."""
    whole, vectors = demo.live.current, {tag: demo.nonsense(tag) for tag in demo.languages}
    described = {tag: demo.found(tag)[0] for tag in demo.languages}
    kept = {id for tag, texts in described.items() if tag != ENGLISH for id, _ in texts.pairs}
    others = np.random.default_rng(0).permutation([id for id in demo.gallery.list_ids() if id not in kept])
    rows = list[dict[str, Any]]()
    for count in SMALLER:
        left = max(0, count - len(kept))
        for id in others[left:]:
            demo.gallery.delete(str(id))
        others = others[:left]
        rows += _judge_languages(demo, whole, vectors)
    return rows


def _judge_languages(demo: Demo, whole: Snapshot, vectors: dict[str, Vectors]) -> Iterator[dict[str, Any]]:
    """Yield each language as measured now, on the half of its texts that was not fitted, among the `whole` gallery."""
    pictures = len(demo.gallery.list_ids())
    for tag in demo.languages:
        demo.measure(tag)
        near = demo.fitter().load_english_curves(tag)
        texts, answers, sample = demo.found(tag)
        chance, right, missed = np.empty(len(answers)), np.empty(len(answers), dtype=bool), list[float]()
        for half in (0, 1):
            judged = np.arange(len(answers)) % 2 == half
            early = Calibration(fit(answers.select(~judged), near), sample, pictures, 0)
            found, chance[judged] = find_first_hits(whole, texts.vectors[judged], early)
            own = [texts.right[place] for place in np.flatnonzero(judged)]
            right[judged] = [picture in ids for picture, ids in zip(found, own, strict=True)]
            missed.append(measure_rejected(whole, vectors[tag], early))
        yield {
            "language": tag,
            "pictures": pictures,
            "error": measure_error(answers, near)["error"],
            "grown_error": compute_expected_error(chance, right),
            "grown_kept": float((chance[right] >= CUT).mean()),
            "grown_nonsense": float(np.mean(missed)),
        }
