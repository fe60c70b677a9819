"""Fits the curves of `model.calibration` to what is known to be right, and measures their error. Reads nothing.

What a search for something absent scores is learned from the same texts, when the pictures most like theirs are taken
out. So no nonsense has to be invented, and no text encoded.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from model.calibration import RIVALS, Curves, Floats, finite

ABSENT = 0.2  # for each search of which the gallery has what is meant, so many of which it has nothing
CUT = 0.5  # the chance at which reports count what is kept
BINS = 10
# Where nothing is known: as in the demo, and wide, since another base may be far from it
GENERAL = Curves(5.0, 1.0, 0.2, 5.0, 4.0)
_WIDE = (1.0, 0.7, 1.0, 1.0, 2.0)  # standard deviations of log sharpness, log trust, lead, log steepness, threshold
_NEAR = (0.3, 0.3, 0.5, 0.5, 0.5)  # the same of a language around another one, as the demo's languages are
_STEPS = 100


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
    """The most likely curves: few texts move them little from those of a language like this one, if `near` is given."""
    centre, spread = _parameters(near or GENERAL), torch.tensor(_NEAR if near else _WIDE, dtype=torch.double)
    z, right, absent = (torch.from_numpy(np.asarray(each, dtype=np.float64)) for each in _fields(answers))
    with torch.enable_grad():
        parameters = centre.clone().requires_grad_()
        optimizer = torch.optim.LBFGS([parameters], max_iter=_STEPS, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            there, here = _log_chances(parameters, z)
            chance = there + here
            found = -(right * chance + (1 - right) * _log_of_rest(chance)).sum()
            missed = -_log_of_rest(sum(_log_chances(parameters, absent), torch.zeros(()))).sum()
            total = found + ABSENT * missed + 0.5 * (((parameters - centre) / spread) ** 2).sum()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimizer.step(loss)  # type: ignore[no-untyped-call]
    curves = _curves(parameters.detach())
    return curves if finite(curves) else near or GENERAL


def measured(answers: Answers, near: Curves | None = None) -> dict[str, Any]:
    """How far chances are off on texts that they were not fitted to: each half is judged by the curves of the other.

    `error` is the expected calibration error of the first hits, over `bins` of equal numbers; `error_all` that of the
    first `RIVALS`. At a chance of `CUT`: `kept` is the share of the right first hits, `found` of the texts that keep a
    right one at all, `absent` of the texts that keep nothing when what they mean is taken out.
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
