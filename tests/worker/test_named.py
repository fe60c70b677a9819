"""Datasets that name pictures by their files: the ids are decided once, whatever becomes of the gallery later."""

import numpy as np

from index.gallery import NewPicture
from tests.worker.harness import Site, attempt_at, pairs
from worker.attempt import open_context
from worker.move import choose_english_to_compare, compare_versions
from worker.prepare import prepare, read_dataset


def by_file(language: str = "cy") -> list[dict[str, str]]:
    return [{**row, "picture": f"{row['picture']}.jpg"} for row in pairs(language, picture=True)]


def put(site: Site, id: str) -> None:
    """One more picture."""
    vector = np.eye(1, site.dimension, dtype=np.float32)[0]
    site.gallery.put([NewPicture(id, f"{10**6:064x}", 64, 64, {}, vector)], site.image_fingerprint)


def test_a_later_attempt_and_a_later_expansion_take_the_same_pictures(site: Site) -> None:
    expansion = site.submit(by_file())
    attempt = attempt_at(site, expansion)
    data = prepare(open_context(attempt), attempt.expansion)
    assert [*data.picture_places] == [f"p{number}" for number in range(100)] and data.report.by_file == 100
    for id in ("p3.jpg", "p4.jpg"):  # by now, pictures have these ids
        put(site, id)
    site.gallery.delete("p4")
    site.abandon(expansion)
    second = attempt_at(site, expansion)
    context = open_context(second)
    assert prepare(context, second.expansion).rows == data.rows
    figures = compare_versions((context, 0), (context, 0), choose_english_to_compare(context, [second.expansion]))
    held_out = {row.picture for row in data.rows if row.split == "val"} - {"p4"}
    assert figures is not None and figures["pairs"] == len(held_out)
    other = attempt_at(site, site.submit(pairs("br"), "br"))
    assert read_dataset(other, second.expansion).rows == data.rows
