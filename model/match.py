"""The chance that a hit is what its text means: two curves over standardized scores, their fit and its error.

A score says little by itself: it differs by language, by base and by text. So scores are measured in standard
deviations of what the same text scores among a sample of pictures (z). The chance of a hit is then the product of two
logistic curves: that what is meant is there at all, by the z of the first hit; and that it is this hit, by its odds
against the first hits beside it. Neither is ever sure (decision 38).

What a search for something absent scores is learned from the same texts, when the pictures most like theirs are taken
out. So no nonsense has to be invented, and no text encoded.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

RIVALS = 10  # first hits, among which a hit is compared with the others
SCORES_LOW = 0.3  # chance that what is meant is there though it scores no better than what is not there
SAMPLE = 512  # pictures with which z is measured; with 128 the error is half as large again
LIKE = 0.025  # share of the pictures that count as like a text's own: without them the gallery has nothing of its kind
ABSENT = 0.35  # for each search of which the gallery has what is meant, so many of which it has nothing
# Of its chance, what is left of a text with a word for what its base does not know (`benchmarks.stamps chances`)
GUESSED = 0.7
CUT = 0.5  # the chance at which reports count what is kept
BINS = 10
_ORDINARY = 2_000  # pictures among which those like another are found
_NARROW = 1e-6  # least deviation
_LEAST = 1e-13  # weight of the rivals of a hit that has none
_FAR = 60.0  # log odds beyond which nothing changes
# Standard deviations of log sharpness, log trust, lead, log odds of most, log steepness, threshold
_WIDE = (1.0, 0.7, 1.0, 1.0, 1.0, 2.0)
_NEAR = (0.4, 0.3, 0.3, 0.7, 0.4, 0.15)  # of a language beside English: five texts are better than none
_STEPS = 100
_DRAWS = 100
_HIT = 4  # parameters, from the first on, that say which hit it is
Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]  # (n, dimension)
Number = TypeVar("Number", float, Floats)


@dataclass(frozen=True)
class Curves:
    """The two curves. `sharpness`: how much weight a standard deviation gives one hit over another.

    The chance that it is this hit, with `odds` against its rivals: `most` times the logistic of `trust` log(odds) +
    `lead`; some captions say something else than their picture shows, whatever their odds. That what is meant is there:
    from `SCORES_LOW` to 1 by the logistic of `steepness` (z of the first hit - `threshold`). All but `lead` and
    `threshold` are above 0, so no hit has a higher chance than one before it.

    `usual` is the standard deviation that texts of the language have on average.
    """

    sharpness: float
    trust: float
    lead: float
    most: float
    steepness: float
    threshold: float
    usual: float

    def compute_matches(self, first: Floats, z: Floats) -> Floats:
        """Return the chance (n,) of hits with these `z` (n,) in an answer whose first hits have `first`.

        Hits come in order of their scores; the n may be any of the answer, such as those of a later page.
        """
        count = len(first)
        if not count:
            return np.zeros(len(z))
        weights = np.exp(self.sharpness * (first - first[0]))
        rivals = _make_rival_matrix(count) @ weights
        place = np.searchsorted(-first, -z)
        among_first = first[np.minimum(place, count - 1)] == z
        of_rivals = np.where(among_first, rivals[place], rivals[count])
        odds = self.sharpness * (z - first[0]) - np.log(np.maximum(of_rivals, _LEAST))
        sure = 1 / (1 + math.exp(min(-self.steepness * (float(first[0]) - self.threshold), _FAR)))
        presence = SCORES_LOW + (1 - SCORES_LOW) * sure
        chances: Floats = self.most * presence / (1 + np.exp(np.minimum(-self.trust * odds - self.lead, _FAR)))
        return chances


# Where nothing is known: as in the demo, and wide, since another base may be far from it
GENERAL = Curves(sharpness=5.0, trust=1.0, lead=0.2, most=0.95, steepness=5.0, threshold=4.0, usual=0.1)


@dataclass(frozen=True)
class Calibration:
    """The curves of one language as one version reads it, and the sample (n, dimension) that z is measured with."""

    curves: Curves
    sample: Vectors
    pictures: int  # among which it was fitted
    change: int  # of the gallery, when it was
    share: float = 1.0  # of each chance, that is left

    def compute_matches(
        self, query: NDArray[np.float32], first: Sequence[float], scores: Sequence[float]
    ) -> list[float]:
        """Compute the chance of hits with these `scores` to a text's unit vector; its first hits score `first`."""
        baseline = self.sample @ query
        mean = float(baseline.sum()) / len(baseline)
        # what `compute_score_statistics` does, for one text
        variance = float(baseline @ baseline) / len(baseline) - mean * mean
        deviation = blend_deviations(math.sqrt(max(variance, _NARROW * _NARROW)), self.curves.usual)
        z = (np.array([*first[:RIVALS], *scores]) - mean) / deviation
        count = len(z) - len(scores)
        chances: list[float] = (self.share * self.curves.compute_matches(z[:count], z[count:])).round(4).tolist()
        return chances

    def is_valid_at(self, change: int) -> bool:
        """Return whether chances are right at this change of the gallery: it may have doubled since it was fitted."""
        return change - self.change <= self.pictures

    def is_valid_among(self, pictures: int) -> bool:
        """Return whether chances are right among so many pictures: at least half of those that they were fitted on."""
        return 2 * pictures >= self.pictures


def compute_score_statistics(queries: Vectors, sample: Vectors) -> tuple[Floats, Floats]:
    """Return mean (n,) and standard deviation (n,) of what each query (n, dimension) scores among the sample."""
    scores = (queries @ sample.T).astype(np.float64)
    return scores.mean(axis=1), np.maximum(scores.std(axis=1), _NARROW)


def blend_deviations(own: Number, usual: float) -> Number:
    """Return the deviation for z: halfway to the usual one, since 512 pictures tell a text's own roughly."""
    return (own + usual) / 2


@cache
def _make_rival_matrix(count: int) -> Floats:
    """Return a matrix (count + 1, count): row i marks the rivals of hit i, the last those of any later hit."""
    return np.vstack([1 - np.eye(count), np.ones(count)])


# --- what texts find --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MatchSample:
    """What n texts found: z (n, `RIVALS`) of the first hits and whether each is `right` (n, `RIVALS`).

    `absent` (n, `RIVALS`) is the z of what is found when what they mean is taken out. `usual` is the standard deviation
    of the scores of such texts that z is measured with.
    """

    z: Floats
    right: NDArray[np.bool_]
    absent: Floats
    usual: float

    def __len__(self) -> int:
        return len(self.z)

    def select(self, which: NDArray[Any]) -> "MatchSample":
        """Return the answers of some of the texts, marked or by their numbers."""
        return replace(self, z=self.z[which], right=self.right[which], absent=self.absent[which])


def search_gallery(
    texts: Vectors, own: Vectors, right: Sequence[set[str]], pictures: Callable[[], Iterable[Mapping[str, Any]]]
) -> MatchSample:
    """Find what texts (n, dimension) find among all pictures, with and without those like their `own` (n, dimension).

    `right` are the ids of the pictures that each text means. `pictures` gives the vectors of all by id, some at a time,
    in a random order that is the same each time.
    """
    sample = take_first(pictures(), _ORDINARY)
    least_alike = np.quantile(own @ sample.T, 1 - LIKE, axis=1)[:, None]
    best = np.full((len(right), RIVALS), -np.inf)
    is_right, absent = np.zeros(best.shape, dtype=bool), best.copy()
    for part in pictures():
        if part:
            vectors, marks = np.stack([*part.values()]), _mark_right(right, [*part])
            scores = texts @ vectors.T  # (texts, pictures of this part)
            best, is_right = _take_best(np.hstack([best, scores]), np.hstack([is_right, marks]))
            unlike = np.where((own @ vectors.T >= least_alike) | marks, -np.inf, scores)
            absent, _ = _take_best(np.hstack([absent, unlike]), np.hstack([is_right, marks]))
    mean, deviation = (each[:, None] for each in compute_score_statistics(texts, sample[:SAMPLE]))
    usual = float(deviation.mean())
    deviation = blend_deviations(deviation, usual)
    return MatchSample((best - mean) / deviation, is_right, (absent - mean) / deviation, usual)


def read_alike(known: Vectors, texts: Vectors, meanings: Vectors) -> Vectors:
    """Return unit vectors of n texts that are read well, `known` (n, dimension), as they would be read in a language.

    Of that, only some `texts` (m, dimension) and what they mean, `meanings`, are known: each of the n goes as far from
    its own meaning, and the same way, as one of these (decision 38).
    """
    drawn = np.random.default_rng(0).integers(0, len(texts), len(known))
    texts, meanings = texts[drawn], meanings[drawn]
    cosine = (texts * meanings).sum(axis=1, keepdims=True)
    away = texts - cosine * meanings
    away -= (away * known).sum(axis=1, keepdims=True) * known  # at a right angle to what it means
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), _NARROW)
    read: Vectors = cosine * known + np.sqrt(np.maximum(0.0, 1.0 - cosine**2)) * away
    return read


def take_first(pictures: Iterable[Mapping[str, Any]], count: int = SAMPLE) -> Vectors:
    """Return the vectors (count, dimension) of the first pictures, or of all where there are fewer."""
    vectors: list[Any] = []
    for part in pictures:
        vectors += part.values()
        if len(vectors) >= count:
            break
    return np.stack(vectors[:count]) if vectors else np.empty((0, 0), dtype=np.float32)


def _take_best(scores: NDArray[Any], marks: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the `RIVALS` highest scores of each row, falling, and their marks."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :RIVALS]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(marks, order, axis=1)


def _mark_right(right: Sequence[set[str]], pictures: Collection[str]) -> NDArray[np.bool_]:
    """Mark which of the pictures are right for which text (texts, pictures)."""
    places = {picture: place for place, picture in enumerate(pictures)}
    marks = np.zeros((len(right), len(places)), dtype=bool)
    for row, ids in enumerate(right):
        marks[row, [places[id] for id in ids if id in places]] = True
    return marks


# --- the fit, and how far it is off -----------------------------------------------------------------------------------


def fit(answers: MatchSample, near: Curves | None = None) -> Curves:
    """Fit the most likely curves; few texts move them little from general ones, or from `near`, those of English."""
    centre = torch.cat([_make_parameters(GENERAL)[:_HIT], _make_parameters(near or GENERAL)[_HIT:]])
    spread = torch.tensor(_NEAR if near else _WIDE, dtype=torch.double)
    fields = answers.z, answers.right, answers.absent
    z, right, absent = (torch.tensor(np.array(each, dtype=np.float64)) for each in fields)

    def compute(parameters: Tensor, weight: float, low: float) -> Tensor:
        chance = _compute_log_chance(parameters, z, low)
        found = (right * chance + (1 - right) * _compute_log_rest(chance)).sum()
        missed = _compute_log_rest(_compute_log_chance(parameters, absent, low)).sum() if weight else 0.0
        return 0.5 * (((parameters - centre) / spread) ** 2).sum() - found - weight * missed

    both = _minimize(lambda parameters: compute(parameters, ABSENT, 0.0), centre)  # what is absent has no chance at all
    rest = _minimize(lambda hit: compute(torch.cat([hit, both[_HIT:]]), 0.0, SCORES_LOW), both[:_HIT])
    sharpness, trust, lead, most, steepness, threshold = torch.cat([rest, both[_HIT:]]).tolist()
    sure = 1 / (1 + math.exp(-most))
    curves = Curves(math.exp(sharpness), math.exp(trust), lead, sure, math.exp(steepness), threshold, answers.usual)
    return curves if np.isfinite(astuple(curves)).all() else replace(near or GENERAL, usual=answers.usual)


def measure_error(answers: MatchSample, near: Curves | None = None) -> dict[str, Any]:
    """Measure how far chances are off on texts that they were not fitted to: judge each half by the other's curves.

    `error` is the expected calibration error of the first hits, over `bins` of equal numbers, and `by_chance` what it
    would be on as many texts if every chance were right; `error_all` is that of the first `RIVALS` hits. At a chance of
    `CUT`: `kept` is the share of the right first hits, `found` of the texts that keep a right one at all, `absent` of
    the texts that keep nothing when what they mean is taken out.
    """
    chance, absent = np.empty(answers.z.shape), np.empty(answers.z.shape)
    for half in (0, 1):
        judged = np.arange(len(answers)) % 2 == half
        curves = fit(answers.select(~judged), near)
        chance[judged] = [curves.compute_matches(z, z) for z in answers.z[judged]]
        absent[judged] = [curves.compute_matches(z, z) for z in answers.absent[judged]]
    first, right = chance[:, 0], answers.right[:, 0]
    draws = np.random.default_rng(0).random((_DRAWS, len(first)))
    return {
        "captions": len(answers),
        "error": compute_expected_error(first, right),
        "by_chance": float(np.mean([compute_expected_error(first, draw < first) for draw in draws])),
        "error_all": compute_expected_error(chance.ravel(), answers.right.ravel()),
        "kept": float((first[right] >= CUT).mean()) if right.any() else None,
        "found": float((answers.right & (chance >= CUT)).any(axis=1).mean()),
        "absent": float((absent.max(axis=1) < CUT).mean()),
        "bins": compute_reliability(first, right),
    }


def compute_reliability(chance: Floats, right: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Return at most `BINS` bins of equal numbers of hits: mean `chance`, share that is `right`, and `count`."""
    parts = [part for part in np.array_split(np.argsort(chance, kind="stable"), BINS) if len(part)]
    return [
        {"chance": float(chance[part].mean()), "right": float(right[part].mean()), "count": len(part)} for part in parts
    ]


def compute_expected_error(chance: Floats, right: NDArray[np.bool_]) -> float:
    """Return the mean difference between chance and share of right ones, over the bins of `compute_reliability`."""
    bins = compute_reliability(chance, right)
    return sum(each["count"] * abs(each["chance"] - each["right"]) for each in bins) / max(1, len(chance))


def _minimize(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    parameters = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([parameters], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        optimizer.zero_grad()
        value = loss(parameters)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(step)  # type: ignore[no-untyped-call]
    return parameters.detach()


def _compute_log_chance(parameters: Tensor, z: Tensor, low: float) -> Tensor:
    """Return the logarithms (n, `RIVALS`) of `Curves.compute_matches`, with another `SCORES_LOW`."""
    sharpness, trust, lead, most = parameters[0].exp(), parameters[1].exp(), parameters[2], logsigmoid(parameters[3])
    steepness, threshold = parameters[4].exp(), parameters[5]
    weights = sharpness * (z - z[:, :1])
    mask = torch.full((RIVALS, RIVALS), 0.0, dtype=torch.double).fill_diagonal_(-math.inf)
    rivals = torch.logsumexp(weights[:, None, :] + mask, dim=2)
    presence = low + (1 - low) * torch.sigmoid(steepness * (z[:, :1] - threshold))
    return presence.clamp(min=1e-30).log() + most + logsigmoid(trust * (weights - rivals) + lead)


def _compute_log_rest(log_chance: Tensor) -> Tensor:
    return torch.log1p(-log_chance.exp().clamp(max=1 - 1e-12))


def _make_parameters(curves: Curves) -> Tensor:
    most = math.log(curves.most) - math.log1p(-min(curves.most, 1 - 1e-9))
    hit = [math.log(curves.sharpness), math.log(curves.trust), curves.lead, most]
    return torch.tensor([*hit, math.log(curves.steepness), curves.threshold], dtype=torch.double)
