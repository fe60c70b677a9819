"""An expansion of kind `assess`: how well a language is read already, without teaching it. Makes no version."""

import math
from collections.abc import Mapping
from typing import Any

from model.languages import names
from store.errors import NothingHeldOut, VersionCorrupt
from worker.attempt import Attempt, TrainingContext, open_context
from worker.evaluate import described, measure
from worker.gate import floor
from worker.prepare import TrainingData, prepare
from worker.validation import candidates, held_out


def assess(attempt: Attempt) -> None:
    """Measure the held-out part of the dataset as it is read now, and end with the report."""
    with attempt.phase("prepare"):
        context = open_context(attempt)
        data = prepare(context, attempt.expansion)
    with attempt.phase("evaluate"):
        report = attempt.computed(f"evaluation/{data.language}.json", lambda: _measured(context, data))
    attempt.registry.expansions.succeed(attempt.lease, None, None, report)


def _measured(context: TrainingContext, data: TrainingData) -> dict[str, Any]:
    """The held-out captions as read by the base, by the shared table and, if it is taught, by the language's version.

    All among the same candidates. `base` names the base, so that the figures of another one are never taken for its.
    Raises `NothingHeldOut` when all that they describe was deleted meanwhile.
    """
    validation, base = held_out(context, data), context.encoder.base_view
    among = candidates(context, data, validation)
    by_version = {context.base: measure(context, base, validation, among)}
    if by_version[context.base] is None:
        raise NothingHeldOut("no held-out caption can be measured: the pictures that they describe were deleted")
    taught = context.attempt.registry.releases.serving().languages.get(data.language, context.base)
    for version in (context.parent, taught):
        if version not in by_version:
            try:
                by_version[version] = measure(context, context.views.of(version), validation, among)
            except VersionCorrupt:  # damaged: nothing serves these texts by it now
                continue

    def figures(version: int) -> dict[str, Any] | None:
        measured = by_version.get(version)
        return None if measured is None else {"version": version, **measured.figures}

    report: dict[str, Any] = {
        **described(base, validation, among, by_version[context.base]),
        "base": context.encoder.base_fingerprint,
        "version": context.base,
        "shared": figures(context.parent),
        "taught": figures(taught) if taught != context.base else None,
        "dataset": data.report.as_dict(),
    }
    return {**report, **judged(data.language, report, context.attempt.settings.min_recall)}


def judged(language: str, report: Mapping[str, Any], min_recall: float = 0.0) -> dict[str, Any]:
    """Whether the base reads the language as well as one has to be read to be served (`reads`), and a `sentence`.

    Of a recall within two standard errors of chance, 2 sqrt(chance (1 - chance) / captions), it says that the language
    is not read at all.
    """
    name, pairs, among = names(language).name, report["pairs"], report["candidates"]
    k, needed = floor(among, min_recall)
    chance, reached = min(1.0, k / among), report["t2i"][f"R@{k}"]
    fine = f"on {pairs} held-out captions; chance gives {_percent(chance)}"
    at_all = reached > chance + 2 * math.sqrt(chance * (1 - chance) / pairs)
    reads = at_all and reached >= needed
    if reads:
        said = f"This base already reads {name} at R@{k} {_percent(reached)} ({fine})."
    elif at_all:
        said = f"This base reads {name} a little: R@{k} is {_percent(reached)} ({fine})."
    else:
        said = f"This base does not read {name}: R@{k} is {_percent(reached)} ({fine})."
    if (taught := report["taught"]) is not None:
        said += f" Version {taught['version']}, which was taught, reads it at {_percent(taught['t2i'][f'R@{k}'])}."
    return {"reads": reads, "sentence": said}


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
