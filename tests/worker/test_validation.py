"""What a language is asked stays what it was asked at first."""

import json

import numpy as np
import pytest

from model.base import open_base
from tests.worker.harness import Site, pairs, teach, work_on
from worker.phases import run
from worker.prepare import open_context, prepare
from worker.validation import candidates, kept


@pytest.mark.parametrize("picture", [False, True])
def test_a_table_that_did_not_change_reads_as_on_the_day_it_was_learned(site: Site, picture: bool) -> None:
    """Though the second dataset brings other English, and the gallery other pictures: what is asked among stays."""
    first = teach(site, picture=picture)
    assert first.report is not None
    vectors = np.random.default_rng(1).standard_normal((300, 32), dtype=np.float32)
    for number, vector in enumerate(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)):
        image = open_base(site.base).image_fingerprint
        site.gallery.put(f"later{number}", f"{number + 10**6:064x}", 64, 64, {}, vector, image)
    other = [{**row, "english": row["english"].replace("o", "ou")} for row in pairs("br", picture=picture, count=90)]
    attempt = work_on(site, site.submit(other, "br"))
    context = open_context(attempt)
    asked = kept(attempt, first.id)
    assert asked is not None
    among = candidates(attempt, context, prepare(attempt, context, attempt.expansion), asked)
    assert len(among.places) == first.report["candidates"] and {*among.places} == {*asked.targets, *asked.others}
    run(attempt)
    report = site.registry.expansions.get(attempt.expansion.id).report
    assert report is not None
    welsh = report["shared"]["languages"]["cy"]
    assert welsh["before"] == welsh["learned"] == first.report["t2i"]


def test_a_set_that_kept_no_candidates_is_still_asked(site: Site) -> None:
    """As the first ones did: its language is ranked among its own targets, and no later expansion fails for it."""
    first = teach(site)
    path = site.home / "expansions" / first.id / "validation.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in found.items() if name != "others"}))
    report = teach(site, "br").report
    assert report is not None and "cy" in report["shared"]["languages"]
