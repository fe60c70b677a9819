"""The gate: may this language be served, may the shared table move on to it. Pure decisions on a report's figures."""

from collections.abc import Mapping
from typing import Any

MAX_TRUNCATED = 0.05  # share of validation captions that the tokenizer may cut


def refusal(report: Mapping[str, Any], min_recall: float) -> str | None:
    """Why the language may not be served, in one sentence with the figures; None when it may."""
    if report["pairs"] == 0:
        return "no held-out caption could be asked"
    reached = report["t2i"]["R@10"]
    if reached < min_recall:
        return f"held-out t2i R@10 is {reached:.3f}, at least {min_recall:.3f} is needed"
    if report["truncated"] > MAX_TRUNCATED:
        return f"{report['truncated']:.1%} of the held-out captions are cut, at most {MAX_TRUNCATED:.0%} may be"
    return None


def forgotten(report: Mapping[str, Any]) -> float:
    """Mean loss of t2i R@1 over the earlier languages when the shared table moves; 0.0 when there is none."""
    languages = report["shared"]["languages"].values()
    losses = [figures["before"]["R@1"] - figures["after"]["R@1"] for figures in languages]
    return sum(losses) / len(losses) if losses else 0.0


def keeps_shared(report: Mapping[str, Any], budget: float) -> bool:
    """Whether the new shared table stays within the forgetting budget."""
    return forgotten(report) <= budget
