"""An expansion from its first phase to its last, readable top to bottom. Each phase may be repeated after any crash."""

import logging
from dataclasses import replace
from typing import Any

from index.indexer import fill_captions
from model.table import View
from store import files
from store.errors import InvalidInput
from store.expansions import Expansion
from worker.assess import assess
from worker.attempt import Attempt
from worker.context import TrainingContext, open_context
from worker.making import make_version
from worker.move import move
from worker.prepare import TrainingData, prepare
from worker.promotion import GateFailed, forgotten, gate, keeps_shared, objections, reason

_log = logging.getLogger(__name__)


def run(attempt: Attempt) -> None:
    """Carry the expansion on from wherever earlier attempts left it; raises what ends it."""
    by_kind = {"learn": learn, "assess": assess, "rebuild": rebuild, "base": move}
    carry_out = by_kind[attempt.expansion.kind]
    carry_out(attempt)


def learn(attempt: Attempt) -> None:
    """Learn one language and serve it."""
    # an attempt died after its language was served: nothing can fail any more
    if attempt.expansion.release is not None:
        return _conclude(attempt, attempt.expansion.release)
    with attempt.phase("prepare"):
        context = open_context(attempt)
        data = prepare(context, *context.before, attempt.expansion)
    learned, version, report = make_version(context, data)
    budget, forced = attempt.settings.forgetting_budget, bool(attempt.expansion.settings.get("force"))
    if (refused := gate(report, attempt.settings.min_recall, budget, forced=forced)) is not None:
        name, why = refused
        asked = (report.get("earlier") or {}).get("note")
        raise GateFailed(f"{why}. {asked}" if asked else why, report={**report, "refused_by": name})
    with attempt.phase("encode"):
        _encode(context, data, context.encoder.extend(context.view, version.number, data.language, learned))
    with attempt.phase("promote"):
        release = attempt.registry.releases.promote(
            expansion=attempt.expansion.id,
            version=version.number,
            move_shared=keeps_shared(report, budget),
            fence=attempt.lease.fence,
            reason=reason(report),
            forced="; ".join(objections(report, budget).values()) or None,
        )
        files.fault_point("promote.committed")
        _conclude(attempt, release.number)


def _conclude(attempt: Attempt, release: int) -> None:
    """End with the report of the promoted version, and whether the shared table moved to it."""
    served = attempt.registry.releases.get(release)
    version = attempt.registry.versions.get(served.languages[attempt.expansion.language])
    report = _concluded(version.report, served.shared == version.number)
    attempt.registry.expansions.succeed(attempt.lease, version.number, release, report)
    said = (version.language, version.number, release, served.reason)
    _log.info("promoted %s: version %d, release %d, %s", *said, extra={"key": served.actor})


def rebuild(attempt: Attempt) -> None:
    """Train the shared table again, one after another, on the languages that a rollback took from it.

    Each is learned from the datasets that its version stands on, where the shared table lacks any of them, and goes on
    being served by that version; only `shared` moves. A language is left out that would cost the others more than the
    forgetting budget, or whose datasets have too few rows without the pictures deleted since, or pairs with a language
    that is served no more.
    """
    with attempt.phase("prepare"):
        context = open_context(attempt)
        replayed = _replayed(attempt, context.parent)
    made, reports, refused = None, {}, {}
    for number, expansions in enumerate(replayed):
        attempt.part = (number, len(replayed))
        with attempt.phase("prepare"):
            try:
                data = prepare(context, *expansions)
            except InvalidInput as error:
                if "kind" in error.extra:  # the file itself is missing, which ends the rebuild
                    raise
                refused[expansions[-1].language] = {"left_out": error.code, "detail": error.detail}
                continue
        learned, version, report = make_version(context, data)
        keeps = keeps_shared(report, attempt.settings.forgetting_budget)
        reports[data.language] = (report, keeps)
        if keeps:
            made = version
            view = context.encoder.extend(context.view, version.number, version.language, learned)
            context = replace(context, parent=version.number, view=view)
    with attempt.phase("promote"):
        release = attempt.registry.releases.serving()
        if made is not None:
            release = attempt.registry.releases.promote(
                expansion=attempt.expansion.id, version=made.number, move_shared=True, fence=attempt.lease.fence
            )
        moved = made is not None and release.shared == made.number
        languages = {language: _concluded(report, moved and keeps) for language, (report, keeps) in reports.items()}
        final = {"moved": moved, "languages": languages | refused}
        version_number = made.number if made else release.shared
        attempt.registry.expansions.succeed(attempt.lease, version_number, release.number, final)


def _replayed(attempt: Attempt, parent: int) -> list[list[Expansion]]:
    """By language to replay, in order, what its version stands on, unless `parent` has all of it; decided once."""
    versions = attempt.registry.versions

    def decide() -> list[list[str]]:
        served = attempt.registry.releases.serving().languages
        had = {source for version in versions.lineage(parent) for source in version.learned}
        numbers = [served[tag] for tag in attempt.expansion.settings["replay"] if tag in served]
        stood_on = (versions.get(number).learned for number in numbers)
        return [[*expansions] for expansions in stood_on if not had.issuperset(expansions)]

    expansions = attempt.registry.expansions
    return [[*map(expansions.get, sources)] for sources in attempt.decided("replayed.json", decide)]


def _encode(context: TrainingContext, data: TrainingData, view: View) -> None:
    """The captions of the language as its new version reads them, as one vector set beside those of older versions."""
    attempt, encoder = context.attempt, context.encoder
    rows = [(row.picture, row.caption) for row in data.fresh if row.picture is not None]
    context.gallery.add_captions(attempt.expansion.id, data.language, rows)
    fill_captions(encoder, view, attempt.sets, data.language, view.version, attempt.encoding(encoder))


def _concluded(report: dict[str, Any], moved: bool) -> dict[str, Any]:
    return {**report, "shared": {**report["shared"], "moved": moved, **forgotten(report)}}
