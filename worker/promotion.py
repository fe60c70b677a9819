"""The gate: whether a language may be served, and the shared table move to it. Pure functions of a report."""

from collections.abc import Mapping
from typing import Any

from model.errors import Failure

MAX_TRUNCATED = 0.05  # share of validation captions that the tokenizer may cut
FEW = 50  # candidates; below this, ten of them are more than a fifth, and only R@1 is informative


class GateFailed(Failure):
    """The new language is not good enough to serve."""

    code, title = "gate_failed", "Promotion gate failed"


def refusal(report: Mapping[str, Any], min_recall: float) -> str | None:
    """Why the language may not be served, in one sentence with the figures; None when it may.

    Recall must reach `min_recall` of the way from chance to 1; with 0.0, any will do.
    """
    if report["pairs"] == 0:
        return "no held-out caption could be measured"
    candidates = report["candidates"]
    k = 1 if candidates < FEW else 10
    chance = k / candidates  # without it anything passes on a small set: among ten candidates R@10 is always 1
    needed = chance + min_recall * (1 - chance) if min_recall else 0.0
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

    English alone may be unmeasured, where nothing is in English: version 0 goes on reading it.
    """
    unknown = set(report["shared"]["unmeasured"]) - {"en"}
    return not unknown and forgotten(report)["max_loss"] <= budget
