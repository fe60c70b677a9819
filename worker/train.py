"""Phases `train` and `package`: from a dataset to a version on disk and in the registry. Decides nothing on serving."""

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import torch

from model import version
from model.objectives import NONE, Corpus
from model.training import Interrupted, LearnSettings, Progress, Trainer
from model.version import Learned
from store import files
from store.versions import Version
from worker.attempt import Stopped
from worker.context import TrainingContext
from worker.prepare import TrainingData

_LOOK = 10  # steps between looks for a new checkpoint


def train(context: TrainingContext, data: TrainingData) -> Learned:
    """Learn the language on top of the parent, from the newest checkpoint on, or read what was written already."""
    attempt = context.attempt
    written = attempt.root.open(_folder(context, data))
    if written.exists():  # an attempt that died after its training, here or on another machine
        return version.read(written)[0]
    checkpoints = attempt.folder / "checkpoints" / data.language
    seen = {path.name for path in checkpoints.glob("step-*")}

    def on_step(progress: Progress) -> bool:
        if progress.step % _LOOK == 0 and (new := {path.name for path in checkpoints.glob("step-*")} - seen):
            seen.update(new)
            attempt.saved()
        attempt.step(progress.step, progress.steps)
        return attempt.stop.is_set()

    try:
        learned_from = corpus(data, context.base)
        return Trainer(context.encoder, context.view, learned_from, checkpoints, _settings(data)).learn(on_step)
    except Interrupted as error:
        raise Stopped from error


def corpus(data: TrainingData, base: int) -> Corpus:
    """The training rows as tensors; `base` is the version that the base is."""
    rows = data.trained
    features = torch.cat([data.features, torch.full((1, data.pictures.shape[1]), math.nan)])
    places = [-1 if row.pivot is None else data.texts[row.pivot] for row in rows]  # -1: the row of NaN
    owner = [NONE if row.picture is None else data.picture_ids[row.picture] for row in rows]
    captions = [row.caption for row in rows]
    # only what the base itself reads can be laid beside its own tokens
    by_base = {language for language, number in data.pivots.items() if number == base}
    texts = [row.pivot.text if row.pivot and row.pivot.language in by_base else None for row in rows]
    return Corpus(data.language, captions, features[torch.tensor(places)], data.pictures, torch.tensor(owner), texts)


def package(context: TrainingContext, data: TrainingData, learned: Learned, report: Mapping[str, Any]) -> Version:
    """Write the version and register it; the same expansion and language give the same version again."""
    attempt = context.attempt
    settings = _settings(data).settled(len(data.trained), context.view.tokenizer.begins)
    name = _folder(context, data)
    folder = attempt.root.path(name)
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
    version.write(folder, learned, facts)
    attempt.root.commit(name)  # if another machine committed first, its version is used
    if not written_before:
        attempt.saved()
    return attempt.registry.versions.add(
        expansion=attempt.expansion.id,
        parent=context.parent,
        language=data.language,
        folder=name,
        manifest_sha256=files.sha256_file(folder / files.MANIFEST),
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
    """The folder of the version that this expansion makes of the language."""
    expansion = context.attempt.expansion
    name = expansion.id if expansion.kind == "learn" else f"{expansion.id}-{data.language}"
    return f"versions/{name}"
