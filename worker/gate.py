"""The gate: whether a language may be served, and the shared table move to it. Pure functions of figures.

A version is served when its language is read not worse than by what serves it now, on all held-out captions, by more
than the error of that, and above the floor. `--force` overrides the first half.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from model.evaluation import Gain
from model.languages import find_names
from store.errors import Failure, format_count

MAX_TRUNCATED = 0.05  # share of validation captions that the tokenizer may cut
MOST_MISSED = 50  # texts that a report names
FEW = 50  # candidates; below this, ten of them are more than a fifth, and only R@1 is informative
# behind "captions", by what they are ranked against
CAPTION_KINDS = {
    "pictures": " of pictures",
    "english": " paired with English",
    "pivots": " paired with other texts",
    "words": " of single words",
}


class GateFailed(Failure):
    """The version reads too little, or worse than what served; or a move loses too much. The text has the figures."""


def choose_recall_ranks(candidates: int) -> tuple[int, ...]:
    """Choose the K of the R@K whose mean is compared: the first place and the first ten, or among few the first alone.

    R@1 says little while a language is read badly, R@10 little once it is read well; their mean always says something.
    """
    return (1,) if candidates < FEW else (1, 10)


def describe_gain(
    language: str,
    version: int,
    before: Mapping[str, Any],
    gain: Gain,
    ks: Sequence[int],
    *,
    forced: bool = False,
    kind: str = "",
) -> dict[str, Any]:
    """Describe the `gain` over `version`, which has read these captions so far, with recall `before`.

    It is of the mean of R@K over `ks`, and enough unless more than its own standard error was lost. `forced`: whether
    the language shall be served without it. `kind` says in words which captions these are.
    """
    what = ("" if len(ks) == 1 else "the mean of ") + " and ".join(f"R@{k}" for k in ks)
    enough = not is_more_than(-gain.mean, gain.error)
    is_read = "better than" if gain.is_beyond_error else "about as well as" if enough else "worse than"
    return {
        "version": version,
        "before": {name: before[name] for name in ("t2i", "i2t")},
        "mean": gain.mean,
        "error": gain.error,
        "enough": enough,
        "forced": forced and not enough,
        "sentence": (
            f"{find_names(language).name} is read {is_read} by version {version}: "
            f"on the same {before['pairs']} held-out captions{kind} {what} went from "
            f"{100 * gain.before:.1f} % to {100 * gain.after:.1f} % ({_format_points(gain.mean, gain.error)})"
        ),
    }


def describe_gain_briefly(report: Mapping[str, Any]) -> str:
    """Say what the language gains, and over which version, for the list of releases and the log."""
    gain = report.get("gain")
    return f"{_format_points(gain['mean'], gain['error'])} over version {gain['version']}" if gain else ""


def _format_points(mean: float, error: float) -> str:
    return f"{100 * mean:+.1f} ± {100 * error:.1f} points".replace("-", "−")


def is_more_than(loss: float, limit: float) -> bool:
    """Tell whether `loss` is more than `limit`, beyond rounding: 2 of 40 captions equal a limit of 0.05."""
    return loss > limit and not math.isclose(loss, limit, rel_tol=1e-9, abs_tol=1e-9)


def apply_gate(report: Mapping[str, Any], min_recall: float) -> tuple[str, str] | None:
    """Return what refuses the language, and why: the `floor`, which nothing overrides, or the `gain`, unless forced."""
    for each in (report, *report.get("others", ())):
        if (why := describe_floor_failure(each, min_recall)) is not None:
            return "floor", why if each is report else f"{why}, for captions{CAPTION_KINDS[each['against']]}"
    gain = report.get("gain")
    if gain and not (gain["enough"] or gain["forced"]):
        return "gain", f"{gain['sentence']}; use `--force` to serve it anyway"
    return None


def compute_floor(candidates: int, min_recall: float) -> tuple[int, float]:
    """Compute which R@K is looked at among so many candidates, and the least that it has to be."""
    k = max(choose_recall_ranks(candidates))
    chance = k / candidates  # without it anything passes on a small set: among ten candidates R@10 is always 1
    return k, chance + min_recall * (1 - chance) if min_recall else 0.0


def describe_in_sample(report: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the recall of what was taught, which says that it can be found, and nothing of other texts."""
    k, _ = compute_floor(report["candidates"], 0.0)
    return {
        **report,
        "sentence": (
            f"Recall of what was taught: of {format_count(report['pairs'], 'word')}, "
            f"{100 * report['t2i'][f'R@{k}']:.1f} % have their meaning among the first {k} of {report['candidates']:,}"
        ),
    }


def describe_test(
    against: str, texts: Sequence[str], ranks: Sequence[int], candidates: int
) -> dict[str, int | str | list[str]]:
    """Say how many held-out texts were found, as a teacher does, and name those that were not, fifty at most."""
    k = max(choose_recall_ranks(candidates))
    missed = [text for text, rank in zip(texts, ranks, strict=True) if rank >= k]
    what, found = "word" if against == "words" else "caption", len(texts) - len(missed)
    place = "first" if k == 1 else f"among the first {k}"
    sentence = f"Of {format_count(len(texts), f'test {what}')}, {found:,} {'is' if found == 1 else 'are'} found {place}"
    return {"asked": len(texts), "found": found, "missed": missed[:MOST_MISSED], "sentence": sentence}


def describe_floor_failure(report: Mapping[str, Any], min_recall: float) -> str | None:
    """Say why the language is below the floor, in one sentence with the figures; None when it is not.

    Recall must reach `min_recall` of the way from chance to 1; with 0.0, any will do.
    """
    what, report = ("taught", report["in_sample"]) if "in_sample" in report else ("held-out", report)
    if report["pairs"] == 0:
        return f"no {what} caption could be measured"
    candidates = report["candidates"]
    k, needed = compute_floor(candidates, min_recall)
    reached = report["t2i"][f"R@{k}"]
    if reached < needed:
        return f"{what} t2i R@{k} is {reached:.3f}, at least {needed:.3f} is needed among {candidates} candidates"
    if report["truncated"] > MAX_TRUNCATED:
        cut = f"{report['truncated']:.1%} of the {what} captions are too long for the model"
        return f"{cut}, at most {MAX_TRUNCATED:.0%} may be"
    return None


def describe_reading(language: str, report: Mapping[str, Any], min_recall: float = 0.0) -> dict[str, Any]:
    """Return whether the base reads the language well enough to be served (`reads`), and a `sentence` that says so.

    A recall within two standard errors of chance, 2 sqrt(chance (1 - chance) / captions), counts as not reading it.
    """
    name, pairs, candidates = find_names(language).name, report["pairs"], report["candidates"]
    k, needed = compute_floor(candidates, min_recall)
    chance, reached = min(1.0, k / candidates), report["t2i"][f"R@{k}"]
    basis = f"on {pairs} held-out captions; chance gives {_format_percent(chance)}"
    at_all = reached > chance + 2 * math.sqrt(chance * (1 - chance) / pairs)
    reads = at_all and reached >= needed
    little = f"reads {name} a little" if at_all else f"does not read {name}"
    said = f"already reads {name} at R@{k}" if reads else f"{little}: R@{k} is"
    sentence = f"This base {said} {_format_percent(reached)} ({basis})."
    if (taught := report["taught"]) is not None:
        recall = _format_percent(taught["t2i"][f"R@{k}"])
        sentence += f" Version {taught['version']}, which was taught, reads it at {recall}."
    return {"reads": reads, "sentence": sentence}


def _format_percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def measure_losses(report: Mapping[str, Any]) -> dict[str, float]:
    """Measure mean and largest loss of t2i R@1 over the earlier languages if `shared` moves; 0.0 without any."""
    languages = report["shared"]["languages"].values()
    losses = [figures["before"]["R@1"] - figures["after"]["R@1"] for figures in languages] or [0.0]
    return {"mean_loss": sum(losses) / len(losses), "max_loss": max(losses)}


def is_within_budget(report: Mapping[str, Any], budget: float) -> bool:
    """Tell whether the new shared table keeps every language that is in it within the forgetting budget.

    English alone may be unmeasured, where nothing is in English: the base goes on reading it.
    """
    unknown = set(report["shared"]["unmeasured"]) - {"en"}
    return not unknown and not is_more_than(measure_losses(report)["max_loss"], budget)
