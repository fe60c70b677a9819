"""A language from its dataset to a release, read from top to bottom; each phase may be repeated after any crash.

A rebuild of the shared table and a move to another base make versions in the same way.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

import torch

from index.indexer import fill_captions
from model import version as versions
from model.objectives import NONE, Corpus
from model.training import Interrupted, LearnSettings, Progress, Trainer
from model.version import Learned
from store import files
from store.errors import InvalidInput
from store.expansions import Expansion
from store.versions import Version
from worker.attempt import Attempt, Stopped, TrainingContext, open_context
from worker.evaluate import evaluate
from worker.gate import GateFailed, gate, keeps_shared, measure_losses, reason
from worker.prepare import TrainingData, prepare

_LOOK = 10  # steps between looks for a new checkpoint
_log = logging.getLogger(__name__)


def learn(attempt: Attempt) -> None:
    """Learn one language and serve it."""
    # an attempt died after its language was served: nothing can fail any more
    if attempt.expansion.release is not None:
        return _conclude(attempt, attempt.expansion.release)
    with attempt.phase("prepare"):
        context = open_context(attempt)
        data = prepare(context, *context.before, attempt.expansion)
    learned, version, report = make_version(context, data)
    if (refused := gate(report, attempt.settings.min_recall)) is not None:
        name, why = refused
        raise GateFailed(why, report={**report, "refused_by": name})
    with attempt.phase("encode"):
        # the captions as the new version reads them: one vector set beside those of older versions
        view = context.encoder.extend(context.view, version.number, data.language, learned)
        rows = [(row.picture, row.caption) for row in data.fresh if row.picture is not None]
        context.gallery.add_captions(attempt.expansion.id, data.language, rows)
        on_progress = attempt.encoding(context.encoder)
        fill_captions(context.encoder, view, attempt.sets, data.language, view.version, on_progress)
    with attempt.phase("promote"):
        gain = report.get("gain") or {}
        release = attempt.registry.releases.promote(
            expansion=attempt.expansion.id,
            version=version.number,
            move_shared=keeps_shared(report, attempt.settings.forgetting_budget),
            fence=attempt.lease.fence,
            reason=reason(report),
            forced=gain["sentence"] if gain.get("forced") else None,
        )
        files.pass_fault_point("promote.committed")
        _conclude(attempt, release.number)


def make_version(context: TrainingContext, data: TrainingData) -> tuple[Learned, Version, dict[str, Any]]:
    """Train, evaluate and package: what was learned, the registered version, and its report."""
    attempt = context.attempt
    with attempt.phase("train"):
        learned = _train(context, data)
    with attempt.phase("evaluate"):
        view = context.encoder.extend(context.view, context.parent, data.language, learned)
        report = evaluate(context, data, view, learned)
    with attempt.phase("package"):
        version = _package(context, data, learned, report)
        # what is registered is what serves, and an earlier attempt may have written it: from here on only that is used
        learned, _ = versions.read(attempt.root.locate(str(version.folder)), version.manifest_sha256)
    return learned, version, report


def _train(context: TrainingContext, data: TrainingData) -> Learned:
    """Learn the language on top of the parent, from the newest checkpoint on, or read what was written already."""
    attempt = context.attempt
    written = attempt.root.open(_folder(context, data))
    if written.exists():  # an attempt that died after its training, here or on another machine
        return versions.read(written)[0]
    checkpoints = attempt.folder / "checkpoints" / data.language
    seen = {path.name for path in checkpoints.glob("step-*")}

    def on_step(progress: Progress) -> bool:
        if progress.step % _LOOK == 0 and (new := {path.name for path in checkpoints.glob("step-*")} - seen):
            seen.update(new)
            attempt.saved()
        attempt.step(progress.step, progress.steps)
        return attempt.stop.is_set()

    corpus = tensors(data, context.base)
    try:
        return Trainer(context.encoder, context.view, corpus, checkpoints, _settings(data)).learn(on_step)
    except Interrupted as error:
        raise Stopped from error


def tensors(data: TrainingData, base: int) -> Corpus:
    """Return the training rows as tensors; `base` is the version that the base is."""
    rows = data.trained
    features = torch.cat([data.features, torch.full((1, data.pictures.shape[1]), math.nan)])
    places = [-1 if row.pivot is None else data.texts[row.pivot] for row in rows]  # -1: the row of NaN
    owner = [NONE if row.picture is None else data.picture_ids[row.picture] for row in rows]
    captions = [row.caption for row in rows]
    # only what the base itself reads can be laid beside its own tokens
    by_base = {language for language, number in data.pivots.items() if number == base}
    texts = [row.pivot.text if row.pivot and row.pivot.language in by_base else None for row in rows]
    return Corpus(data.language, captions, features[torch.tensor(places)], data.pictures, torch.tensor(owner), texts)


def _package(context: TrainingContext, data: TrainingData, learned: Learned, report: Mapping[str, Any]) -> Version:
    """Write the version and register it; the same expansion and language give the same version again."""
    attempt = context.attempt
    settings = _settings(data).settled(len(data.trained), context.view.tokenizer.begins)
    name = _folder(context, data)
    folder = attempt.root.locate(name)
    facts = {
        "expansion": attempt.expansion.id,
        "language": data.language,
        "parent": context.parent,
        "text_fingerprint": context.encoder.base_fingerprint,
        "datasets_sha256": [expansion.dataset_sha256 for expansion in data.taught],
        "tokenizer_sha256": learned.tokenizer_sha256,
        "settings": asdict(settings),
        "bfloat16": settings.uses_bfloat16(context.encoder.base.device),
    }
    written_before = folder.exists()
    versions.write(folder, learned, facts)
    attempt.root.commit(name)  # if another machine committed first, its version is used
    if not written_before:
        attempt.saved()
    return attempt.registry.versions.add(
        expansion=attempt.expansion.id,
        parent=context.parent,
        language=data.language,
        folder=name,
        manifest_sha256=files.hash_file(folder / files.MANIFEST),
        rows=len(learned.rows.ids),
        bytes=sum(file.stat().st_size for file in folder.iterdir()),
        report=dict(report),
        fence=attempt.lease.fence,
        datasets=[expansion.id for expansion in data.taught],
    )


def _settings(data: TrainingData) -> LearnSettings:
    known = {field.name for field in fields(LearnSettings)}
    return LearnSettings(**{name: value for name, value in data.expansion.settings.items() if name in known})


def _folder(context: TrainingContext, data: TrainingData) -> str:
    """Name the folder of the version that this expansion makes of the language."""
    expansion = context.attempt.expansion
    name = expansion.id if expansion.kind == "learn" else f"{expansion.id}-{data.language}"
    return f"versions/{name}"


def _conclude(attempt: Attempt, release: int) -> None:
    """End with the report of the promoted version, and whether the shared table moved to it."""
    served = attempt.registry.releases.get(release)
    version = attempt.registry.versions.get(served.languages[attempt.expansion.language])
    report = _final_report(version.report, served.shared == version.number)
    attempt.registry.expansions.succeed(attempt.lease, version.number, release, report)
    said = (version.language, version.number, release, served.reason)
    _log.info("promoted %s: version %d, release %d, %s", *said, extra={"key": served.actor})


def _final_report(report: dict[str, Any], moved: bool) -> dict[str, Any]:
    return {**report, "shared": {**report["shared"], "moved": moved, **measure_losses(report)}}


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
        release = attempt.registry.releases.get_serving()
        if made is not None:
            release = attempt.registry.releases.promote(
                expansion=attempt.expansion.id, version=made.number, move_shared=True, fence=attempt.lease.fence
            )
        moved = made is not None and release.shared == made.number
        languages = {language: _final_report(report, moved and keeps) for language, (report, keeps) in reports.items()}
        final = {"moved": moved, "languages": languages | refused}
        version_number = made.number if made else release.shared
        attempt.registry.expansions.succeed(attempt.lease, version_number, release.number, final)


def _replayed(attempt: Attempt, parent: int) -> list[list[Expansion]]:
    """Return by language to replay, in order, what its version stands on, unless `parent` has it; decided once."""
    registry = attempt.registry

    def decide() -> list[list[str]]:
        served = registry.releases.get_serving().languages
        had = {source for version in registry.versions.trace_lineage(parent) for source in version.dataset_expansions}
        numbers = [served[tag] for tag in attempt.expansion.settings["replay"] if tag in served]
        stood_on = (registry.versions.get(number).dataset_expansions for number in numbers)
        return [[*expansions] for expansions in stood_on if not had.issuperset(expansions)]

    return [[*map(registry.expansions.get, sources)] for sources in attempt.decided("replayed.json", decide)]
