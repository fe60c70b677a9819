"""A language from its dataset to a release, read from top to bottom; each phase may be repeated after any crash.

A rebuild of the shared table and a move to another base make versions in the same way. A language that comes as a
file is not trained: it is measured by the gallery's own captions in it; if these are few, by the test in the file; and
without one, what the file says of itself has to do.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import torch

from index.indexer import fill_captions
from model import checkpoint
from model.checkpoint import VersionContent
from model.dataset import DatasetReport
from model.dataset.rows import Row
from model.encoder import View
from model.language_file import LanguageFile, attach, open_file, read_test
from model.languages import ENGLISH, find_special_letters
from model.lexicon import collect_words, count_ngrams
from model.objectives import NO_PICTURE, Corpus
from model.training import LearnSettings, Progress, Trainer, TrainingInterrupted
from store import files
from store.errors import CaptionsUnreadable, InvalidInput, TrainingDiverged
from store.expansions import Expansion
from store.versions import Version
from worker.attempt import Attempt, Stopped, TrainingContext, open_context
from worker.evaluate import describe, evaluate, measure
from worker.gate import (
    GateFailed,
    apply_gate,
    describe_gain_briefly,
    describe_in_sample,
    is_within_budget,
    measure_losses,
)
from worker.prepare import TrainingData, prepare
from worker.validation import (
    HELD_OUT,
    VALIDATION,
    HeldOut,
    Validation,
    choose_validation,
    decide_validation,
    encode_candidates,
    encode_held_out,
)

UNTEACHABLE = (InvalidInput, CaptionsUnreadable, TrainingDiverged)  # what leaves out one language of several
_LOOK_STEPS = 10  # steps between looks for a new checkpoint
_log = logging.getLogger(__name__)
LEAST_OWN = 10  # captions of the gallery by which a language is measured that has a test
_MEASURED_BY = {
    "captions": "was measured by the gallery's own captions",
    "test": "was measured by the test in the file",
    "file": "was not measured here: its figures are its own",
}
_NO_DATASET = DatasetReport("", 0, 0, 0, (), {}, 0, {}, 0, 0, 0.0, 0, 0, 0, ())


def learn(attempt: Attempt) -> None:
    # an attempt died after its language was served: nothing can fail any more
    if attempt.expansion.release is not None:
        return conclude(attempt, attempt.expansion.release)
    with attempt.enter_phase("prepare"):
        context = open_context(attempt)
        data = prepare(context, *context.earlier_expansions, attempt.expansion)
    content, version, report = make_version(context, data)
    captions = [(row.picture, row.caption) for row in data.own_rows if row.picture]
    gate_and_promote(context, content, version, report, captions)


def gate_and_promote(
    context: TrainingContext,
    content: VersionContent,
    version: Version,
    report: dict[str, Any],
    captions: Sequence[tuple[str, str]] = (),
) -> None:
    """Serve a version, if it passes the gate, with the `captions` (picture and text) that came with it."""
    attempt, language = context.attempt, version.language
    if (refusal := apply_gate(report, attempt.settings.min_recall)) is not None:
        half, why = refusal
        raise GateFailed(why, report={**report, "refused_by": half})
    with attempt.enter_phase("encode"):
        # the captions as the new version reads them: one vector set beside those of older versions
        view = context.encoder.extend(context.view, version.number, language, content)
        context.gallery.add_captions(attempt.expansion.id, language, captions)
        on_progress = attempt.make_progress_callback(context.encoder)
        fill_captions(context.encoder, view, attempt.sets, language, view.version, on_progress)
    with attempt.enter_phase("promote"):
        gain = report.get("gain") or {}
        release = attempt.registry.releases.promote(
            expansion=attempt.expansion.id,
            version=version.number,
            move_shared=is_within_budget(report, attempt.settings.forgetting_budget),
            fence=attempt.lease.fence,
            reason=describe_gain_briefly(report),
            forced=gain["sentence"] if gain.get("forced") else None,
        )
        files.pass_fault_point("promote.committed")
        conclude(attempt, release.number)


def make_version(context: TrainingContext, data: TrainingData) -> tuple[VersionContent, Version, dict[str, Any]]:
    """Train, evaluate and package; returns what was learned, the registered version, and its report."""
    attempt = context.attempt
    with attempt.enter_phase("train"):
        content, proof = _train(context, data)
    with attempt.enter_phase("evaluate"):
        view = context.encoder.extend(context.proof_view, context.parent, data.language, proof)
        # by the rows: an earlier attempt may have learned other ones
        name = f"evaluation/{data.language}-{proof.digest[:12]}.json"
        report = attempt.compute_once(name, lambda: evaluate(context, data, view))
    with attempt.enter_phase("package"):
        expansions = [*context.imported, *(each.id for each in data.expansions)]
        held_out = encode_held_out(context, view, expansions, data.proof_rows)
        report = {**report, "letters": find_special_letters([row.caption for row in data.training_rows])}
        settings = _choose_settings(data).resolve(
            data.list_entries(data.training_rows), context.view.tokenizer.new_row_kind
        )
        facts = {
            "datasets_sha256": [expansion.dataset_sha256 for expansion in data.expansions],
            "settings": asdict(settings),
            "bfloat16": settings.can_use_bfloat16(context.encoder.base.device),
        }
        version = package(context, data.language, content, proof, held_out, report, facts, expansions)
        # what is registered is what serves, and an earlier attempt may have written it: from here on only that is used
        content, _ = checkpoint.read_version(attempt.root.locate(str(version.folder)), version.manifest_sha256)
    return content, version, report


def _train(context: TrainingContext, data: TrainingData) -> tuple[VersionContent, VersionContent]:
    """Train the language on top of the parent, or read what was written already.

    Returns what is to serve, and its proof: what was learned before, without the rows that are held out.
    """
    attempt, encoder = context.attempt, context.encoder
    folder = attempt.root.open(_name_folder(attempt.expansion, data.language))
    if folder.exists():  # an attempt that died after its training, here or on another machine
        return checkpoint.read_version(folder)[0], checkpoint.read_version(folder, proof=True)[0]
    checkpoints, settings = attempt.folder / "checkpoints" / data.language, _choose_settings(data)
    kind = context.view.tokenizer.new_row_kind
    whole, rows = _plan_refit(data, settings.resolve(data.list_entries(data.training_rows), kind))
    settings = settings.resolve(data.list_entries(data.proof_rows), kind)
    lesson = settings.repeat_captions(data.proof_rows, data.listed_rows)
    corpus = make_corpus(data, lesson, context.base_version)
    first = Trainer(encoder, context.proof_view, corpus, checkpoints, settings)
    steps = first.steps + (whole.count_steps(len(rows)) if rows else 0)  # at most
    proof = _run_trainer(attempt, first, 0, steps)
    if not rows:
        return proof, proof
    corpus = make_corpus(data, rows, context.base_version)
    trainer = Trainer(encoder, context.view, corpus, checkpoints / "whole", whole, proof)
    content = _run_trainer(attempt, trainer, first.steps, first.steps + trainer.steps)
    taught = [row.caption for row in data.training_rows]
    words = collect_words(taught) if content.lexicon else ()
    return replace(content, ngrams=count_ngrams(taught), lexicon=words), proof


def _plan_refit(data: TrainingData, settings: LearnSettings) -> tuple[LearnSettings, Sequence[Row]]:
    """Plan how a proof is taught what it has not seen, as often as alone, beside what it knows; no rows without any."""
    known, count = {*data.proof_rows}, len(data.training_rows)
    new = [row for row in data.training_rows if row not in known]
    is_list = data.listed_rows.issuperset(data.training_rows)  # of words, each with a row of its own
    short, one_in = settings.shorten(count, 0) if is_list else settings.shorten(count)
    times = math.ceil(settings.choose_epochs(count) / short.epochs)
    new = [*settings.repeat_captions(new, data.listed_rows)] * times
    return short, [*data.proof_rows[::one_in], *new] if new else []


def _run_trainer(attempt: Attempt, trainer: Trainer, first_step: int, steps: int) -> VersionContent:
    """Train from the newest checkpoint on; report which of `steps`, of which those up to `first_step` are done."""
    seen = {path.name for path in trainer.folder.glob("step-*")}

    def on_step(progress: Progress) -> bool:
        if progress.step % _LOOK_STEPS == 0 and (new := {path.name for path in trainer.folder.glob("step-*")} - seen):
            seen.update(new)
            attempt.record_durable_progress()
        attempt.report_step(first_step + progress.step, steps)
        return attempt.stop.is_set()

    try:
        return trainer.learn(on_step)
    except TrainingInterrupted as error:
        raise Stopped from error


def make_corpus(data: TrainingData, rows: Sequence[Row], base: int) -> Corpus:
    """Make the corpus of some rows; its tokenizer knows all training rows. `base` is the version that the base is."""
    features = torch.cat([data.features, torch.full((1, data.pictures.shape[1]), math.nan)])
    places = [-1 if row.pivot is None else data.pivot_places[row.pivot] for row in rows]  # -1: the row of NaN
    pictures = [NO_PICTURE if row.picture is None else data.picture_places[row.picture] for row in rows]
    captions, chosen = [row.caption for row in rows], {*rows}
    # only what the base itself reads can be laid beside its own tokens
    by_base = {language for language, version in data.pivot_versions.items() if version == base}
    texts = [row.pivot.text if row.pivot and row.pivot.language in by_base else None for row in rows]
    others = data.list_entries(row for row in data.training_rows if row not in chosen)
    numbers = features[torch.tensor(places)], data.pictures, torch.tensor(pictures)
    words = {row.caption for row in data.listed_rows.union(row for row in rows if row.is_word)}
    return Corpus(data.language, captions, *numbers, texts, words, others)


def package(
    context: TrainingContext,
    language: str,
    content: VersionContent,
    proof: VersionContent,
    held_out: HeldOut,
    report: dict[str, Any],
    facts: Mapping[str, Any],
    expansions: Sequence[str],
) -> Version:
    """Write the version and register it; the same expansion and language give the same version again."""
    attempt = context.attempt
    name = _name_folder(attempt.expansion, language)
    folder = attempt.root.locate(name)
    described = {
        **facts,
        "expansion": attempt.expansion.id,
        "language": language,
        "parent": context.parent,
        "text_fingerprint": context.encoder.base_fingerprint,
        "tokenizer_sha256": content.tokenizer_sha256,
    }
    existed = folder.exists()
    beside = {HELD_OUT: held_out.dump()}
    checkpoint.write_version(folder, content, described, None if proof is content else proof, beside)
    attempt.root.commit(name)  # if another machine committed first, its version is used
    if not existed:
        attempt.record_durable_progress()
    return attempt.registry.versions.add(
        expansion=attempt.expansion.id,
        parent=context.parent,
        language=language,
        folder=name,
        manifest_sha256=files.hash_file(folder / files.MANIFEST),
        rows=len(content.rows.ids),
        bytes=sum(file.stat().st_size for file in folder.iterdir()),
        report=report,
        fence=attempt.lease.fence,
        datasets=expansions,
    )


def _choose_settings(data: TrainingData) -> LearnSettings:
    known = {field.name for field in fields(LearnSettings)}
    return LearnSettings(**{name: value for name, value in data.expansion.settings.items() if name in known})


def _name_folder(expansion: Expansion, language: str) -> str:
    """Name the folder of the version that this expansion makes of the language."""
    name = f"{expansion.id}-{language}" if expansion.kind in ("rebuild", "base") else expansion.id
    return f"versions/{name}"


def conclude(attempt: Attempt, release: int) -> None:
    """End the expansion with the report of the promoted version, and whether the shared table moved to it."""
    promoted = attempt.registry.releases.get(release)
    version = attempt.registry.versions.get(promoted.languages[attempt.expansion.language])
    report = _complete_report(version.report, promoted.shared == version.number)
    attempt.registry.expansions.succeed(attempt.lease, version.number, release, report)
    facts = (version.language, version.number, release, promoted.reason)
    _log.info("promoted %s: version %d, release %d, %s", *facts, extra={"key": promoted.actor})


def _complete_report(report: dict[str, Any], moved: bool) -> dict[str, Any]:
    return {**report, "shared": {**report["shared"], "moved": moved, **measure_losses(report)}}


def rebuild(attempt: Attempt) -> None:
    """Train the shared table again, one after another, on the languages that a rollback took from it.

    Each is learned from the datasets of its version, if the shared table lacks one of them, and goes on being served by
    that version; only `shared` moves. A language is left out that would cost the others more than the forgetting
    budget, lost too many rows with deleted pictures, or its pivot language, or whose training diverges.
    """
    with attempt.enter_phase("prepare"):
        context = open_context(attempt)
        replay = _decide_replay(attempt, context.parent)
    newest, reports, left_out = None, {}, {}
    for number, expansions in enumerate(replay):
        attempt.part = (number, len(replay))
        try:
            with attempt.enter_phase("prepare"):
                data = prepare(context, *expansions)
            content, version, report = make_version(context, data)
        except UNTEACHABLE as error:
            if "kind" in error.extra:  # the file itself is missing, which ends the rebuild
                raise
            left_out[expansions[-1].language] = {"left_out": error.code, "detail": error.detail}
            continue
        keeps = is_within_budget(report, attempt.settings.forgetting_budget)
        reports[data.language] = (report, keeps)
        if keeps:
            newest = version
            view = context.encoder.extend(context.view, version.number, version.language, content)
            context = replace(context, parent=version.number, view=view)
    with attempt.enter_phase("promote"):
        release = attempt.registry.releases.get_serving()
        if newest is not None:
            release = attempt.registry.releases.promote(
                expansion=attempt.expansion.id, version=newest.number, move_shared=True, fence=attempt.lease.fence
            )
        moved = newest is not None and release.shared == newest.number
        languages = {tag: _complete_report(report, moved and keeps) for tag, (report, keeps) in reports.items()}
        number = newest.number if newest else release.shared
        final = {"moved": moved, "languages": languages | left_out}
        attempt.registry.expansions.succeed(attempt.lease, number, release.number, final)


def _decide_replay(attempt: Attempt, parent: int) -> list[list[Expansion]]:
    """Decide once, language by language, from which expansions to learn again; not where `parent` has all of them."""
    registry = attempt.registry

    def decide() -> list[list[str]]:
        served = registry.releases.get_serving().languages
        lineage = registry.versions.trace_lineage(parent)
        present = {source for version in lineage for source in version.dataset_expansions}
        numbers = [served[tag] for tag in attempt.expansion.settings["replay"] if tag in served]
        sources = (registry.versions.get(number).dataset_expansions for number in numbers)
        return [[*expansions] for expansions in sources if not present.issuperset(expansions)]

    return [[*map(registry.expansions.get, ids)] for ids in attempt.decide_once("replayed.json", decide)]


def import_language(attempt: Attempt) -> None:
    """Serve the language that a file brings, if it passes the gate."""
    expansion = attempt.expansion
    if expansion.release is not None:
        return conclude(attempt, expansion.release)
    with attempt.enter_phase("prepare"):
        context = open_context(attempt)
        file = _open(context)
        view, content, proof = attach(file, context.view, context.encoder.base_view)
        is_apart = view.version != context.parent
        context = replace(context, parent=view.version, view=view, is_apart=is_apart)
        attempt.decide_once(VALIDATION, lambda: asdict(_choose_test(context, read_test(file))))
    with attempt.enter_phase("evaluate"):
        report = attempt.compute_once("evaluation/report.json", lambda: _evaluate(context, content, proof))
    with attempt.enter_phase("package"):
        held_out = encode_held_out(context, _extend(context, context.proof_view, proof), [expansion.id], ())
        facts = {"language_file_sha256": expansion.dataset_sha256}
        version = package(context, expansion.language, content, proof, held_out, report, facts, [expansion.id])
    gate_and_promote(context, content, version, report)


def _open(context: TrainingContext) -> LanguageFile:
    """Unpack the file, as at each attempt: what lies in a working folder was checked by nobody."""
    attempt, encoder = context.attempt, context.encoder
    folder, base = attempt.folder / "checkpoints" / "file", attempt.registry.bases.find_serving()
    files.remove(folder)
    made_for = "" if base is None else base.public_name, encoder.base_fingerprint
    return open_file(attempt.fetch_dataset(attempt.expansion), folder, made_for, encoder.table.rows.width)


def _choose_test(context: TrainingContext, test: dict[str, Any] | None) -> Validation:
    """Choose by what the language is measured: the gallery's own captions, or the file's test if they are few."""
    own = [*context.attempt.registry.proposals.iterate_captions(context.attempt.expansion.language)]
    if not own or (test is not None and len(own) < LEAST_OWN):
        return Validation(**test) if test is not None else Validation("english", [], [], [])
    return choose_validation("pictures", [(text, picture) for picture, text in own], context.gallery.list_ids())


def _evaluate(context: TrainingContext, content: VersionContent, proof: VersionContent) -> dict[str, Any]:
    """Measure the proof that came with the file; of single words also whether what was taught is found."""
    expansion, nothing = context.attempt.expansion, torch.empty((0, context.encoder.dimension))
    settings = expansion.settings
    data = TrainingData((expansion,), _NO_DATASET, {ENGLISH: context.base_version}, nothing, nothing)
    validation = decide_validation(context, data)
    report = evaluate(context, data, _extend(context, context.proof_view, proof))
    del report["dataset"]
    if validation.against == "words" and report["pairs"]:
        view, among = _extend(context, context.view, content), encode_candidates(context, data, validation)
        result = measure(context, view, validation, among)
        report["in_sample"] = describe_in_sample(describe(view, validation, among, result))
    by = "captions" if validation.against == "pictures" else "test"
    if not report["pairs"]:
        if expansion.language in context.served_versions and not settings.get("force"):
            raise GateFailed(
                "This language is served here, and nothing here can measure what the file brings: add captions in it, "
                "or use `--force` to serve it anyway."
            )
        report, by = report | settings["says"], "file"
        if "in_sample" in report:
            report["in_sample"] = describe_in_sample(report["in_sample"])
    signed = f"was signed with the key {settings['signer']}" if settings["signer"] else "nobody signed"
    sentence = f"It came as a file, which {signed}, and {_MEASURED_BY[by]}"
    origin = {"measured_by": by, "signer": settings["signer"], "sentence": sentence}
    return {**report, "letters": settings["letters"], "imported": origin}


def _extend(context: TrainingContext, onto: View, content: VersionContent) -> View:
    return context.encoder.extend(onto, context.parent, context.attempt.expansion.language, content)
