"""Fits the curves of `model.calibration` to what is known to be right, and measures their error. Reads nothing.

What a search for something absent scores is learned from the same texts, when the pictures most like theirs are taken
out. So no nonsense has to be invented, and no text encoded.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from model.calibration import RIVALS, Curves, Floats, finite

ABSENT = 0.12  # for each search of which the gallery has what is meant, so many of which it has nothing
CUT = 0.5  # the chance at which reports count what is kept
BINS = 10
# Where nothing is known: as in the demo, and wide, since another base may be far from it
GENERAL = Curves(5.0, 1.0, 0.2, 5.0, 4.0)
_WIDE = (1.0, 0.7, 1.0, 1.0, 2.0)  # standard deviations of log sharpness, log trust, lead, log steepness, threshold
_NEAR = (
    0.15,
    0.15,
    0.3,
    0.3,
    0.2,
)  # the same of a language around another one: with five texts no worse than with none
_STEPS = 100
_DRAWS = 100
_HIT = 3  # parameters, from the first on, that say which hit it is


@dataclass(frozen=True)
class Answers:
    """What n texts found: z (n, `RIVALS`) of the first hits and whether each is `right` (n, `RIVALS`).

    `absent` (n, `RIVALS`) is the z of what is found when what they mean is taken out.
    """

    z: Floats
    right: NDArray[np.bool_]
    absent: Floats

    def __len__(self) -> int:
        return len(self.z)

    def some(self, which: NDArray[np.bool_]) -> "Answers":
        """Those of some of the texts."""
        return Answers(self.z[which], self.right[which], self.absent[which])


def fit(answers: Answers, near: Curves | None = None) -> Curves:
    """The most likely curves: few texts move them little from those of a language like this one, if `near` is given.

    Whether what is meant is there is learned with the absent; then, with that curve as it is, which hit it is from the
    texts alone, so that their chances are right.
    """
    centre, spread = _parameters(near or GENERAL), torch.tensor(_NEAR if near else _WIDE, dtype=torch.double)
    z, right, absent = (torch.tensor(np.array(each, dtype=np.float64)) for each in _fields(answers))

    def loss(parameters: Tensor, weight: float) -> Tensor:
        chance = sum(_log_chances(parameters, z), torch.zeros(()))
        found = (right * chance + (1 - right) * _log_of_rest(chance)).sum()
        missed = _log_of_rest(sum(_log_chances(parameters, absent), torch.zeros(()))).sum()
        return 0.5 * (((parameters - centre) / spread) ** 2).sum() - found - weight * missed

    both = _least(lambda parameters: loss(parameters, ABSENT), centre)
    rest = _least(lambda hit: loss(torch.cat([hit, both[_HIT:]]), 0.0), both[:_HIT])
    curves = _curves(torch.cat([rest, both[_HIT:]]))
    return curves if finite(curves) else near or GENERAL


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


def _log_chances(parameters: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithms of both factors, (n, 1) and (n, `RIVALS`), as `Curves.matches` has them."""
    sharpness, trust, lead = parameters[0].exp(), parameters[1].exp(), parameters[2]
    steepness, threshold = parameters[3].exp(), parameters[4]
    weights = sharpness * (z - z[:, :1])
    mask = torch.full((RIVALS, RIVALS), 0.0, dtype=torch.double).fill_diagonal_(-math.inf)
    rivals = torch.logsumexp(weights[:, None, :] + mask, dim=2)
    return logsigmoid(steepness * (z[:, :1] - threshold)), logsigmoid(trust * (weights - rivals) + lead)


def _log_of_rest(log_chance: Tensor) -> Tensor:
    """log(1 - chance)."""
    return torch.log1p(-log_chance.exp().clamp(max=1 - 1e-12))


def _parameters(curves: Curves) -> Tensor:
    logs = [math.log(curves.sharpness), math.log(curves.trust), curves.lead, math.log(curves.steepness)]
    return torch.tensor([*logs, curves.threshold], dtype=torch.double)


def _curves(parameters: Tensor) -> Curves:
    sharpness, trust, lead, steepness, threshold = parameters.tolist()
    return Curves(math.exp(sharpness), math.exp(trust), lead, math.exp(steepness), threshold)
