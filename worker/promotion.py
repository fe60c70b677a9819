"""The gate: whether a language may be served, and the shared table move to it. Pure functions of figures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from model.evaluation import Gain, Recall
from model.languages import names
from store.errors import Failure

MAX_TRUNCATED = 0.05  # share of validation captions that the tokenizer may cut
FEW = 50  # candidates; below this, ten of them are more than a fifth, and only R@1 is informative
PROVING = 50  # held-out captions; fewer new ones, beside all earlier ones, prove neither a gain nor that there is none
_TELLING = 20  # held-out captions; where none of so many is read, it is not by chance
_FOREIGN = 0.2  # of what a version reads of its own captions: who reads less of others may not know their language

_FORCED = "use `--force` to serve it anyway"


class GateFailed(Failure):
    """The version reads too little, no better than what served, or loses too much; the sentence has the figures."""


def informative(candidates: int) -> tuple[int, ...]:
    """The K of the R@K whose mean the gate compares: the first place and the first ten, or among few the first alone.

    R@1 says little while a language is read badly, R@10 little once it is read well; their mean always says something.
    """
    return (1,) if candidates < FEW else (1, 10)


def gained(
    language: str,
    version: int,
    before: Mapping[str, Any],
    gain: Gain,
    ks: Sequence[int],
    *,
    slack: float | None = None,
    forced: bool = False,
) -> dict[str, Any]:
    """What a report says of the `gain` over `version`, which has read these captions so far, with recall `before`.

    It is of the mean of R@K over `ks`, and enough when it is more than its own standard error. With `slack`, it is
    enough that the captions are read no worse than by that much, and that some are read at all. `forced`: whether the
    language shall be served without.
    """
    what = " and ".join(f"R@{k}" for k in ks)
    as_well = slack is not None and not beyond(-gain.mean, slack)
    as_well = as_well and (gain.after > 0 or before["pairs"] < _TELLING)
    enough = gain.enough or as_well
    is_read = "read better than" if gain.enough else "read about as well as" if as_well else "not read better than"
    return {
        "version": version,
        "before": {name: before[name] for name in ("t2i", "i2t")},
        "mean": gain.mean,
        "error": gain.error,
        "enough": enough,
        "forced": forced and not enough,
        "sentence": (
            f"{names(language).name} is {is_read} by version {version}: "
            f"on the same {before['pairs']} held-out captions {what if len(ks) == 1 else f'the mean of {what}'} went "
            f"from {100 * gain.before:.1f} % to {100 * gain.after:.1f} % ({_points(gain.mean, gain.error)})"
        ),
    }


def retained(version: int, pairs: int, before: Recall, after: Recall, change: Gain, reads_now: float) -> dict[str, Any]:
    """What a report says of the `pairs` captions that earlier datasets of the language held out, as `version` reads
    them and as the new one does: both t2i recalls and the `change` of R@1.

    `reads_now` is the R@1 of `version` on the new captions. Where that is next to nothing, they may be of another
    language, and a `note` asks to look.
    """
    sentence = (
        f"Of the {pairs} captions that earlier datasets held out, version {version} finds "
        f"{100 * change.before:.1f} % at the first place, the new one {100 * change.after:.1f} % "
        f"({_points(change.mean, change.error)})"
    )
    low = f"Version {version} finds {100 * reads_now:.1f} % of the new captions: are they in the same language?"
    note = low if reads_now < _FOREIGN * change.before else None
    figures = {"before": before, "after": after, "pairs": pairs, "mean": change.mean, "error": change.error}
    return {"version": version, **figures, "sentence": sentence, "note": note}


def reason(report: Mapping[str, Any]) -> str:
    """Why the language is served, for the list of releases and the log: what it gains, and over which version."""
    gain = report.get("gain")
    return f"{_points(gain['mean'], gain['error'])} over version {gain['version']}" if gain else ""


def _points(mean: float, error: float) -> str:
    return f"{100 * mean:+.1f} ± {100 * error:.1f} points".replace("-", "−")


def beyond(lost: float, most: float) -> bool:
    """Whether more is lost than may be: two captions of forty are 0.05, which are both, but for rounding, equal."""
    return lost > most and not math.isclose(lost, most, rel_tol=1e-9, abs_tol=1e-9)


def objections(report: Mapping[str, Any], budget: float) -> dict[str, str]:
    """Why what serves the language now should go on, by the part of the report that says so; `forced` overrides these.

    `earlier`: it would lose more R@1 of what it was taught before than the forgetting budget, and than the error of
    that; `gain`: the new captions are read no better than they were.
    """
    found = {}
    earlier, gain = report.get("earlier"), report.get("gain")
    if earlier and beyond(-earlier["mean"], max(budget, earlier["error"])):
        found["earlier"] = f"{earlier['sentence']}; at most {100 * budget:.1f} points may be lost"
    if gain and not gain["enough"]:
        found["gain"] = gain["sentence"]
    return found


def gate(report: Mapping[str, Any], min_recall: float, budget: float, *, forced: bool) -> tuple[str, str] | None:
    """What refuses the language, and why: the `floor`, which nothing overrides, or the first of the objections."""
    if (low := refusal(report, min_recall)) is not None:
        return "floor", low
    for name, sentence in objections(report, budget).items():
        if not forced:
            return name, f"{sentence}; {_way_out(name, report)}"
    return None


def _way_out(objection: str, report: Mapping[str, Any]) -> str:
    if objection != "earlier":
        return _FORCED
    joined = report.get("joined") is not None
    return f"{'look whether the new captions contradict those' if joined else 'teach those as well'}; {_FORCED}"


def floor(candidates: int, min_recall: float) -> tuple[int, float]:
    """The K whose R@K is asked for among so many candidates, and the least that it has to be."""
    k = max(informative(candidates))
    chance = k / candidates  # without it anything passes on a small set: among ten candidates R@10 is always 1
    return k, chance + min_recall * (1 - chance) if min_recall else 0.0


def refusal(report: Mapping[str, Any], min_recall: float) -> str | None:
    """Why the language may not be served, in one sentence with the figures; None when it may.

    Recall must reach `min_recall` of the way from chance to 1; with 0.0, any will do.
    """
    if report["pairs"] == 0:
        return "no held-out caption could be measured"
    candidates = report["candidates"]
    k, needed = floor(candidates, min_recall)
    reached = report["t2i"][f"R@{k}"]
    if reached < needed:
        return f"held-out t2i R@{k} is {reached:.3f}, at least {needed:.3f} is needed among {candidates} candidates"
    if report["truncated"] > MAX_TRUNCATED:
        cut = f"{report['truncated']:.1%} of the held-out captions are too long for the model"
        return f"{cut}, at most {MAX_TRUNCATED:.0%} may be"
    return None


def forgotten(report: Mapping[str, Any]) -> dict[str, float]:
    """Mean and largest loss of t2i R@1 over the earlier languages when the shared table moves; 0.0 without any."""
    languages = report["shared"]["languages"].values()
    losses = [figures["before"]["R@1"] - figures["after"]["R@1"] for figures in languages] or [0.0]
    return {"mean_loss": sum(losses) / len(losses), "max_loss": max(losses)}


def keeps_shared(report: Mapping[str, Any], budget: float) -> bool:
    """Whether the new shared table keeps every earlier language within the forgetting budget.

    English alone may be unmeasured, where nothing is in English: the base goes on reading it.
    """
    unknown = set(report["shared"]["unmeasured"]) - {"en"}
    return not unknown and not beyond(forgotten(report)["max_loss"], budget)
