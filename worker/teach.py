"""Phases `train` and `package`: from a lesson to a version on disk and in the registry. Decides nothing on serving."""

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from model import remote, version
from model.corpus import NONE, Corpus
from model.registry import Version
from model.training import Interrupted, LearnSettings, Progress, learn
from model.version import Learned
from worker.prepare import Classroom, Lesson
from worker.work import Stopped, Work

_LOOK = 10  # steps between looks for a new checkpoint


def train(work: Work, room: Classroom, lesson: Lesson) -> Learned:
    """Learn the lesson on top of the parent, going on from the newest checkpoint, or take what was written already."""
    written = _folder(work, lesson)
    remote.fetch(written)
    if written.exists():  # an attempt that died after its training, here or on another machine
        return version.read(written)[0]
    checkpoints = work.folder / "checkpoints" / lesson.language
    seen = {path.name for path in checkpoints.glob("step-*")}

    def on_step(progress: Progress) -> bool:
        if progress.step % _LOOK == 0 and (new := {path.name for path in checkpoints.glob("step-*")} - seen):
            seen.update(new)
            work.saved()
        work.step(progress.step, progress.steps)
        return work.stopping

    try:
        return learn(room.encoder, room.view, corpus(lesson), checkpoints, _settings(lesson), on_step)
    except Interrupted as error:
        raise Stopped from error


def corpus(lesson: Lesson) -> Corpus:
    """The lesson's training rows as tensors."""
    rows = [row for row in lesson.rows if row.split == "train"]
    none = torch.full((1, lesson.pictures.shape[1]), math.nan)
    english = torch.cat([lesson.english, none])  # -1 picks the row of NaN
    places = [-1 if row.english is None else lesson.english_texts[row.english] for row in rows]
    owner = [NONE if row.picture is None else lesson.picture_ids[row.picture] for row in rows]
    captions = [row.caption for row in rows]
    return Corpus(lesson.language, captions, english[torch.tensor(places)], lesson.pictures, torch.tensor(owner))


def _settings(lesson: Lesson) -> LearnSettings:
    known = {field.name for field in fields(LearnSettings)}
    return LearnSettings(**{name: value for name, value in lesson.expansion.settings.items() if name in known})


def package(work: Work, room: Classroom, lesson: Lesson, learned: Learned, report: Mapping[str, Any]) -> Version:
    """Write the version and register it; the same expansion and language give the same version again."""
    folder, settings = _folder(work, lesson), _settings(lesson)
    facts = {
        "expansion": work.expansion.id,
        "language": lesson.language,
        "parent": room.parent,
        "text_fingerprint": room.encoder.text_fingerprint,
        "dataset_sha256": lesson.expansion.dataset_sha256,
        "tokenizer_sha256": learned.tokenizer_sha256,
        "settings": asdict(settings),
        "bfloat16": settings.halved(room.encoder.base.device),
    }
    written_before = folder.exists()
    manifest_sha256 = version.write(folder, learned, facts)
    if not written_before:
        work.saved()
    return work.registry.versions.add(
        expansion=work.expansion.id,
        parent=room.parent,
        language=lesson.language,
        folder=f"versions/{folder.name}",
        manifest_sha256=manifest_sha256,
        rows=len(learned.rows.ids),
        bytes=sum(file.stat().st_size for file in folder.iterdir()),
        report=dict(report),
        fence=work.lease.fence,
    )


def _folder(work: Work, lesson: Lesson) -> Path:
    """Where the version lies that this expansion makes of the lesson's language."""
    name = work.expansion.id if work.expansion.kind == "learn" else f"{work.expansion.id}-{lesson.language}"
    return work.settings.home / "versions" / name
