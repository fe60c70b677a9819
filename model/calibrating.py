"""Fits the curves of `model.calibration` to what is known to be right, and measures their error. Reads nothing.

What a search for something absent scores is learned from the same texts, when the pictures most like theirs are taken
out. So no nonsense has to be invented, and no text encoded.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from model.calibration import RIVALS, SCORES_LOW, Curves, Floats, finite

ABSENT = 0.35  # for each search of which the gallery has what is meant, so many of which it has nothing
CUT = 0.5  # the chance at which reports count what is kept
BINS = 10
# Where nothing is known: as in the demo, and wide, since another base may be far from it
GENERAL = Curves(sharpness=5.0, trust=1.0, lead=0.2, most=0.95, steepness=5.0, threshold=4.0, usual=0.1)
# Standard deviations of log sharpness, log trust, lead, log odds of most, log steepness, threshold
_WIDE = (1.0, 0.7, 1.0, 1.0, 1.0, 2.0)
_NEAR = (0.4, 0.3, 0.3, 0.7, 0.4, 0.15)  # of a language beside English: five texts are better than none
_STEPS = 100
_DRAWS = 100
_HIT = 4  # parameters, from the first on, that say which hit it is


@dataclass(frozen=True)
class Answers:
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

    def some(self, which: NDArray[Any]) -> "Answers":
        """Those of some of the texts, marked or by their numbers."""
        return replace(self, z=self.z[which], right=self.right[which], absent=self.absent[which])


def fit(answers: Answers, near: Curves | None = None) -> Curves:
    """The most likely curves; few texts move them little from general ones, or from those of English, `near` them.

    Whether what is meant is there is learned with the absent; then, with that curve as it is, which hit it is from the
    texts alone, so that their chances are right. What English tells of other languages is the first: what is not there
    scores alike in all. Its hits are surer than those of a language that was taught.
    """
    centre = torch.cat([_parameters(GENERAL)[:_HIT], _parameters(near or GENERAL)[_HIT:]])
    spread = torch.tensor(_NEAR if near else _WIDE, dtype=torch.double)
    z, right, absent = (torch.tensor(np.array(each, dtype=np.float64)) for each in _fields(answers))

    def loss(parameters: Tensor, weight: float, low: float) -> Tensor:
        chance = _log_chance(parameters, z, low)
        found = (right * chance + (1 - right) * _log_of_rest(chance)).sum()
        missed = _log_of_rest(_log_chance(parameters, absent, low)).sum() if weight else 0.0
        return 0.5 * (((parameters - centre) / spread) ** 2).sum() - found - weight * missed

    both = _least(lambda parameters: loss(parameters, ABSENT, 0.0), centre)  # what is absent has no chance at all
    rest = _least(lambda hit: loss(torch.cat([hit, both[_HIT:]]), 0.0, SCORES_LOW), both[:_HIT])
    curves = _curves(torch.cat([rest, both[_HIT:]]), answers.usual)
    return curves if finite(curves) else replace(near or GENERAL, usual=answers.usual)


def measured(answers: Answers, near: Curves | None = None) -> dict[str, Any]:
    """How far chances are off on texts that they were not fitted to: each half is judged by the curves of the other.

    `error` is the expected calibration error of the first hits, over `bins` of equal numbers, and `by_chance` what it
    would be on as many texts if every chance were right; `error_all` is that of the first `RIVALS` hits. At a chance of
    `CUT`: `kept` is the share of the right first hits, `found` of the texts that keep a right one at all, `absent` of
    the texts that keep nothing when what they mean is taken out.
    """
    chance, absent = np.empty(answers.z.shape), np.empty(answers.z.shape)
    for half in (0, 1):
        judged = np.arange(len(answers)) % 2 == half
        curves = fit(answers.some(~judged), near)
        chance[judged] = [curves.matches(z, z) for z in answers.z[judged]]
        absent[judged] = [curves.matches(z, z) for z in answers.absent[judged]]
    first, right = chance[:, 0], answers.right[:, 0]
    return {
        "captions": len(answers),
        "error": expected_error(first, right),
        "by_chance": _error_by_chance(first),
        "error_all": expected_error(chance.ravel(), answers.right.ravel()),
        "kept": float((first[right] >= CUT).mean()) if right.any() else None,
        "found": float((answers.right & (chance >= CUT)).any(axis=1).mean()),
        "absent": float((absent.max(axis=1) < CUT).mean()),
        "bins": reliability(first, right),
    }


def reliability(chance: Floats, right: NDArray[np.bool_]) -> list[dict[str, float]]:
    """At most `BINS` bins of equal numbers of hits: the mean `chance`, the share that is `right`, and the `count`."""
    parts = [part for part in np.array_split(np.argsort(chance, kind="stable"), BINS) if len(part)]
    return [
        {"chance": float(chance[part].mean()), "right": float(right[part].mean()), "count": len(part)} for part in parts
    ]


def expected_error(chance: Floats, right: NDArray[np.bool_]) -> float:
    """The mean difference between chance and share of right ones, over the bins of `reliability`."""
    bins = reliability(chance, right)
    return sum(each["count"] * abs(each["chance"] - each["right"]) for each in bins) / max(1, len(chance))


def _error_by_chance(chance: Floats) -> float:
    draws = np.random.default_rng(0).random((_DRAWS, len(chance)))
    return float(np.mean([expected_error(chance, draw < chance) for draw in draws]))


def _least(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """The parameters at which the loss is least."""
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


def _fields(answers: Answers) -> tuple[Floats, NDArray[np.bool_], Floats]:
    return answers.z, answers.right, answers.absent


def _log_chance(parameters: Tensor, z: Tensor, low: float) -> Tensor:
    """The logarithms (n, `RIVALS`) of chances as `Curves.matches` has them, with another `SCORES_LOW`."""
    sharpness, trust, lead, most = parameters[0].exp(), parameters[1].exp(), parameters[2], logsigmoid(parameters[3])
    steepness, threshold = parameters[4].exp(), parameters[5]
    weights = sharpness * (z - z[:, :1])
    mask = torch.full((RIVALS, RIVALS), 0.0, dtype=torch.double).fill_diagonal_(-math.inf)
    rivals = torch.logsumexp(weights[:, None, :] + mask, dim=2)
    there = low + (1 - low) * torch.sigmoid(steepness * (z[:, :1] - threshold))
    return there.clamp(min=1e-30).log() + most + logsigmoid(trust * (weights - rivals) + lead)


def _log_of_rest(log_chance: Tensor) -> Tensor:
    """log(1 - chance)."""
    return torch.log1p(-log_chance.exp().clamp(max=1 - 1e-12))


def _parameters(curves: Curves) -> Tensor:
    most = math.log(curves.most) - math.log1p(-min(curves.most, 1 - 1e-9))
    hit = [math.log(curves.sharpness), math.log(curves.trust), curves.lead, most]
    return torch.tensor([*hit, math.log(curves.steepness), curves.threshold], dtype=torch.double)


def _curves(parameters: Tensor, usual: float) -> Curves:
    sharpness, trust, lead, most, steepness, threshold = parameters.tolist()
    sure = 1 / (1 + math.exp(-most))
    return Curves(math.exp(sharpness), math.exp(trust), lead, sure, math.exp(steepness), threshold, usual)
