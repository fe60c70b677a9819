"""Held-out sets and candidates stay what they were at first."""

import numpy as np
import pytest

from tests.worker.harness import Site, attempt_at, pairs, report_of, teach
from worker.attempt import open_context
from worker.child import run
from worker.prepare import prepare
from worker.validation import encode_candidates, load_validation


@pytest.mark.parametrize("picture", [False, True])
def test_a_table_that_did_not_change_reads_as_on_the_day_it_was_learned(site: Site, picture: bool) -> None:
    """The second dataset brings other English, and the gallery other pictures: the candidates stay the same."""
    first = teach(site, picture=picture)
    assert first.report is not None
    vectors = np.random.default_rng(1).standard_normal((300, 32), dtype=np.float32)
    site.fill("later", vectors / np.linalg.norm(vectors, axis=1, keepdims=True), first=10**6)
    other = [{**row, "english": row["english"].replace("o", "ou")} for row in pairs("br", picture=picture, count=90)]
    attempt = attempt_at(site, site.submit(other, "br"))
    context = open_context(attempt)
    validation = load_validation(attempt.root, first.id)
    assert validation is not None
    among = encode_candidates(context, prepare(context, attempt.expansion), validation)
    assert len(among.places) == first.report["candidates"]
    assert {*among.places} == {*validation.targets, *validation.others}
    run(attempt)
    report = report_of(site, attempt.expansion.id)
    welsh = report["shared"]["languages"]["cy"]
    assert welsh["before"] == welsh["learned"] == first.report["t2i"]
