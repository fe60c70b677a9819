"""One language from its data to a registered version: what learning, rebuilding and moving have in common."""

from typing import Any

from model.version import Learned, read
from store.versions import Version
from worker.context import TrainingContext
from worker.evaluate import evaluate
from worker.prepare import TrainingData
from worker.train import package, train


def make_version(context: TrainingContext, data: TrainingData) -> tuple[Learned, Version, dict[str, Any]]:
    """Train, evaluate and package: what was learned, the registered version, and its report."""
    attempt = context.attempt
    with attempt.phase("train"):
        learned = train(context, data)
    with attempt.phase("evaluate"):
        view = context.encoder.extend(context.view, context.parent, data.language, learned)
        report = evaluate(context, data, view, learned)
    with attempt.phase("package"):
        version = package(context, data, learned, report)
        # what is registered is what serves, and an earlier attempt may have written it: from here on only that is used
        learned, _ = read(attempt.root.path(str(version.folder)), version.manifest_sha256)
    return learned, version, report
