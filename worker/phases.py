"""An expansion from its first phase to its last, readable top to bottom. Each phase may be repeated after any crash."""

from dataclasses import replace
from typing import Any

from index.build import build_captions
from model import remote, storage
from model.errors import GateFailed, InvalidInput
from model.registry import Expansion, Version
from model.table import View
from model.version import Learned, read
from worker.evaluate import evaluate
from worker.prepare import Classroom, Lesson, open_classroom, prepare
from worker.promotion import forgotten, keeps_shared, refusal
from worker.teach import package, train
from worker.work import VALIDATION, Work


def run(work: Work) -> None:
    """Carry the expansion on from wherever earlier attempts left it; raises what ends it."""
    if work.expansion.kind == "rebuild":
        rebuild(work)
    else:
        teach(work)


def teach(work: Work) -> None:
    """Teach one language and serve it."""
    if work.expansion.release is not None:  # an attempt died after its language was served: nothing can fail any more
        return _conclude(work, work.expansion.release)
    with work.phase("prepare"):
        room = open_classroom(work)
        lesson = prepare(work, room, work.expansion)
    learned, version, report = _learn(work, room, lesson)
    reason = refusal(report, work.settings.min_recall)
    if reason is not None:
        raise GateFailed(reason, report=report)
    with work.phase("encode"):
        view = room.encoder.extend(room.view, version.number, lesson.language, learned)
        _encode(work, room, lesson, view)
    with work.phase("promote"):
        release = work.registry.releases.promote(
            expansion=work.expansion.id,
            version=version.number,
            move_shared=keeps_shared(report, work.settings.forgetting_budget),
            fence=work.lease.fence,
        )
        storage.fault_point("promote.committed")
        _conclude(work, release.number)


def _conclude(work: Work, release: int) -> None:
    """Say what the promoted version found, and whether the shared table moved to it."""
    served = work.registry.releases.get(release)
    version = work.registry.versions.get(served.languages[work.expansion.language])
    work.succeed(version.number, release, _concluded(version.report, served.shared == version.number))


def rebuild(work: Work) -> None:
    """Teach the shared table again, one after another, the languages that a rollback took from it.

    Each is taught from the dataset of the version that serves it, and goes on being served by that; only `shared`
    moves. Left out is one that would cost the others more than the forgetting budget, or of whose dataset the pictures
    deleted since leave too little.
    """
    with work.phase("prepare"):
        room = open_classroom(work)
        expansions = _replayed(work)
    made, reports, refused = None, {}, {}
    for round_, expansion in enumerate(expansions):
        work.part = (round_, len(expansions))
        with work.phase("prepare"):
            try:
                lesson = prepare(work, room, expansion)
            except InvalidInput as error:
                if "report" not in error.extra:  # not for what its rows are: there is no file
                    raise
                refused[expansion.language] = {"left_out": error.code, "detail": error.detail}
                continue
        learned, version, report = _learn(work, room, lesson)
        keeps = keeps_shared(report, work.settings.forgetting_budget)
        reports[lesson.language] = (report, keeps)
        if keeps:
            made = version
            view = room.encoder.extend(room.view, version.number, version.language, learned)
            room = replace(room, parent=version.number, view=view)
    with work.phase("promote"):
        release = work.registry.releases.serving()
        if made is not None:
            release = work.registry.releases.promote(
                expansion=work.expansion.id, version=made.number, move_shared=True, fence=work.lease.fence
            )
        moved = made is not None and release.shared == made.number
        told = {language: _concluded(report, moved and keeps) for language, (report, keeps) in reports.items()}
        told |= refused
        work.succeed(made.number if made else release.shared, release.number, {"moved": moved, "languages": told})


def _replayed(work: Work) -> list[Expansion]:
    """The expansions that made what is served of the languages to replay, in that order; fixed at the first attempt."""

    def makers() -> list[str | None]:
        served = work.registry.releases.serving().languages
        replayed = [served[tag] for tag in work.expansion.settings["replay"] if tag in served]
        return [work.registry.versions.get(number).expansion for number in replayed]

    return [work.registry.expansions.get(name) for name in work.decided("replay.json", makers)]


def _learn(work: Work, room: Classroom, lesson: Lesson) -> tuple[Learned, Version, dict[str, Any]]:
    with work.phase("train"):
        learned = train(work, room, lesson)
    with work.phase("evaluate"):
        view = room.encoder.extend(room.view, room.parent, lesson.language, learned)
        _bring_validations(work)
        report = evaluate(work, room, lesson, view)
    with work.phase("package"):
        version = package(work, room, lesson, learned, report)
        # what is registered is what serves, and an earlier attempt may have written it: nothing else is used from here
        learned, _ = read(work.settings.home / str(version.folder), version.manifest_sha256)
    return learned, version, report


def _bring_validations(work: Work) -> None:
    """The validation sets that the evaluation will ask for, from the machines that made them."""
    for number in work.registry.releases.serving().languages.values():
        expansion = work.registry.versions.get(number).expansion
        if expansion is not None:
            remote.fetch(work.settings.home / "expansions" / expansion / VALIDATION)


def _encode(work: Work, room: Classroom, lesson: Lesson, view: View) -> None:
    """The captions of the language as its new version reads them, as one generation beside those of older versions."""

    def on_progress(done: int, of: int) -> None:
        work.check()
        work.done(done, of)

    rows = [(row.picture, row.caption) for row in lesson.rows if row.picture is not None]
    room.gallery.add_captions(work.expansion.id, lesson.language, rows)
    build_captions(
        room.encoder, view, room.gallery, work.registry, lesson.language, view.version, work.settings.home, on_progress
    )


def _concluded(report: dict[str, Any], moved: bool) -> dict[str, Any]:
    return {**report, "shared": {**report["shared"], "moved": moved, **forgotten(report)}}
