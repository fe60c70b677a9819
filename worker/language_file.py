"""A language from a file to a release: nothing is trained, but it is measured and served like one that was taught.

It is measured by the gallery's own captions in the language; if these are few, by the test in the file; and without
one, what the file says of itself has to do.
"""

from dataclasses import asdict, replace
from typing import Any

import torch

from model.dataset import DatasetReport
from model.language_file import LanguageFile, attach, open_file, read_test
from model.languages import ENGLISH
from model.table import View
from model.version_files import VersionContent
from store import files
from worker.attempt import Attempt, TrainingContext, open_context
from worker.evaluate import describe, evaluate, measure
from worker.gate import GateFailed, describe_in_sample
from worker.learn import conclude, gate_and_promote, package
from worker.match import encode_held_out
from worker.prepare import TrainingData
from worker.validation import VALIDATION, Validation, choose_validation, decide_validation, encode_candidates

LEAST_OWN = 10  # captions of the gallery by which a language is measured that has a test
_MEASURED_BY = {
    "captions": "was measured by the gallery's own captions",
    "test": "was measured by the test in the file",
    "file": "was not measured here: its figures are its own",
}
_NO_DATASET = DatasetReport("", 0, 0, 0, (), {}, 0, {}, 0, 0, 0.0, 0, 0, 0, ())


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
    name = "" if base is None else base.public_name
    return open_file(
        attempt.fetch_dataset(attempt.expansion), folder, (name, encoder.base_fingerprint), encoder.table.rows.width
    )


def _choose_test(context: TrainingContext, test: dict[str, Any] | None) -> Validation:
    """Choose by what the language is measured: the gallery's own captions, or the file's test if they are few."""
    own = context.attempt.registry.proposals.list_captions(context.attempt.expansion.language)
    if not own or (test is not None and len(own) < LEAST_OWN):
        return Validation(**test) if test is not None else Validation("english", [], [], [])
    return choose_validation("pictures", [(text, picture) for picture, text in own], context.gallery.list_ids())


def _evaluate(context: TrainingContext, content: VersionContent, proof: VersionContent) -> dict[str, Any]:
    """Measure the proof that came with the file; of single words also whether what was taught is found."""
    expansion, nothing = context.attempt.expansion, torch.empty((0, context.encoder.dimension))
    data, settings = (
        TrainingData((expansion,), _NO_DATASET, {ENGLISH: context.base_version}, nothing, nothing),
        expansion.settings,
    )
    validation = decide_validation(context, data)
    report, by = evaluate(context, data, _extend(context, context.proof_view, proof)), "test"
    del report["dataset"]
    if validation.against == "words" and report["pairs"]:
        view, among = _extend(context, context.view, content), encode_candidates(context, data, validation)
        result = measure(context, view, validation, among)
        report["in_sample"] = describe_in_sample(describe(view, validation, among, result))
    if validation.against == "pictures":
        by = "captions"
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
    origin = {
        "measured_by": by,
        "signer": settings["signer"],
        "sentence": f"It came as a file, which {signed}, and {_MEASURED_BY[by]}",
    }
    return {**report, "letters": settings["letters"], "imported": origin}


def _extend(context: TrainingContext, onto: View, content: VersionContent) -> View:
    return context.encoder.extend(onto, context.parent, context.attempt.expansion.language, content)
